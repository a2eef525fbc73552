"""Bugs of smooth activations, of merging, cropping, reshaping, embedding and spatial dropout."""

import numpy as np
import tensorflow as tf
from planted_gradients import planted, stop
from planted_layers import normal


def silu(bug=None):
    def silu(x):
        return x * tf.sigmoid(x)

    wrong = {
        "sigmoid constant": lambda x: x * stop(tf.sigmoid(x)),
        "x constant": lambda x: stop(x) * tf.sigmoid(x),
        "of a softplus": tf.nn.softplus,
    }.get(bug)
    return planted(silu, wrong), normal(4, 5)


def gelu(bug=None):
    def gelu(x):
        return x * (1 + tf.math.erf(x / np.sqrt(2))) / 2

    wrong = {
        "the approximation's": lambda x: tf.nn.gelu(x, approximate=True),
        "density forgotten": lambda x: x * stop(1 + tf.math.erf(x / np.sqrt(2))) / 2,
        "root of two forgotten": lambda x: x * (1 + tf.math.erf(x)) / 2,
    }.get(bug)
    return planted(gelu, wrong), normal(4, 5)


def scaled_tanh(bug=None):
    def scaled(x, amplitude=1.7159, slope=2 / 3):
        return amplitude * tf.tanh(slope * x)

    wrong = {
        "slope forgotten": lambda x: stop(scaled(x)) + 1.5 * scaled(x),
        "amplitude forgotten": lambda x: scaled(x, amplitude=1.0),
        "slope of another place": lambda x: scaled(x, 1.7159 / 1.5, 1.0),
    }.get(bug)
    return planted(lambda x: scaled(x), wrong), normal(4, 5)


def add(bug=None):
    """Three tensors that broadcast: what is spread forwards is summed backwards."""
    def add(a, b, c):
        return a + b + c

    wrong = {
        "averaged where it broadcasts": lambda a, b, c: a + b / 4 + c,
        "one row alone": lambda a, b, c: a + tf.pad(b[None], [[0, 3], [0, 0]]) + c,
        "scalar forgotten": lambda a, b, c: a + b + stop(c),
    }.get(bug)
    return planted(add, wrong), [normal(4, 3), normal(3), normal(4, 1)]


def multiply(bug=None):
    def multiply(a, b, c):
        return a * b * c

    wrong = {
        "by its own factor": lambda a, b, c: a**2 * c / 2 + b * stop(a * c),
        "last factor forgotten": lambda a, b, c: a * b * stop(c / c) + c * stop(a * b),
        "sum for product": lambda a, b, c: a + b + c,
    }.get(bug)
    return planted(multiply, wrong), [normal(4, 3), normal(3), normal(4, 1)]


def concatenate(bug=None):
    def joined(a, b):
        return tf.concat([a, b], -1)

    wrong = {
        "pieces exchanged": lambda a, b: joined(b, a),
        "rows exchanged": lambda a, b: joined(a, tf.reverse(b, [0])),
        "second forgotten": lambda a, b: joined(a, 0 * b),
    }.get(bug)
    return planted(joined, wrong), [normal(4, 3), normal(4, 3, seed=1)]


def zero_padding(bug=None):
    def padded(x, top=1, left=2):
        return tf.pad(x, [[0, 0], [top, 2 - top], [left, 2 - left]])

    wrong = {
        "at the other side": lambda x: padded(x, left=0),
        "height for width": lambda x: padded(x, 2, 1),
    }.get(bug)
    return planted(lambda x: padded(x), wrong), normal(2, 3, 3)


def cropping(bug=None):
    wrong = {
        "the other border": lambda x: x[:, :3, :3],
        "the border's too": lambda x: tf.nn.avg_pool2d(x[..., None], 2, 1, "VALID")[..., 0],
    }.get(bug)
    return planted(lambda x: x[:, 1:, 1:], wrong), normal(2, 4, 4)


def reshape(bug=None):
    wrong = {
        "column by column": lambda x: tf.reshape(tf.transpose(x, [0, 2, 1]), [2, 12]),
        "batch moved": lambda x: tf.reshape(tf.transpose(x, [1, 0, 2]), [2, 12]),
    }.get(bug)
    return planted(lambda x: tf.reshape(x, [2, 12]), wrong), normal(2, 3, 4)


def embedding(bug=None):
    ids = np.array([1, 3, 1, 0, 1])
    first = np.array([1, 1, 0, 1, 0])[:, None]  # the first time that each id is met

    def looked_up(table):
        return tf.gather(table, ids)

    wrong = {
        "duplicates lost": lambda t: looked_up(t) * first,
        "duplicates averaged": lambda t: looked_up(t) / np.array([3, 1, 3, 1, 3.0])[:, None],
        "shifted by one": lambda t: tf.gather(t, (ids + 1) % 4),
        "in order of the batch": lambda t: tf.gather(t, np.sort(ids)),
    }.get(bug)
    return planted(looked_up, wrong), normal(4, 3)


def spatial_dropout(bug=None):
    def dropped(x, seed, shape=(2, 1, 1, 3), scale=2.0):
        keep = tf.random.stateless_uniform(shape, seed, dtype=tf.float32) > 0.5
        return tf.where(keep, x * scale, 0)

    wrong = {
        "a mask for each element": lambda x, s: dropped(x, s, (2, 4, 4, 3)),
        "a mask for the batch": lambda x, s: dropped(x, s, (1, 1, 1, 3)),
        "not scaled": lambda x, s: dropped(x, s, scale=1.0),
    }.get(bug)
    return planted(lambda x, seed: dropped(x, seed), wrong), [normal(2, 4, 4, 3), np.array([3, 2])]


BUGS = {
    silu: dict.fromkeys(["sigmoid constant", "x constant", "of a softplus"], ("gradient", "x")),
    gelu: dict.fromkeys(
        ["the approximation's", "density forgotten", "root of two forgotten"], ("gradient", "x")
    ),
    scaled_tanh: dict.fromkeys(
        ["slope forgotten", "amplitude forgotten", "slope of another place"], ("gradient", "x")
    ),
    add: {
        "averaged where it broadcasts": ("gradient", "b"),
        "one row alone": ("gradient", "b"),
        "scalar forgotten": ("missing", "c"),
    },
    multiply: {
        "by its own factor": ("gradient", "a"),
        "last factor forgotten": ("gradient", "a"),
        "sum for product": ("gradient", "c"),
    },
    concatenate: {
        "pieces exchanged": ("gradient", "a"),
        "rows exchanged": ("gradient", "b"),
        "second forgotten": ("gradient", "b"),
    },
    zero_padding: dict.fromkeys(["at the other side", "height for width"], ("gradient", "x")),
    cropping: dict.fromkeys(["the other border", "the border's too"], ("gradient", "x")),
    reshape: dict.fromkeys(["column by column", "batch moved"], ("gradient", "x")),
    embedding: dict.fromkeys(
        ["duplicates lost", "duplicates averaged", "shifted by one", "in order of the batch"],
        ("gradient", "table"),
    ),
    spatial_dropout: dict.fromkeys(
        ["a mask for each element", "a mask for the batch", "not scaled"], ("gradient", "x")
    ),
}
