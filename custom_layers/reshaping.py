"""Layers that move elements and change none."""

import math

import keras
import tensorflow as tf

from custom_layers.gradient import differentiable
from custom_layers.registration import register
from custom_layers.windows import dimensions


@differentiable
def flatten(x, *, data_format="channels_last"):
    """All axes but the first become one.

    Forward:   y = x, reshaped; channels_first: the channels become the last axis first
    Backward:  dx = dy, reshaped and transposed back
    Shapes:    x (N, ...) -> y (N, product of the rest)
    Source:    none: elements move, and their gradients move back.
    """
    rank = x.shape.rank
    first = data_format == "channels_first" and rank > 2
    if first:
        x = tf.transpose(x, (0, *range(2, rank), 1))
    shape = dimensions(x)
    y = tf.reshape(x, (shape[0], math.prod(shape[1:])))

    def backward(dy):
        dx = tf.reshape(dy, shape)
        return tf.transpose(dx, (0, rank - 1, *range(1, rank - 1))) if first else dx

    return y, backward


@register
class Flatten(keras.layers.Flatten):
    """`keras.layers.Flatten` on the op `flatten`. Sparse inputs go Keras's own way."""

    def call(self, inputs):
        if isinstance(inputs, tf.SparseTensor):
            return super().call(inputs)
        return flatten(inputs, data_format=self.data_format)
