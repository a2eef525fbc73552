"""Pooling: the largest or the average value of each window."""

import functools

import keras
import tensorflow as tf

from custom_layers.checks import COMPLEX, FLOAT, INTEGER, REAL, CheckedImages, CheckedWindows
from custom_layers.empty_batch import right_on_empty_batch
from custom_layers.gradient import differentiable
from custom_layers.registration import register
from custom_layers.tracing import compiled_by_xla
from custom_layers.windows import channels_last, dimensions, resolve_padding
from custom_layers.winners import Winners


@differentiable
@right_on_empty_batch
def max_pool(x, *, pool_size=(2, 2), strides=(2, 2), padding="valid",
             data_format="channels_last", algorithm="auto"):
    """The largest value of each window.

    Forward:   y[n,p,q,c] = max over i,j of x[n, p*S + i, q*S + j, c]
    Backward:  dx at the winner of each window += dy, 0 elsewhere
    Shapes:    x (N, H, W, C) -> y (N, OH, OW, C);
               channels_first: x (N, C, H, W) -> y (N, C, OH, OW)
    Ties:      the first in row-major order takes all of dy
    Settings:  algorithm "winners" keeps one byte a window, the winner's position in it, and
               not x; "native" keeps x and y for TensorFlow's kernels; "auto" takes the faster:
               winners under XLA, native in a plain graph
    Source:    Goodfellow, Bengio, Courville, Deep Learning, 2016, section 9.3.
    """
    winners = algorithm == "winners" or algorithm == "auto" and compiled_by_xla()
    pool = functools.partial(
        _max_pool_winners if winners else _max_pool_native,
        pool_size=pool_size, strides=strides, padding=padding,
    )
    return channels_last(pool, x, data_format)


def _max_pool_native(x, pool_size, strides, padding):
    settings = _settings(pool_size, strides, padding)
    y = tf.raw_ops.MaxPool(input=x, **settings)

    def backward(dy):
        return tf.raw_ops.MaxPoolGrad(orig_input=x, orig_output=y, grad=dy, **settings)

    return y, backward


def _max_pool_winners(x, pool_size, strides, padding):
    windows = Winners(dimensions(x), pool_size, strides,
                      resolve_padding(x, pool_size, strides, padding))
    y, winner = windows.largest(x)
    return y, lambda dy: windows.scatter(dy, winner)


@differentiable
def average_pool(x, *, pool_size=(2, 2), strides=(2, 2), padding="valid",
                 data_format="channels_last"):
    """The mean of each window.

    Forward:   y = mean of the window's elements inside the image (padding does not count)
    Backward:  each of them gets dy / their number
    Shapes:    x (N, H, W, C) -> y (N, OH, OW, C);
               channels_first: x (N, C, H, W) -> y (N, C, OH, OW)
    Source:    Goodfellow, Bengio, Courville, Deep Learning, 2016, section 9.3.
    """
    settings = _settings(pool_size, strides, padding)

    def pool(x):
        shape = tf.shape(x)

        def backward(dy):
            return tf.raw_ops.AvgPoolGrad(orig_input_shape=shape, grad=dy, **settings)

        return tf.raw_ops.AvgPool(value=x, **settings), backward

    return channels_last(pool, x, data_format)


@differentiable
def global_average_pool(x, *, axes=(1, 2), keepdims=False):
    """The mean of each feature map.

    Forward:   y[n,c] = mean over h,w of x[n,h,w,c]
    Backward:  dx = dy / (H W) everywhere in its map
    Shapes:    x (N, H, W, C) -> y (N, C), or (N, 1, 1, C) with keepdims
    Source:    Lin, Chen, Yan, Network in Network, 2014, section 3.2.
    """
    shape = tf.shape(x)
    size = tf.cast(tf.reduce_prod(tf.gather(shape, axes)), x.dtype)

    def backward(dy):
        for axis in () if keepdims else axes:
            dy = tf.expand_dims(dy, axis)
        return tf.broadcast_to(dy / size, shape)

    return tf.reduce_mean(x, axes, keepdims=keepdims), backward


def _settings(pool_size, strides, padding):
    return dict(ksize=(1, *pool_size, 1), strides=(1, *strides, 1), padding=padding.upper())


def _settings_of(layer):
    """The arguments of an op that a Keras pooling layer holds."""
    return dict(pool_size=layer.pool_size, strides=layer.strides, padding=layer.padding,
                data_format=layer.data_format)


@register
class MaxPooling2D(CheckedWindows, keras.layers.MaxPooling2D):
    """`keras.layers.MaxPooling2D` on the op `max_pool`.

    Args:
        algorithm: `"auto"` (the default), `"native"` or `"winners"`: equal results; what is
            kept for the backward pass differs, see `max_pool`.
        All other arguments are Keras's.
    """

    takes = FLOAT, INTEGER

    def __init__(self, *args, algorithm="auto", **kwargs):
        if algorithm not in ("auto", "native", "winners"):
            raise ValueError(
                "`algorithm` must be 'auto', 'native' or 'winners'. "
                f"Received: algorithm={algorithm}"
            )
        super().__init__(*args, **kwargs)
        self.algorithm = algorithm

    def call(self, inputs):
        return max_pool(inputs, algorithm=self.algorithm, **_settings_of(self))

    def get_config(self):
        return {**super().get_config(), "algorithm": self.algorithm}


@register
class AveragePooling2D(CheckedWindows, keras.layers.AveragePooling2D):
    """`keras.layers.AveragePooling2D` on the op `average_pool`."""

    def call(self, inputs):
        return average_pool(inputs, **_settings_of(self))


@register
class GlobalAveragePooling2D(CheckedImages, keras.layers.GlobalAveragePooling2D):
    """`keras.layers.GlobalAveragePooling2D` on the op `global_average_pool`.

    Inputs that are no floats go Keras's own way.
    """

    takes = *REAL, COMPLEX

    def call(self, inputs):
        if not inputs.dtype.is_floating:
            return super().call(inputs)
        axes = (1, 2) if self.data_format == "channels_last" else (2, 3)
        return global_average_pool(inputs, axes=axes, keepdims=self.keepdims)
