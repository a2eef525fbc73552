"""Global pooling: the largest value of each feature map, the average over a sequence."""

import keras
import tensorflow as tf

from custom_layers.checks import COMPLEX, REAL, CheckedImages, check_mask
from custom_layers.gradient import differentiable
from custom_layers.pooling import global_average_pool
from custom_layers.registration import register

_HALF = (tf.float16, tf.bfloat16)


@differentiable
def global_max_pool(x, *, axes=(1, 2), keepdims=False):
    """The largest value of each feature map.

    Forward:   y[n,c] = max over h,w of x[n,h,w,c]
    Backward:  dx = dy / t at the t places of the map where x = y, 0 elsewhere
    Shapes:    x (N, H, W, C) -> y (N, C), or (N, 1, 1, C) with keepdims
    Ties:      share dy evenly, as in Keras (`max_pool` gives all of it to the first)
    Source:    Oquab, Bottou, Laptev, Sivic, Is Object Localization for Free?, CVPR 2015,
               section 3.
    """
    y = tf.reduce_max(x, axes, keepdims=True)
    counted = tf.float32 if x.dtype in _HALF else x.dtype

    def backward(dy):
        winners = x == y
        ties = tf.reduce_sum(tf.cast(winners, counted), axes, keepdims=True)
        share = tf.reshape(dy, tf.shape(y)) / tf.cast(ties, dy.dtype)
        return tf.where(winners, share, tf.zeros((), dy.dtype))

    return y if keepdims else tf.squeeze(y, axes), backward


@differentiable
def masked_average(x, mask, *, axis=1, keepdims=False):
    """The mean over the steps of a sequence where the mask is True.

    Forward:   y[n,c] = sum over t of m[n,t] x[n,t,c] / sum over t of m[n,t]
    Backward:  dx[n,t,c] = m[n,t] dy[n,c] / sum over t of m[n,t]
    Shapes:    x (N, T, C), mask (N, T) bool -> y (N, C), or (N, 1, C) with keepdims;
               axis=2: x (N, C, T) -> y (N, C), or (N, C, 1)
    Departs:   a sequence without a step has no mean: 0 / 0, NaN, as in Keras; its dx is 0.
               Sums of half-precision x are taken in float32.
    """
    mask = tf.expand_dims(mask, 3 - axis)
    wide = tf.float32 if x.dtype in _HALF else x.dtype
    steps = tf.reduce_sum(tf.cast(mask, wide), axis, keepdims=True)
    total = tf.reduce_sum(
        tf.where(mask, tf.cast(x, wide), tf.zeros((), wide)), axis, keepdims=True
    )
    y = tf.cast(total / steps, x.dtype)
    shape = tf.shape(y)

    def backward(dy):
        share = tf.cast(tf.cast(tf.reshape(dy, shape), wide) / steps, x.dtype)
        return tf.where(mask, share, tf.zeros((), x.dtype)), None

    return y if keepdims else tf.squeeze(y, axis), backward


@register
class GlobalMaxPooling2D(CheckedImages, keras.layers.GlobalMaxPooling2D):
    """`keras.layers.GlobalMaxPooling2D` on the op `global_max_pool`."""

    takes = REAL

    def call(self, inputs):
        if inputs.dtype == tf.bool:  # Keras's own way
            return super().call(inputs)
        axes = (1, 2) if self.data_format == "channels_last" else (2, 3)
        return global_max_pool(inputs, axes=axes, keepdims=self.keepdims)


@register
class GlobalAveragePooling1D(CheckedImages, keras.layers.GlobalAveragePooling1D):
    """`keras.layers.GlobalAveragePooling1D` on `global_average_pool`, masked: `masked_average`.

    Inputs that are no floats go Keras's own way.
    """

    takes = *REAL, COMPLEX

    def call(self, inputs, mask=None):
        axis = 1 if self.data_format == "channels_last" else 2
        if mask is not None:
            check_mask(self, mask, (inputs.shape[0], inputs.shape[axis]))
        if not inputs.dtype.is_floating:
            return super().call(inputs, mask)
        if mask is None:
            return global_average_pool(inputs, axes=(axis,), keepdims=self.keepdims)
        return masked_average(inputs, tf.cast(mask, tf.bool), axis=axis, keepdims=self.keepdims)
