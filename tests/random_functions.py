"""Random functions whose gradients are TensorFlow's own, for the tests of the gradient checker."""

import numpy as np
import tensorflow as tf


def random_function(seed):
    """(function, inputs): up to three layers deep, of random shapes, strides, scales and dtypes."""
    generator = np.random.default_rng(seed)
    images = generator.random() < 0.4
    shape = _shape(generator, 4 if images else 2)
    x = generator.normal(size=shape) * _scale(generator)
    inputs, links = [x], []
    for _ in range(generator.integers(1, 4)):
        kinds = _IMAGE if x.ndim == 4 else _MATRIX
        link, weights = kinds[generator.integers(len(kinds))](generator, x)
        links.append((link, len(inputs), len(inputs) + len(weights)))
        inputs += weights
        x = link(tf.constant(x), *map(tf.constant, weights)).numpy()
    dtypes = ["float16", "float32", "float64", "float64"]
    inputs = [_as(generator.choice(dtypes), tensor) for tensor in inputs]

    def function(x, *weights):
        for link, start, stop in links:
            x = link(x, *weights[start - 1:stop - 1])
        return x

    return function, inputs


def _as(dtype, x):
    narrow = x.astype(dtype)
    return narrow if np.all(np.isfinite(narrow)) else x


def _shape(generator, rank):
    return tuple(int(n) for n in generator.integers(1, 6, size=rank))


def _scale(generator):
    return 10.0 ** generator.uniform(-3, 3)


def _weight(generator, *shape):
    return generator.normal(size=shape) * _scale(generator) / np.sqrt(shape[0])


def _plain(function):
    return lambda generator, x: (function, [])


def _dense(generator, x):
    units = int(generator.integers(1, 5))
    return lambda x, w, b: x @ w + b, [
        _weight(generator, x.shape[1], units), _weight(generator, units)
    ]


def _multiply(generator, x):
    return lambda x, w: x * w, [_weight(generator, x.shape[-1])]


def _convolution(generator, x):
    size, stride = (int(n) for n in generator.integers(1, 4, size=2))
    padding = "SAME" if size > min(x.shape[1:3]) else str(generator.choice(["SAME", "VALID"]))
    kernel = _weight(generator, size, size, x.shape[3], int(generator.integers(1, 4)))
    return lambda x, w: tf.nn.conv2d(x, w, stride, padding), [kernel]


def _pooling(pool):
    def build(generator, x):
        size, stride = (int(n) for n in generator.integers(1, 4, size=2))
        return lambda x: pool(x, size, stride, "SAME"), []

    return build


def _normalise(x):
    axes = list(range(x.shape.rank - 1))
    mean, variance = tf.nn.moments(x, axes, keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 1e-3)


def _largest(x):
    return tf.reduce_max(x, -1, keepdims=True)


def _larger_of_two(x):
    return tf.maximum(x, 0.1 * tf.reverse(x, [-1]))


def _softsign(x):
    return x / (1 + tf.abs(x))


def _first_twice(x):
    return tf.gather(x, [0, 0], axis=0)


def _joined(x):
    return tf.concat([x, 2 * x], -1)


def _mean_of_image(x):
    return tf.reduce_mean(x, [1, 2])


_ANY = [_multiply] + [_plain(function) for function in (
    tf.nn.relu, tf.nn.leaky_relu, tf.sigmoid, tf.tanh, tf.nn.softmax, tf.nn.silu, tf.nn.softplus,
    tf.nn.log_softmax, tf.square, tf.abs, tf.transpose, tf.sort, tf.math.asinh, _normalise,
    _largest, _larger_of_two, _softsign, _first_twice, _joined,
)]
_MATRIX = _ANY + 4 * [_dense]
_IMAGE = _ANY + 4 * [_convolution] + [
    _pooling(tf.nn.max_pool2d), _pooling(tf.nn.avg_pool2d),
    _plain(_mean_of_image),
]
