"""One table of all layers and losses: arguments and input shape of small examples.

`handgrad check` and the tests run over it, so that a layer that is not in it is not checked.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import custom_layers


@dataclass(frozen=True)
class Example:
    """A layer (or loss) with arguments, and the shape of its input, batch included.

    Of a layer that takes a list of inputs, `shape` is a tuple of their shapes. `ids` says that
    the input are integers below it; `others` makes from an input the further arguments of the
    call (indices, regions), which have no gradient and bear the names `constants`.
    """

    name: str
    shape: tuple
    arguments: dict
    ids: int | None = None
    others: Callable | None = None
    constants: tuple = ()

    def layer(self, **more):
        return getattr(custom_layers, self.name)(**self.arguments, **more)

    def inputs(self, batch=None, seed=0):
        """The arguments of a call, as arrays; `batch` instead of the example's own batch size."""
        several = isinstance(self.shape[0], tuple)
        shapes = [s if batch is None else (batch, *s[1:])
                  for s in (self.shape if several else (self.shape,))]
        if self.ids is not None:
            x = np.random.default_rng(seed).integers(0, self.ids, shapes[0], "int32")
        else:
            x = spread(shapes, seed) if several else spread(shapes[0], seed)
        return (x, *(self.others(x) if self.others else ()))

    def check(self, **settings):
        """The report of `check_gradients` on it."""
        from custom_layers.gradient_check import check_gradients

        inputs = list(self.inputs())
        if self in LOSSES:
            inputs = [np.abs(spread(self.shape, seed=1)) / 2, *inputs]
        return check_gradients(self.layer(), inputs, skip=self.constants, **settings)

    def __str__(self):
        arguments = ",".join(f"{k}={v}" for k, v in self.arguments.items())
        return f"{self.name}({arguments})".replace(" ", "")


def _example(name, *shape, **arguments):
    return Example(name, shape, arguments)


def _regions(name, *shape, **arguments):
    """Of a layer of regions: a large one, one inside, one that ends outside the image."""
    def regions(x):
        rois = np.array([[0.3, 0.2, 6.9, 5.8], [1.6, 2.3, 4.7, 5.1], [4.2, 1.4, 9.4, 4.3]])
        return (np.broadcast_to(rois, (len(x), 3, 4)).copy(),)

    return Example(name, shape, arguments, others=regions, constants=("rois",))


def _unpooling(*shape, **arguments):
    def indices(x):
        """As pooling 2 x 2 windows has them: the winner is another corner each time."""
        n, h, w, c = x.shape
        corner = np.arange(x.size).reshape(x.shape) % 4
        rows, columns = np.meshgrid(2 * np.arange(h), 2 * np.arange(w), indexing="ij")
        rows, columns = rows[..., None] + corner // 2, columns[..., None] + corner % 2
        return (rows * 2 * w + columns,)

    return Example("MaxUnpooling2D", shape, arguments, others=indices, constants=("indices",))


FIRST = "channels_first"

LAYERS = [
    _example("Dense", 4, 7, units=5),
    _example("Dense", 4, 7, units=5, activation="relu", use_bias=False),
    _example("Dense", 2, 3, 7, units=5, activation="tanh"),
    _example("Dense", 4, 7, units=5, activation="sigmoid"),
    _example("Dense", 4, 7, units=5, activation="softmax"),
    _example("Dense", 4, 7, units=5, activation="elu"),
    _example("Conv1D", 2, 9, 4, filters=3, kernel_size=3, padding="causal", dilation_rate=2),
    _example("Conv1D", 2, 9, 4, filters=6, kernel_size=3, strides=2, padding="same", groups=2),
    _example("Conv1D", 2, 4, 9, filters=3, kernel_size=2, data_format=FIRST),
    _example("Conv2D", 2, 7, 8, 4, filters=3, kernel_size=3, activation="relu"),
    _example("Conv2D", 2, 7, 8, 4, filters=3, kernel_size=(3, 2), strides=(2, 3), padding="same",
             activation="leaky_relu"),
    _example("Conv2D", 2, 7, 8, 4, filters=3, kernel_size=3, padding=((1, 2), (0, 1)), strides=2),
    _example("Conv2D", 2, 7, 8, 4, filters=3, kernel_size=3, dilation_rate=2, padding="same"),
    _example("Conv2D", 2, 7, 8, 4, filters=6, kernel_size=3, groups=2, use_bias=False),
    _example("Conv2D", 2, 4, 7, 8, filters=3, kernel_size=3, data_format=FIRST),
    _example("Conv2D", 2, 7, 8, 4, filters=3, kernel_size=3, strides=2, algorithm="im2col"),
    _example("Conv2D", 2, 7, 8, 4, filters=3, kernel_size=3, dilation_rate=(2, 1), padding="same",
             algorithm="im2col"),
    _example("Conv2D", 2, 5, 6, 2, filters=3, kernel_size=3, strides=2, padding="same",
             algorithm="toeplitz"),
    _example("Conv2D", 2, 5, 6, 2, filters=2, kernel_size=2, dilation_rate=2, groups=2,
             algorithm="toeplitz"),
    _example("Conv2D", 2, 7, 8, 4, filters=3, kernel_size=(3, 2), strides=2, padding="same",
             algorithm="fft"),
    _example("MaxPooling2D", 2, 6, 8, 3),
    _example("MaxPooling2D", 2, 7, 9, 3, algorithm="winners"),
    _example("MaxPooling2D", 2, 7, 9, 3, pool_size=3, strides=2, padding="same"),
    _example("MaxPooling2D", 2, 7, 9, 3, pool_size=3, strides=2, padding="same",
             algorithm="winners"),
    _example("MaxPooling2D", 2, 3, 7, 9, pool_size=(2, 3), data_format=FIRST, algorithm="native"),
    _example("AveragePooling2D", 2, 6, 8, 3, pool_size=2),
    _example("AveragePooling2D", 2, 7, 9, 3, pool_size=3, strides=2, padding="same"),
    _example("AveragePooling2D", 2, 3, 7, 9, pool_size=2, data_format=FIRST),
    _example("GlobalAveragePooling2D", 2, 5, 6, 3),
    _example("GlobalAveragePooling2D", 2, 3, 5, 6, data_format=FIRST, keepdims=True),
    _example("BatchNormalization", 5, 4, 3, 2),
    _example("BatchNormalization", 8, 4, center=False),
    _example("BatchNormalization", 5, 2, 4, 3, axis=1, scale=False),
    _example("Dropout", 4, 9, rate=0.4, seed=1),
    _example("Dropout", 4, 3, 5, rate=0.4, noise_shape=(None, 1, 5), seed=1),
    _example("Dropout", 4, 9, rate=0.4, seed=1, scale_at="inference"),
    _example("Flatten", 2, 3, 4, 2),
    _example("Flatten", 2, 3, 4, 2, data_format=FIRST),
    _example("ReLU", 4, 9),
    _example("ReLU", 4, 9, max_value=1.0, negative_slope=0.1, threshold=0.2),
    _example("LeakyReLU", 4, 9, negative_slope=0.3),
    _example("Sigmoid", 4, 9),
    _example("Tanh", 4, 9),
    _example("Softmax", 4, 9),
    _example("Softmax", 4, 3, 5, axis=(1, 2)),
    _example("Step", 4, 9),
    _example("SiLU", 4, 9),
    _example("GELU", 4, 9),
    _example("GELU", 4, 9, approximate=True),
    _example("ScaledTanh", 4, 9),
    _example("ScaledTanh", 4, 9, amplitude=2.0, slope=0.4),
    _example("Dense", 4, 7, units=5, activation="gelu"),
    _example("Conv2D", 2, 5, 6, 2, filters=3, kernel_size=3, activation="silu"),
    _example("LayerNormalization", 4, 9),
    _example("LayerNormalization", 3, 4, 5, 2, axis=(1, 2, 3), center=False),
    _example("LayerNormalization", 3, 4, 5, 2, axis=(-3, -1)),
    _example("LayerNormalization", 3, 4, 5, axis=1, scale=False),
    _example("GroupNormalization", 3, 4, 5, 6, groups=3),
    _example("GroupNormalization", 3, 6, 4, 5, groups=2, axis=1, scale=False),
    _example("GroupNormalization", 3, 5, 4, groups=-1, center=False),
    _example("GroupNormalization", 3, 8, groups=2),
    _example("LocalResponseNormalization", 2, 3, 4, 7),
    _example("LocalResponseNormalization", 2, 3, 4, 7, k=1.0, n=3, alpha=0.5, beta=0.6),
    _example("LocalResponseNormalization", 2, 7, 3, 4, alpha=0.2, data_format=FIRST),
    _example("Add", (3, 4, 5), (3, 4, 5), (3, 4, 5)),
    _example("Add", (3, 4, 5), (3, 1, 5), (3, 5)),
    _example("Multiply", (3, 4, 5), (3, 4, 5)),
    _example("Multiply", (3, 4, 2, 5), (3, 1, 1, 5), (3, 4, 1, 1)),
    _example("Concatenate", (3, 4, 5), (3, 4, 2), (3, 4, 1)),
    _example("Concatenate", (3, 4, 5), (3, 2, 5), axis=1),
    _example("ZeroPadding2D", 2, 4, 5, 3),
    _example("ZeroPadding2D", 2, 3, 4, 5, padding=((0, 2), (1, 0)), data_format=FIRST),
    _example("Cropping2D", 2, 4, 5, 3, cropping=1),
    _example("Cropping2D", 2, 3, 4, 5, cropping=((0, 2), (1, 0)), data_format=FIRST),
    _example("Reshape", 2, 3, 4, 2, target_shape=(6, 4)),
    _example("Reshape", 2, 3, 4, 2, target_shape=(2, -1, 3)),
    _example("Rescaling", 2, 4, 5, 3, scale=0.5, offset=-1.0),
    _example("Rescaling", 2, 4, 3, scale=[0.5, 1.0, 2.0], offset=[0.0, 1.0, 2.0]),
    _example("SpatialDropout2D", 3, 4, 5, 6, rate=0.4, seed=1),
    _example("SpatialDropout2D", 3, 6, 4, 5, rate=0.4, seed=1, data_format=FIRST),
    _example("RBF", 4, 6, units=3, codes=((1, -1, 1, -1, 1, 1), (-1, 1, 1, 1, -1, 1),
                                          (1, 1, -1, -1, -1, 1))),
    _example("RBF", 4, 6, units=5, fixed=False),
    _example("RBF", 2, 3, 6, units=5, fixed=False, codes_initializer="ones"),
    _example("DepthwiseConv2D", 2, 7, 8, 3, kernel_size=3, depth_multiplier=2, activation="relu"),
    _example("DepthwiseConv2D", 2, 7, 8, 3, kernel_size=(3, 2), strides=2, padding="same"),
    _example("DepthwiseConv2D", 2, 7, 8, 3, kernel_size=3, strides=2, dilation_rate=(2, 1),
             padding="same", use_bias=False),
    _example("DepthwiseConv2D", 2, 3, 7, 8, kernel_size=3, data_format=FIRST),
    _example("SeparableConv2D", 2, 7, 8, 3, filters=4, kernel_size=3, depth_multiplier=2),
    _example("SeparableConv2D", 2, 7, 8, 3, filters=4, kernel_size=3, dilation_rate=2,
             padding="same"),
    _example("SeparableConv2D", 2, 3, 7, 8, filters=4, kernel_size=3, strides=2,
             data_format=FIRST),
    _example("Conv2DTranspose", 2, 4, 5, 3, filters=2, kernel_size=3, strides=2, padding="same",
             activation="relu"),
    _example("Conv2DTranspose", 2, 4, 5, 3, filters=2, kernel_size=(3, 2), strides=(3, 2),
             output_padding=(2, 1)),
    _example("Conv2DTranspose", 2, 4, 5, 3, filters=2, kernel_size=3, dilation_rate=2,
             padding="same", use_bias=False),
    _example("Conv2DTranspose", 2, 3, 4, 5, filters=2, kernel_size=4, strides=2,
             data_format=FIRST),
    _example("UpSampling2D", 2, 3, 4, 3),
    _example("UpSampling2D", 2, 3, 4, 3, size=(2, 3), interpolation="bilinear"),
    _example("UpSampling2D", 2, 3, 4, 3, size=(3, 2), interpolation="bicubic"),
    _example("UpSampling2D", 2, 3, 4, 5, interpolation="bilinear", data_format=FIRST),
    _example("SparseConv2D", 2, 7, 8, 3, table=((0, 1), (2,), (0, 1, 2), (2, 0)), kernel_size=3,
             activation="tanh"),
    _example("SparseConv2D", 2, 3, 7, 8, table=((0, 2), (1,)), kernel_size=(3, 2), strides=2,
             padding="same", data_format=FIRST, use_bias=False),
    _example("LearnedCombination2D", 2, 7, 8, 3, filters=4, kernel_size=3, activation="tanh"),
    _example("LearnedCombination2D", 2, 3, 7, 8, filters=2, kernel_size=3, strides=2,
             padding="same", sparsity=0.1, data_format=FIRST),
    _example("GlobalMaxPooling2D", 2, 5, 6, 3),
    _example("GlobalMaxPooling2D", 2, 3, 5, 6, data_format=FIRST, keepdims=True),
    _example("GlobalAveragePooling1D", 2, 5, 3),
    _example("GlobalAveragePooling1D", 2, 3, 5, data_format=FIRST, keepdims=True),
    _example("L2Pooling2D", 2, 6, 8, 3),
    _example("L2Pooling2D", 2, 7, 9, 3, pool_size=3, strides=2, padding="same"),
    _example("L2Pooling2D", 2, 3, 7, 9, pool_size=(2, 3), data_format=FIRST),
    _example("GaussianPooling2D", 2, 7, 9, 3, strides=2),
    _example("GaussianPooling2D", 2, 7, 9, 3, pool_size=(3, 2), strides=(2, 1), padding="same",
             sigma=0.7),
    _example("GaussianPooling2D", 2, 3, 7, 9, pool_size=3, padding="same", data_format=FIRST),
    _example("Subsampling2D", 2, 6, 8, 3, activation="tanh"),
    _example("Subsampling2D", 2, 7, 9, 3, pool_size=(3, 2), strides=2, padding="same"),
    _example("Subsampling2D", 2, 3, 7, 9, data_format=FIRST),
    _example("SpatialPyramidPooling2D", 2, 7, 9, 3),
    _example("SpatialPyramidPooling2D", 2, 3, 5, 6, levels=(1, 3), data_format=FIRST),
    _example("LSTM", 3, 5, 4, units=6, seed=1),
    _example("LSTM", 3, 5, 4, units=3, return_sequences=True, go_backwards=True, use_bias=False,
             seed=1),
    _example("LSTM", 3, 4, 4, units=3, recurrent_activation="hard_sigmoid", unroll=True, seed=1),
    _example("GRU", 3, 5, 4, units=6, seed=1),
    _example("GRU", 3, 5, 4, units=3, return_sequences=True, reset_after=False, seed=1),
    _example("GRU", 3, 5, 4, units=3, go_backwards=True, use_bias=False, seed=1),
    Example("Embedding", (3, 4), {"input_dim": 6, "output_dim": 5}, ids=6),
    Example("Embedding", (3,), {"input_dim": 6, "output_dim": 2}, ids=6),
    _example("MaxPoolingWithIndices2D", 2, 6, 8, 3),
    _example("MaxPoolingWithIndices2D", 2, 7, 9, 3, pool_size=3, strides=2, padding="same"),
    _example("MaxPoolingWithIndices2D", 2, 3, 7, 9, pool_size=(2, 3), data_format=FIRST),
    _unpooling(2, 3, 4, 3),
    _regions("RoIPooling", 2, 7, 8, 3, output_size=(2, 3)),
    _regions("RoIPooling", 2, 7, 8, 3, output_size=2, spatial_scale=0.7),
    _regions("RoIAlign", 2, 7, 8, 3, output_size=(2, 3)),
    _regions("RoIAlign", 2, 3, 7, 8, output_size=2, sampling_ratio=1, aligned=False,
             data_format=FIRST),
]

LOSSES = [
    _example("SoftmaxCrossEntropy", 4, 5),
    _example("SoftmaxCrossEntropy", 4, 5, label_smoothing=0.1),
    _example("SoftmaxJaccard", 4, 5),
    _example("SoftmaxJaccard", 2, 3, 4, 5, jaccard=0.5, label_smoothing=0.1),
    _example("SigmoidCrossEntropy", 4, 5),
    _example("HalfSquares", 4, 5),
    _example("MaximumAPosteriori", 4, 5, j=1.0),
    _example("MaximumAPosteriori", 4, 5, j=1.0, from_logits=True),
    # A guard this large keeps the logarithm's argument positive for the outputs of the table.
    _example("CrossEntropy", 4, 5, delta=2.5),
    _example("NegativeLogLikelihood", 4, 5, from_logs=True),
    _example("SmoothL1", 4, 5, delta=0.7),
    _example("SigmoidFocalCrossEntropy", 4, 5),
    _example("SigmoidFocalCrossEntropy", 4, 5, alpha=None, gamma=1.5),
]


def spread(shape, seed=0, dtype="float64"):
    """Values in random order, evenly spread over +-(0.1 .. 2).

    Distinct and away from 0, so that no pooling window has a tie and no ReLU stands at its kink.
    Of several shapes, a list of such arrays.
    """
    if shape and isinstance(shape[0], (tuple, list)):
        return [spread(s, seed + 10 * i, dtype) for i, s in enumerate(shape)]
    n = int(np.prod(shape))
    magnitudes = np.linspace(0.11, 1.97, n)
    signs = np.where(np.arange(n) % 2, 1.0, -1.0)
    return np.random.default_rng(seed).permutation(magnitudes * signs).reshape(shape).astype(dtype)
