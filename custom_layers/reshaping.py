"""Layers that move elements and change none."""

import keras
import tensorflow as tf

from custom_layers.gradient import differentiable
from custom_layers.registration import register


@differentiable
def flatten(x):
    """All axes but the first become one.

    Forward:   y = x, reshaped
    Backward:  dx = dy, reshaped back
    Shapes:    x (N, ...) -> y (N, product of the rest)
    """
    size = x.shape[1:].num_elements()
    rest = tf.reduce_prod(tf.shape(x)[1:]) if size is None else size
    y = tf.reshape(x, (tf.shape(x)[0], rest))
    return y, lambda dy: tf.reshape(dy, tf.shape(x))


@register
class Flatten(keras.layers.Flatten):
    """`keras.layers.Flatten` on the op `flatten`; channels-first inputs are transposed first."""

    def call(self, inputs):
        if isinstance(inputs, tf.SparseTensor):
            return super().call(inputs)
        if self._channels_first and inputs.shape.rank > 2:
            inputs = tf.transpose(inputs, (0, *range(2, inputs.shape.rank), 1))
        return flatten(inputs)
