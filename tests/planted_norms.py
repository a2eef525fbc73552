"""Bugs of layer, group and local response normalisation."""

import tensorflow as tf
from planted_gradients import planted, stop
from planted_layers import normal


def _normalised(x, axes, mean_of=lambda m: m, variance_of=lambda v: v):
    mean = mean_of(tf.reduce_mean(x, axes, keepdims=True))
    variance = variance_of(tf.reduce_mean((x - mean)**2, axes, keepdims=True))
    return (x - mean) * tf.math.rsqrt(variance + 1e-3)


def layer_norm(bug=None):
    def layer_norm(x, gamma, beta):
        return gamma * _normalised(x, -1) + beta

    wrong = {
        "variance constant": lambda x, g, b: g * _normalised(x, -1, variance_of=stop) + b,
        "mean constant": lambda x, g, b: g * _normalised(x, -1, mean_of=stop) + b,
        "over the batch": lambda x, g, b: g * _normalised(x, 0) + b,
        "gamma by x": lambda x, g, b: stop(g) * _normalised(x, -1) + g * stop(x) + b,
        "beta of one row": lambda x, g, b: g * _normalised(x, -1) + tf.concat(
            [tf.repeat(b[None], 1, 0), tf.repeat(stop(b)[None], 3, 0)], 0),
        "epsilon outside the root": lambda x, g, b: g * _normalised(
            x, -1, variance_of=lambda v: (tf.sqrt(v) + 1e-3)**2 - 1e-3) + b,
    }.get(bug)
    return planted(layer_norm, wrong), [normal(4, 5), normal(5), normal(5, seed=1)]


def group_norm(bug=None):
    def groups(x, **settings):
        return tf.reshape(_normalised(tf.reshape(x, [3, 4, 2, 3]), [1, 3], **settings), [3, 4, 6])

    def interleaved(x):
        y = _normalised(tf.reshape(x, [3, 4, 3, 2]), [1, 2])
        return tf.reshape(y, [3, 4, 6])

    wrong = {
        "groups interleaved": interleaved,
        "one group": lambda x: _normalised(x, [1, 2]),
        "each channel alone": lambda x: _normalised(x, 1),
        "variance constant": lambda x: groups(x, variance_of=stop),
    }.get(bug)
    return planted(lambda x: groups(x), wrong), normal(3, 4, 6)


def local_response(bug=None):
    def response(x, before=1, after=1, scale_of=lambda s: s, beta=0.75):
        padded = tf.pad(x * x, [[0, 0], [before, after]])
        near = sum(padded[:, i:i + 5] for i in range(before + after + 1))
        return x * scale_of(1 + 0.5 * near)**-beta

    wrong = {
        "neighbours forgotten": lambda x: response(x, scale_of=stop),
        "window of one side": lambda x: response(x, before=2, after=0),
        "own channel alone": lambda x: x * (1 + 0.5 * x * x + stop(1 + 0.5 * (
            tf.pad(x * x, [[0, 0], [1, 1]])[:, :5] + tf.pad(x * x, [[0, 0], [1, 1]])[:, 2:])
            - 1))**-0.75,
        "exponent one": lambda x: response(x, beta=1.0),
    }.get(bug)
    return planted(lambda x: response(x), wrong), normal(4, 5)


BUGS = {
    layer_norm: {
        "variance constant": ("gradient", "x"),
        "mean constant": ("gradient", "x"),
        "over the batch": ("gradient", "x"),
        "gamma by x": ("gradient", "gamma"),
        "beta of one row": ("gradient", "beta"),
        "epsilon outside the root": ("gradient", "x"),
    },
    group_norm: dict.fromkeys(
        ["groups interleaved", "one group", "each channel alone", "variance constant"],
        ("gradient", "x"),
    ),
    local_response: dict.fromkeys(
        ["neighbours forgotten", "window of one side", "own channel alone", "exponent one"],
        ("gradient", "x"),
    ),
}
