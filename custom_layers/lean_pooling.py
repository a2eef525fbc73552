"""Max pooling in lean training: what says who won, instead of all who played."""

import tensorflow as tf

from custom_layers.lean_links import Kind
from custom_layers.pooling import _max_pool_winners
from custom_layers.tracing import compiled_by_xla
from custom_layers.windows import channels_last, dimensions


class MaxPool(Kind):
    """`max_pool`, its backward pass by TensorFlow's kernel from x and y, or by the winners.

    `keep_winners` (the plan sets it where nothing else keeps x) makes it read neither. The
    winners are one byte a window, but one byte an element of x in a plain graph, where that is
    faster, unless windows overlap or `compact` is set. Under XLA, whose own gradient of max
    pooling is slow, they are kept in any case.
    """

    cheap, stock = False, "xy"

    def __init__(self, pool_size, strides, padding, data_format):
        self.pool_size, self.strides, self.padding = pool_size, strides, padding
        self.data_format = data_format
        self.keep_winners = self.compact = False

    @property
    def reads(self):
        return "" if self.keep_winners else "xy"

    def forward(self, xs, ws):
        if self.keep_winners or compiled_by_xla():
            return channels_last(self._winners, xs[0], self.data_format)
        y, _ = channels_last(self._native, xs[0], self.data_format)
        return y, None

    def backward(self, dy, xs, y, ws, memo):
        if memo is not None:
            return (memo(dy),), ()

        def pair(x):
            given = y if self.data_format == "channels_last" else tf.transpose(y, (0, 2, 3, 1))
            return None, lambda dy: tf.raw_ops.MaxPoolGrad(
                orig_input=x, orig_output=given, grad=dy, **self._settings())

        if self.data_format == "channels_last":
            return (pair(xs[0])[1](dy),), ()
        _, backward = pair(tf.transpose(xs[0], (0, 2, 3, 1)))
        dx = backward(tf.transpose(dy, (0, 2, 3, 1)))
        return (tf.transpose(dx, (0, 3, 1, 2)),), ()

    def _settings(self):
        return dict(ksize=(1, *self.pool_size, 1), strides=(1, *self.strides, 1),
                    padding=self.padding.upper())

    def _native(self, x):
        return tf.raw_ops.MaxPool(input=x, **self._settings()), None

    def _winners(self, x):
        if self.compact or compiled_by_xla() or not self._tiles(x):
            return _max_pool_winners(x, self.pool_size, self.strides, self.padding)
        return self._tile_winners(x)

    def _tiles(self, x):
        """Whether the windows lie side by side and cover x."""
        return self.pool_size == self.strides and all(
            size is not None and size % p == 0 for size, p in zip(x.shape[1:3], self.pool_size))

    def _tile_winners(self, x):
        """The gradient of an upstream of ones is 1 at the winners: TensorFlow's own choice."""
        y = tf.raw_ops.MaxPool(input=x, **self._settings())
        won = tf.cast(tf.raw_ops.MaxPoolGrad(
            orig_input=x, orig_output=y, grad=tf.ones_like(y), **self._settings()), tf.bool)
        with tf.control_dependencies([won]):  # before what follows, for x and its ones to be free
            y = tf.identity(y)
        n, oh, ow, c = dimensions(y)
        (kh, kw), shape = self.pool_size, dimensions(x)

        def backward(dy):
            row = tf.reshape(tf.stack([dy] * kw, 3), (n, oh, 1, ow * kw * c))
            won_by = tf.reshape(won, (n, oh, kh, ow * kw * c))
            return tf.reshape(tf.where(won_by, row, tf.zeros((), dy.dtype)), shape)

        return y, backward
