"""One table of all layers and losses: arguments and input shape of small examples.

`handgrad check` and the tests run over it, so that a layer that is not in it is not checked.
"""

from dataclasses import dataclass

import numpy as np

import custom_layers


@dataclass(frozen=True)
class Example:
    """A layer (or loss) with arguments, and the shape of its input, batch included."""

    name: str
    shape: tuple
    arguments: dict

    def layer(self, **more):
        return getattr(custom_layers, self.name)(**self.arguments, **more)

    def __str__(self):
        arguments = ",".join(f"{k}={v}" for k, v in self.arguments.items())
        return f"{self.name}({arguments})".replace(" ", "")


def _example(name, *shape, **arguments):
    return Example(name, shape, arguments)


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
]

LOSSES = [
    _example("SoftmaxCrossEntropy", 4, 5),
    _example("SigmoidCrossEntropy", 4, 5),
    _example("HalfSquares", 4, 5),
]


def spread(shape, seed=0, dtype="float64"):
    """Values in random order, evenly spread over +-(0.1 .. 2).

    Distinct and away from 0, so that no pooling window has a tie and no ReLU stands at its kink.
    """
    n = int(np.prod(shape))
    magnitudes = np.linspace(0.11, 1.97, n)
    signs = np.where(np.arange(n) % 2, 1.0, -1.0)
    return np.random.default_rng(seed).permutation(magnitudes * signs).reshape(shape).astype(dtype)
