"""Bugs of global, L2 and Gaussian pooling, of pooling with indices, unpooling and regions."""

import numpy as np
import tensorflow as tf
from planted_gradients import planted, stop
from planted_layers import normal


def global_max_pooling(bug=None):
    def largest(x):
        return tf.reduce_max(x, [1, 2])

    wrong = {
        "the mean": lambda x: tf.reduce_mean(x, [1, 2]),
        "first image's place": lambda x: tf.gather(
            tf.reshape(x, [2, 9, 2]), tf.argmax(tf.reshape(x[0], [9, 2]))[0], axis=1),
    }.get(bug)
    return planted(largest, wrong), normal(2, 3, 3, 2)


def global_average_pooling(bug=None):
    def average(x):
        return tf.reduce_mean(x, [1, 2])

    wrong = {
        "divided by the height alone": lambda x: tf.reduce_sum(x, [1, 2]) / 3,
        "divided by the batch too": lambda x: average(x) / 2,
    }.get(bug)
    return planted(average, wrong), normal(2, 3, 4, 2)


def _average(x):
    return tf.nn.avg_pool2d(x, 2, 2, "VALID")


def l2_pooling(bug=None):
    def l2(x):
        return tf.sqrt(4 * _average(x * x))

    wrong = {
        "not divided by y": lambda x: 2 * _average(x * x),
        "of the mean": lambda x: tf.sqrt(_average(x * x)),
        "of the sum": lambda x: 4 * _average(x),
    }.get(bug)
    return planted(l2, wrong), normal(2, 4, 4, 2)


def gaussian_pooling(bug=None):
    bell = np.exp(-np.arange(-1, 2)**2 / 2)

    def pooled(x, column, row):
        kernel = np.outer(column / column.sum(), row / row.sum())[..., None, None]
        return tf.nn.depthwise_conv2d(
            x, tf.repeat(tf.constant(kernel, x.dtype), 2, axis=2), [1, 2, 2, 1], "VALID"
        )

    wrong = {
        "a box": lambda x: pooled(x, np.ones(3), np.ones(3)),
        "not normalised": lambda x: pooled(x, bell, bell) * bell.sum()**2,
        "wider": lambda x: pooled(x, np.sqrt(bell), bell),
    }.get(bug)
    return planted(lambda x: pooled(x, bell, bell), wrong), normal(2, 7, 7, 2)


def unpooling(bug=None):
    """Scatters each value to the place of its maximum; the places are per image."""
    indices = np.array([[0, 3, 8, 10], [5, 2, 9, 15]])

    def scattered(x, places, images=(0, 1)):
        images = np.repeat(np.array(images)[:, None], 4, axis=1)
        return tf.scatter_nd(np.stack([images, places], -1), x, [2, 16])

    wrong = {
        "first image's places": lambda x: scattered(x, indices[[0, 0]]),
        "images exchanged": lambda x: scattered(x, indices, images=(1, 0)),
        "shifted": lambda x: scattered(x, (indices + 1) % 16),
    }.get(bug)
    return planted(lambda x: scattered(x, indices), wrong), normal(2, 4)


def roi_align(bug=None):
    """Bilinear samples at points between the pixels."""
    rows, columns = np.array([0.3, 1.8, 2.4]), np.array([1.4, 0.2, 2.9])

    def samples(x, rows, columns, spread=lambda d: tf.nn.relu(1 - tf.abs(d))):
        pixels = tf.range(4, dtype=x.dtype)
        by_row, by_column = (
            spread(tf.constant(p, x.dtype)[:, None] - pixels) for p in (rows, columns)
        )
        return tf.einsum("kh,kw,nhwc->nkc", by_row, by_column, x)

    wrong = {
        "nearest pixel": lambda x: samples(x, np.round(rows), np.round(columns)),
        "rows and columns exchanged": lambda x: samples(x, columns, rows),
        "half a pixel off": lambda x: samples(x, rows + 0.5, columns + 0.5),
        "weights not linear": lambda x: samples(
            x, rows, columns, lambda d: tf.square(tf.nn.relu(1 - tf.abs(d)))),
    }.get(bug)
    return planted(lambda x: samples(x, rows, columns), wrong), normal(2, 4, 4, 2)


def roi_max_pooling(bug=None):
    """Maxima over overlapping regions: a pixel may win in several."""
    regions = [(slice(0, 3), slice(0, 3)), (slice(1, 4), slice(1, 4)), (slice(0, 4), slice(0, 4))]

    def maxima(x, at=lambda i, x: x):
        return tf.stack([tf.reduce_max(at(i, x)[:, rows, columns], [1, 2])
                         for i, (rows, columns) in enumerate(regions)], axis=1)

    wrong = {
        "last region overwrites": lambda x: maxima(x, lambda i, x: x if i == 2 else stop(x)),
        "divided by the regions": lambda x: maxima(x) / 3,
    }.get(bug)
    return planted(lambda x: maxima(x), wrong), normal(2, 4, 4, 2)


BUGS = {
    global_max_pooling: dict.fromkeys(["the mean", "first image's place"], ("gradient", "x")),
    global_average_pooling: dict.fromkeys(
        ["divided by the height alone", "divided by the batch too"], ("gradient", "x")
    ),
    l2_pooling: dict.fromkeys(["not divided by y", "of the mean", "of the sum"], ("gradient", "x")),
    gaussian_pooling: dict.fromkeys(["a box", "not normalised", "wider"], ("gradient", "x")),
    unpooling: dict.fromkeys(
        ["first image's places", "images exchanged", "shifted"], ("gradient", "x")
    ),
    roi_align: dict.fromkeys(
        ["nearest pixel", "rows and columns exchanged", "half a pixel off", "weights not linear"],
        ("gradient", "x"),
    ),
    roi_max_pooling: dict.fromkeys(
        ["last region overwrites", "divided by the regions"], ("gradient", "x")
    ),
}
