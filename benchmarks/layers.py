"""Each layer beside its stock twin: forward, forward and backward, in a plain graph and in XLA."""

import keras
import numpy as np
import tensorflow as tf

import custom_layers
from benchmarks.timing import compare

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
] + [("MaxPooling2D", {"pool_size": 2, "algorithm": "winners"}, shape) for shape in (SMALL, LARGE)]


def measure(name, arguments, shape, jit):
    """{"forward": (ours, stock), "forward + backward": (ours, stock)} in seconds."""
    stock_arguments = {k: v for k, v in arguments.items() if k != "algorithm"}
    layers = {
        "ours": getattr(custom_layers, name)(**arguments),
        "stock": getattr(keras.layers, name)(**stock_arguments),
    }
    several = isinstance(shape[0], tuple)
    xs = [tf.random.stateless_normal(s, (1, 2)) for s in (shape if several else (shape,))]
    x = xs if several else xs[0]
    result = {}
    passes = {label: {} for label in ("forward", "forward + backward")}
    for side, layer in layers.items():
        layer.build(shape)
        training = {"training": True} if layer._call_has_training_arg else {}
        dy = tf.random.stateless_normal(layer.compute_output_shape(shape), (3, 4))

        def forward(x, layer=layer, training=training):
            return layer(x, **training)

        def backward(x, dy, layer=layer, training=training):
            weights = [v.value for v in layer.trainable_variables]
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, **training)
            return y, tape.gradient(y, [x, weights], dy)

        forward, backward = (tf.function(f, jit_compile=jit) for f in (forward, backward))
        passes["forward"][side] = lambda f=forward: _wait(f(x))
        passes["forward + backward"][side] = lambda f=backward, dy=dy: _wait(f(x, dy))
    for label, functions in passes.items():
        times = compare(functions)
        result[label] = (times["ours"], times["stock"])
    return result


def size(shape):
    """128x14x14x16, or 2 of 128x14x14x16."""
    if isinstance(shape[0], tuple):
        return f"{len(shape)} of {size(shape[0])}"
    return "x".join(map(str, shape))


def _wait(values):
    for value in tf.nest.flatten(values):
        np.asarray(value)


def rows(table=LAYERS):
    """One row a layer, size and mode: names, then milliseconds and ratios."""
    for name, arguments, shape in table:
        for mode, jit in (("graph", False), ("XLA", True)):
            for label, (ours, stock) in measure(name, arguments, shape, jit).items():
                title = f"{name} {arguments.get('algorithm', '')}".strip()
                yield (title, size(shape), mode, label,
                       f"{ours * 1e3:.2f}", f"{stock * 1e3:.2f}", f"{ours / stock:.2f}")
