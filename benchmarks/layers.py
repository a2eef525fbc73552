"""Each layer beside its stock twin: forward, forward and backward, in a plain graph and in XLA."""

import keras
import numpy as np
import tensorflow as tf

import custom_layers
from benchmarks.memory import kept_bytes, shown, training
from benchmarks.timing import columns, compare
from custom_layers import MaxPoolingWithIndices2D
from custom_layers.sparse_convolution import LENET_C3

PASSES = ("forward", "forward + backward")
SMALL, LARGE = (128, 14, 14, 16), (64, 32, 32, 32)
LAYERS = [
    ("Dense", {"units": 128, "activation": "relu"}, (128, 256)),
    ("Dense", {"units": 512, "activation": "relu"}, (512, 1024)),
    ("Conv1D", {"filters": 32, "kernel_size": 5, "padding": "same"}, (64, 128, 16)),
    ("Conv1D", {"filters": 64, "kernel_size": 5, "padding": "same"}, (64, 512, 32)),
    ("LSTM", {"units": 64}, (32, 20, 32)),
    ("LSTM", {"units": 128, "return_sequences": True}, (64, 50, 64)),
    ("GRU", {"units": 64}, (32, 20, 32)),
    ("GRU", {"units": 128, "return_sequences": True}, (64, 50, 64)),
    ("Embedding", {"input_dim": 1000, "output_dim": 32}, (32, 20)),
    ("Embedding", {"input_dim": 20_000, "output_dim": 128}, (64, 200)),
    ("GlobalAveragePooling1D", {}, (64, 128, 16)),
    ("GlobalAveragePooling1D", {}, (64, 512, 32)),
    ("Conv2DTranspose", {"filters": 32, "kernel_size": 4, "strides": 2, "padding": "same"},
     (128, 7, 7, 16)),
    ("Conv2DTranspose", {"filters": 32, "kernel_size": 4, "strides": 2, "padding": "same"},
     (64, 16, 16, 32)),
] + [
    (name, arguments, shape)
    for name, arguments in [
        ("Conv2D", {"filters": 32, "kernel_size": 3, "padding": "same", "activation": "relu"}),
        ("DepthwiseConv2D", {"kernel_size": 3, "padding": "same"}),
        ("SeparableConv2D", {"filters": 32, "kernel_size": 3, "padding": "same"}),
        ("UpSampling2D", {"interpolation": "nearest"}),
        ("UpSampling2D", {"interpolation": "bilinear"}),
        ("MaxPooling2D", {"pool_size": 2}),
        ("AveragePooling2D", {"pool_size": 2}),
        ("GlobalAveragePooling2D", {}),
        ("GlobalMaxPooling2D", {}),
        ("BatchNormalization", {}),
        ("Dropout", {"rate": 0.5}),
        ("Flatten", {}),
        ("ReLU", {}),
        ("LeakyReLU", {}),
        ("Softmax", {}),
        ("LayerNormalization", {}),
        ("GroupNormalization", {"groups": 8}),
        ("SpatialDropout2D", {"rate": 0.5}),
        ("ZeroPadding2D", {"padding": 1}),
        ("Cropping2D", {"cropping": 1}),
        ("Reshape", {"target_shape": (-1,)}),
        ("Rescaling", {"scale": 1 / 255}),
    ]
    for shape in (SMALL, LARGE)
] + [
    (name, {}, (shape, shape))
    for name in ("Add", "Multiply", "Concatenate")
    for shape in (SMALL, LARGE)
]
ALGORITHMS = [
    ("Conv2D", {"filters": 32, "kernel_size": 3, "padding": "same", "algorithm": algorithm}, shape)
    for algorithm in ("im2col", "toeplitz")
    for shape in (SMALL, LARGE) if algorithm == "im2col" or shape == SMALL
] + [
    ("Conv2D", {"filters": 64, "kernel_size": 7, "padding": "same", "algorithm": "fft"}, shape)
    for shape in ((2, 120, 160, 64), (16, 32, 32, 64))
] + [("MaxPooling2D", {"pool_size": 2, "algorithm": "winners"}, shape) for shape in (SMALL, LARGE)]


class RoICrops(keras.layers.Layer):
    """TensorFlow's own kernel for regions: one bilinear sample a bin of 7 x 7."""

    def call(self, images, rois):
        n, r, _ = rois.shape
        corners = tf.reshape(tf.gather(rois, (1, 0, 3, 2), axis=2), (-1, 4))
        crops = tf.image.crop_and_resize(images, corners / images.shape[1],
                                         tf.repeat(tf.range(n), r), (7, 7))
        return tf.reshape(crops, (n, r, 7, 7, -1))


def activation(name):
    return lambda: keras.layers.Activation(name)


# With the layer of Keras that is nearest, and gives an output as large.
WITHOUT_TWIN = [
    ("Sigmoid", {}, LARGE, activation("sigmoid")),
    ("Tanh", {}, LARGE, activation("tanh")),
    ("SiLU", {}, LARGE, activation("silu")),
    ("GELU", {}, LARGE, activation("gelu")),
    ("ScaledTanh", {}, LARGE, activation("tanh")),
    ("Step", {}, LARGE, keras.layers.ReLU),
    ("RBF", {"units": 10}, (128, 84), lambda: keras.layers.Dense(10)),
    ("LocalResponseNormalization", {}, LARGE, keras.layers.LayerNormalization),
    ("Subsampling2D", {}, LARGE, lambda: keras.layers.AveragePooling2D(2)),
    ("L2Pooling2D", {}, LARGE, lambda: keras.layers.AveragePooling2D(2)),
    ("GaussianPooling2D", {"strides": 2}, LARGE,
     lambda: keras.layers.AveragePooling2D(3, strides=2)),
    ("MaxPoolingWithIndices2D", {}, LARGE, keras.layers.MaxPooling2D),
    ("MaxUnpooling2D", {}, (64, 16, 16, 32), keras.layers.UpSampling2D),
    ("SpatialPyramidPooling2D", {}, LARGE, lambda: keras.layers.MaxPooling2D(8)),
    ("RoIPooling", {"output_size": 7}, (2, 32, 32, 64), RoICrops),
    ("RoIAlign", {"output_size": 7}, (2, 32, 32, 64), RoICrops),
    ("SparseConv2D", {"table": LENET_C3, "kernel_size": 5}, (128, 14, 14, 6),
     lambda: keras.layers.Conv2D(16, 5)),
    ("LearnedCombination2D", {"filters": 32, "kernel_size": 3, "padding": "same"}, LARGE,
     lambda: keras.layers.SeparableConv2D(32, 3, padding="same")),
]

REASONS = """\
Above 3: SpatialPyramidPooling2D pools the image three times, its neighbour once, and keeps a byte a
bin instead of the image. RoIPooling looks at every pixel of a bin and RoIAlign at four points,
their neighbour (TensorFlow's `crop_and_resize`, one kernel) at one."""


def inputs_of(name, arguments, shape):
    """The arguments of a call, as tensors."""
    if isinstance(shape[0], tuple):
        return ([tf.random.stateless_normal(s, (1, i)) for i, s in enumerate(shape)],)
    if name == "Embedding":
        return (tf.random.stateless_uniform(shape, (1, 2), 0, arguments["input_dim"], tf.int32),)
    x = tf.random.stateless_normal(shape, (1, 2))
    if name == "MaxUnpooling2D":
        return MaxPoolingWithIndices2D()(
            tf.random.stateless_normal((shape[0], 2 * shape[1], 2 * shape[2], shape[3]), (1, 2)))
    if name.startswith("RoI"):  # 128 regions an image, up to half of it high and wide
        corner = tf.random.stateless_uniform((shape[0], 128, 2), (5, 6), 0, shape[1] / 2)
        size = tf.random.stateless_uniform((shape[0], 128, 2), (7, 8), 1, shape[1] / 2 - 1)
        return x, tf.concat([corner, corner + size], 2)
    return (x,)


def measure(name, arguments, shape, jit, stock=None):
    """The times of each pass, and the bytes kept, of "ours" and of "stock".

    Without `stock`, a function that makes the layer beside ours, that is Keras's of its name.
    """
    inputs = inputs_of(name, arguments, shape)
    own = {k: v for k, v in arguments.items() if k != "algorithm"}
    layers = {"ours": getattr(custom_layers, name)(**arguments),
              "stock": stock() if stock else getattr(keras.layers, name)(**own)}
    passes, kept = {label: {} for label in PASSES}, {}
    for side, layer in layers.items():
        # MaxUnpooling2D's neighbour takes no indices. Of a pair (y, indices), y is differentiated.
        given = inputs[:1] if side == "stock" and name == "MaxUnpooling2D" else inputs
        y = tf.nest.flatten(layer(*given))[0]
        dy = tf.random.stateless_normal(y.shape, (3, 4))
        settings = training(layer)

        def forward(*inputs, layer=layer, settings=settings):
            return tf.nest.flatten(layer(*inputs, **settings))[0]

        def backward(dy, *inputs, forward=forward, layer=layer):
            xs = [x for x in tf.nest.flatten(inputs[0]) if x.dtype.is_floating]
            weights = [v.value for v in layer.trainable_variables]
            with tf.GradientTape() as tape:
                tape.watch(xs)
                y = forward(*inputs)
            return y, tape.gradient(y, [xs, weights], dy)

        run, run_back = (tf.function(f, jit_compile=jit) for f in (forward, backward))
        passes["forward"][side] = lambda f=run, x=given: _wait(f(*x))
        passes["forward + backward"][side] = lambda f=run_back, x=given, dy=dy: _wait(f(dy, *x))
        kept[side] = kept_bytes(layer, given, jit)
    return {label: compare(functions, seconds=1.0) for label, functions in passes.items()}, kept


def size(shape):
    """128x14x14x16, or 2 of 128x14x14x16."""
    if isinstance(shape[0], tuple):
        return f"{len(shape)} of {size(shape[0])}"
    return "x".join(map(str, shape))


def _wait(values):
    for value in tf.nest.flatten(values, expand_composites=True):
        np.asarray(value)


def rows(table=LAYERS, modes=("graph", "XLA")):
    """One row a layer, size and mode: names, milliseconds, ratios and bytes kept."""
    for name, arguments, shape, *stock in table:
        for mode in modes:
            times, kept = measure(name, arguments, shape, mode == "XLA", *stock)
            title = f"{name} {arguments.get('algorithm', arguments.get('interpolation', ''))}"
            yield (title.strip(), size(shape), mode, columns(times["forward"])[2],
                   *columns(times["forward + backward"]),
                   shown(kept["ours"]), shown(kept["stock"]))
