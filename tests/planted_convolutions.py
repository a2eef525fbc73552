"""Bugs of depthwise, separable, transposed and sparse convolutions and of upsampling."""

import numpy as np
import tensorflow as tf
from planted_gradients import planted, stop
from planted_layers import normal


def _convolution(x, w):
    return tf.nn.conv2d(x, w, 1, "VALID")


def _depthwise(x, w):
    return tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], "VALID")


def _flipped(w):
    return tf.reverse(w, [0, 1])


def depthwise_convolution(bug=None):
    wrong = {
        "multipliers for channels": lambda x, w: _depthwise(x, tf.transpose(w, [0, 1, 3, 2])),
        "kernel flipped": lambda x, w: _depthwise(x, _flipped(w)),
        "one kernel for all channels": lambda x, w: _depthwise(
            x, tf.repeat(tf.reduce_mean(w, 2, keepdims=True), 2, axis=2)),
    }.get(bug)
    return planted(_depthwise, wrong), [normal(2, 5, 5, 2), normal(3, 2, 2, 2)]


def separable_convolution(bug=None):
    def separable(x, depthwise, pointwise):
        return _convolution(_depthwise(x, depthwise), pointwise)

    wrong = {
        "pointwise transposed": lambda x, d, p: separable(x, d, tf.transpose(p, [0, 1, 3, 2])),
        "depthwise cut off": lambda x, d, p: separable(x, stop(d), p),
        "pointwise sees the input": lambda x, d, p: (
            separable(x, d, stop(p)) + _convolution(x[:, 1:-1, 1:-1], p)),
    }.get(bug)
    return planted(separable, wrong), [normal(2, 5, 5, 2), normal(3, 3, 2, 1), normal(1, 1, 2, 2)]


def transposed_convolution(bug=None):
    def transposed(x, w):
        return tf.nn.conv2d_transpose(x, w, [2, 7, 7, 2], 2, "VALID")

    wrong = {
        "kernel flipped": lambda x, w: transposed(x, _flipped(w)),
        "channels exchanged": lambda x, w: transposed(x, tf.transpose(w, [0, 1, 3, 2])),
        "padding at the other side": lambda x, w: tf.roll(transposed(x, w), 1, axis=1),
        "stride ignored": lambda x, w: tf.pad(
            tf.nn.conv2d_transpose(x, w, [2, 5, 5, 2], 1, "VALID"),
            [[0, 0], [0, 2], [0, 2], [0, 0]]),
    }.get(bug)
    return planted(transposed, wrong), [normal(2, 3, 3, 2), normal(3, 3, 2, 2)]


def sparse_convolution(bug=None):
    table = np.array([[1.0, 0], [1, 1]])

    def sparse(x, w):
        return _convolution(x, w * tf.constant(table, w.dtype))

    wrong = {
        "connections ignored by dw": lambda x, w: sparse(x, stop(w)) + _convolution(stop(x), w),
        "connections ignored by dx": lambda x, w: _convolution(x, stop(w)) + sparse(stop(x), w),
        "table transposed": lambda x, w: _convolution(x, w * tf.constant(table.T, w.dtype)),
    }.get(bug)
    return planted(sparse, wrong), [normal(2, 5, 5, 2), normal(3, 3, 2, 2)]


def nearest_upsampling(bug=None):
    def nearest(x):
        return tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)

    wrong = {
        "averaged": lambda x: nearest(x) / 4,
        "tiled": lambda x: tf.tile(x, [1, 2, 2, 1]),
        "one of four": lambda x: tf.nn.conv2d_transpose(
            x, tf.reshape(tf.eye(2, dtype=x.dtype), [1, 1, 2, 2]), [2, 6, 6, 2], 2, "VALID"),
    }.get(bug)
    return planted(nearest, wrong), normal(2, 3, 3, 2)


def _interpolation(centres, dtype):
    """(6, 3): rows of a linear interpolation of three values at six places."""
    return tf.nn.relu(1 - tf.abs(tf.constant(centres, dtype)[:, None] - tf.range(3, dtype=dtype)))


def bilinear_upsampling(bug=None):
    half_pixel = np.clip((np.arange(6) + 0.5) / 2 - 0.5, 0, 2)

    def resized(x, rows, columns):
        rows, columns = _interpolation(rows, x.dtype), _interpolation(columns, x.dtype)
        return tf.einsum("ph,qw,nhwc->npqc", rows, columns, x)

    wrong = {
        "half pixels forgotten": lambda x: resized(x, np.minimum(np.arange(6) / 2, 2), half_pixel),
        "corners aligned": lambda x: resized(x, np.linspace(0, 2, 6), np.linspace(0, 2, 6)),
        "nearest": lambda x: tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2),
    }.get(bug)
    return planted(lambda x: resized(x, half_pixel, half_pixel), wrong), normal(2, 3, 3, 2)


BUGS = {
    depthwise_convolution: {
        "multipliers for channels": ("gradient", "x"),
        "kernel flipped": ("gradient", "w"),
        "one kernel for all channels": ("gradient", "w"),
    },
    separable_convolution: {
        "pointwise transposed": ("gradient", "pointwise"),
        "depthwise cut off": ("missing", "depthwise"),
        "pointwise sees the input": ("gradient", "pointwise"),
    },
    transposed_convolution: {
        "kernel flipped": ("gradient", "w"),
        "channels exchanged": ("gradient", "w"),
        "padding at the other side": ("gradient", "x"),
        "stride ignored": ("gradient", "x"),
    },
    sparse_convolution: {
        "connections ignored by dw": ("gradient", "w"),
        "connections ignored by dx": ("gradient", "x"),
        "table transposed": ("gradient", "w"),
    },
    nearest_upsampling: dict.fromkeys(["averaged", "tiled", "one of four"], ("gradient", "x")),
    bilinear_upsampling: dict.fromkeys(
        ["half pixels forgotten", "corners aligned", "nearest"], ("gradient", "x")
    ),
}
