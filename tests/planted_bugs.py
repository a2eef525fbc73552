"""Small right ops and the bugs planted in them, for the tests of the gradient checker.

Each builder takes the name of a bug, or None, and returns (target, inputs). The arithmetic of
an op is written once and bent in one place, so that the bug is all that a check can complain of.
`BUGS` says for each what a check must report: (kind of failure, tensor). `OPTIONS` says what a
check must be asked for. Here are the basic ops; each `planted_*.py` beside it holds a family.
"""

import numpy as np
import planted_convolutions
import planted_elementwise
import planted_losses
import planted_modes
import planted_norms
import planted_pooling
import planted_recurrent
import tensorflow as tf
from planted_layers import (
    average_pooling, batch_norm, checked_dense, conv2d, dense, dropout, layer, max_pooling, normal,
    tied_max_pooling,
)

from custom_layers.gradient import differentiable


def relu(bug=None):
    @differentiable
    def op(x):
        def backward(dy):
            if bug == "wrong side":
                return tf.where(x < 0, dy, 0)
            if bug == "passes everything":
                return dy
            if bug == "threshold at 1":
                return tf.where(x > 1, dy, 0)
            return tf.where(x > 0, dy, 0)

        return tf.nn.relu(x), backward

    return op, normal(4, 5)


def leaky_relu(bug=None):
    @differentiable
    def op(x):
        def backward(dy):
            if bug == "slope at the wrong side":
                return tf.where(x > 0, 0.1 * dy, dy)
            if bug == "slope squared":
                return tf.where(x > 0, dy, 0.01 * dy)
            if bug == "slope missing":
                return tf.where(x > 0, dy, 0)
            return tf.where(x > 0, dy, 0.1 * dy)

        return tf.nn.leaky_relu(x, 0.1), backward

    return op, normal(4, 5)


def sigmoid(bug=None):
    @differentiable
    def op(x):
        y = tf.sigmoid(x)

        def backward(dy):
            if bug == "1 + y":
                return dy * y * (1 + y)
            if bug == "derivative of tanh":
                return dy * (1 - y * y)
            if bug == "x for y":
                return dy * x * (1 - x)
            return dy * y * (1 - y)

        return y, backward

    return op, normal(4, 5)


def tanh(bug=None):
    @differentiable
    def op(x):
        y = tf.tanh(x)

        def backward(dy):
            return dy * (1 - y if bug == "not squared" else 1 - y * y)

        return y, backward

    return op, normal(4, 5)


def softmax(bug=None):
    @differentiable
    def op(x):
        y = tf.nn.softmax(x)

        def backward(dy):
            if bug == "diagonal only":
                return dy * y * (1 - y)
            if bug == "no sum":
                return dy * y
            if bug == "sum over the batch":
                return y * (dy - tf.reduce_sum(dy * y, 0, keepdims=True))
            return y * (dy - tf.reduce_sum(dy * y, -1, keepdims=True))

        return y, backward

    return op, normal(4, 5)


def softmax_cross_entropy(bug=None):
    @differentiable
    def op(logits, labels):
        n, classes = logits.shape
        targets, y = tf.one_hot(labels, classes, dtype=logits.dtype), tf.nn.softmax(logits)

        def backward(dy):
            if bug == "not averaged":
                return dy * (y - targets), None
            if bug == "targets forgotten":
                return dy * y / n, None
            if bug == "sign":
                return dy * (targets - y) / n, None
            if bug == "dy forgotten":
                return (y - targets) / n, None
            if bug == "divided by the classes":
                return dy * (y - targets) / classes, None
            return dy * (y - targets) / n, None

        return -tf.reduce_mean(tf.reduce_sum(targets * tf.nn.log_softmax(logits), -1)), backward

    return op, [normal(4, 5), np.array([0, 3, 3, 4])]


def sigmoid_cross_entropy(bug=None):
    @differentiable
    def op(logits, targets):
        y, n = tf.sigmoid(logits), logits.shape[0]

        def backward(dy):
            dx, dt = dy * (y - targets) / n, -dy * logits / n
            if bug == "times y (1 - y)":
                dx *= y * (1 - y)
            if bug == "targets' sign":
                dt = -dt
            return dx, dt

        losses = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)
        return tf.reduce_sum(losses) / n, backward

    return op, [normal(4, 3), normal(4, 3, seed=1)]


def half_squares(bug=None):
    @differentiable
    def op(y, t):
        def backward(dy):
            d = dy * (y - t) * (2 if bug == "no half" else 1)
            return d, d if bug == "both the same" else -d

        return tf.reduce_sum((y - t) ** 2) / 2, backward

    return op, [normal(4, 3), normal(4, 3, seed=1)]


def two_outputs(bug=None):
    @differentiable
    def op(x):
        def backward(dsin, dcos):
            if bug == "second ignored":
                dcos = tf.zeros_like(dcos)
            if bug == "outputs swapped":
                dsin, dcos = dcos, dsin
            return dsin * tf.cos(x) - dcos * tf.sin(x)

        return (tf.sin(x), tf.cos(x)), backward

    return op, normal(4, 5)


BUGS = {
    dense: {
        "sign": ("gradient", "x"),
        "factor 2": ("gradient", "w"),
        "factor 1/2": ("gradient", "w"),
        "averaged over the batch": ("gradient", "w"),
        "transposed": ("gradient", "w"),
        "exchanged": ("gradient", "x"),
        "bias over the wrong axis": ("gradient", "b"),
        "bias not summed": ("shape", "b"),
        "one element wrong": ("gradient", "x"),
        "one weight wrong": ("gradient", "w"),
        "last row zero": ("gradient", "x"),
        "wrong for negative inputs": ("gradient", "x"),
        "wrong for large inputs": ("gradient", "x"),
        "wrong in graphs": ("gradient", "w"),
        "dy ignored": ("nonlinear", "x"),
        "dy averaged": ("gradient", "x"),
        "dy clipped": ("nonlinear", "x"),
        "zero": ("gradient", "w"),
        "none": ("missing", "w"),
        "nan": ("nan", "w"),
        "wrong shape": ("shape", "w"),
        "wrong dtype": ("dtype", "w"),
        "too few": ("exception", "all"),
        "raises": ("exception", "all"),
        "not deterministic": ("random", "w"),
        "random": ("random", "w"),
    },
    checked_dense: {
        "sign": ("gradient", "x"),
        "wrong shape": ("exception", "all"),
        "wrong dtype": ("exception", "all"),
        "too few": ("exception", "all"),
    },
    conv2d: {
        "kernel flipped": ("gradient", "x"),
        "stride ignored": ("gradient", "x"),
        "padding off by one": ("gradient", "x"),
        "height and width swapped": ("gradient", "w"),
        "channels swapped": ("gradient", "w"),
        "kernel gradient flipped": ("gradient", "w"),
        "averaged over positions": ("gradient", "w"),
        "first channel only": ("gradient", "w"),
    },
    relu: dict.fromkeys(
        ["wrong side", "passes everything", "threshold at 1"], ("gradient", "x")
    ),
    leaky_relu: dict.fromkeys(
        ["slope at the wrong side", "slope squared", "slope missing"], ("gradient", "x")
    ),
    sigmoid: dict.fromkeys(["1 + y", "derivative of tanh", "x for y"], ("gradient", "x")),
    tanh: {"not squared": ("gradient", "x")},
    softmax: dict.fromkeys(["diagonal only", "no sum", "sum over the batch"], ("gradient", "x")),
    max_pooling: dict.fromkeys(["the loser wins", "the mean"], ("gradient", "x")),
    tied_max_pooling: {"every winner takes all": ("gradient", "x")},
    average_pooling: dict.fromkeys(
        ["not divided", "divided by 2", "to one element"], ("gradient", "x")
    ),
    batch_norm: {
        "no mean term": ("gradient", "x"),
        "no variance term": ("gradient", "x"),
        "unbiased count": ("gradient", "x"),
        "gamma forgotten": ("gradient", "x"),
        "gamma by x": ("gradient", "gamma"),
        "beta averaged": ("gradient", "beta"),
    },
    dropout: dict.fromkeys(
        ["stale seed", "mask not scaled", "mask inverted", "not masked"], ("gradient", "x")
    ),
    softmax_cross_entropy: {
        "not averaged": ("gradient", "logits"),
        "targets forgotten": ("gradient", "logits"),
        "sign": ("gradient", "logits"),
        "dy forgotten": ("nonlinear", "logits"),
        "divided by the classes": ("gradient", "logits"),
    },
    sigmoid_cross_entropy: {
        "times y (1 - y)": ("gradient", "logits"),
        "targets' sign": ("gradient", "targets"),
    },
    half_squares: {"no half": ("gradient", "y"), "both the same": ("gradient", "t")},
    two_outputs: dict.fromkeys(["second ignored", "outputs swapped"], ("gradient", "x")),
    layer: {
        "statistics moved twice": ("state", "moving_mean"),
        "seed drawn again": ("state", "seed_generator_state"),
        "weight cut off": ("missing", "scale"),
    },
}
for family in (
    planted_convolutions, planted_pooling, planted_norms, planted_elementwise, planted_losses,
    planted_recurrent, planted_modes,
):
    BUGS |= family.BUGS
OPTIONS = {build: {"modes": ("eager", "graph")} for build in BUGS}
for build, options in planted_modes.OPTIONS.items():
    OPTIONS[build] |= options
