"""Who won in each window of max pooling, in one byte a window."""

import tensorflow as tf

from custom_layers.tracing import compiled_by_xla
from custom_layers.windows import dimensions, pad, pad_adjoint, windows, windows_adjoint


class Winners:
    """The windows over images of `shape` (N, H, W, C), and three ways to say who won in them.

    A winner is a position in its window, i * kw + j, in one byte; an index the place h * W + w
    in the image. `scatter` and `gather` are adjoints.
    """

    def __init__(self, shape, pool_size, strides, pads):
        self.shape, self.pool_size, self.strides, self.pads = shape, pool_size, strides, pads
        self.count = pool_size[0] * pool_size[1]
        self.code = tf.uint8 if self.count <= 255 else tf.int32
        n, h, w, c = shape
        self.padded_shape = (n, h + sum(pads[0]), w + sum(pads[1]), c)

    def largest(self, x):
        """The largest value of each window, and the position of the first that is as large."""
        padded = pad(x, self.pads, x.dtype.min)
        views = windows(padded, self.pool_size, self.strides)
        if compiled_by_xla():
            y = views[0]
            for view in views[1:]:
                y = tf.maximum(y, view)
        else:
            y = tf.raw_ops.MaxPool(input=padded, ksize=(1, *self.pool_size, 1),
                                   strides=(1, *self.strides, 1), padding="VALID")
        # Positions before the first winner: l_0 (1 + l_1 (1 + l_2 ...)), l_k = 1 for a loser.
        # In a plain graph three times as fast as choosing position by position.
        winner = tf.zeros(tf.shape(y), self.code)
        for view in reversed(views[:-1]):
            winner = (winner + 1) * tf.cast(view != y, self.code)
        return y, winner

    def scatter(self, t, winner):
        """(N, OH, OW, C) -> (N, H, W, C): each value of `t` added at its winner's place."""
        zeros = tf.zeros_like(t)
        views = [tf.where(winner == tf.cast(k, self.code), t, zeros) for k in range(self.count)]
        padded = windows_adjoint(views, self.padded_shape, self.pool_size, self.strides)
        return pad_adjoint(padded, self.pads, self.shape)

    def gather(self, image, winner):
        """(N, H, W, C) -> (N, OH, OW, C): what stands in `image` at each winner's place."""
        views = windows(pad(image, self.pads), self.pool_size, self.strides)
        result = tf.zeros_like(views[0])
        for k, view in enumerate(views):
            result = tf.where(winner == tf.cast(k, self.code), view, result)
        return result

    def indices(self, winner):
        """The winners' places in the image, int64."""
        places = tf.gather(self._steps(), tf.cast(winner, tf.int32))
        return tf.cast(self._corners(winner) + places, tf.int64)

    def winner(self, indices):
        """The winners of `indices`; `count`, the code after the last, of a place outside."""
        steps = self._steps()
        last = steps[-1]
        inverse = tf.tensor_scatter_nd_update(
            tf.fill([last + 3], self.count), steps[:, None] + 1, tf.range(self.count))
        offset = indices - tf.cast(self._corners(indices), indices.dtype)
        offset = tf.clip_by_value(offset, -1, tf.cast(last + 1, indices.dtype))
        return tf.gather(tf.cast(inverse, self.code), offset + 1)

    def _steps(self):
        """How far from its first position the others of a window lie: i * W + j."""
        kh, kw = self.pool_size
        return tf.reshape(tf.range(kh)[:, None] * self.shape[2] + tf.range(kw), [-1])

    def _corners(self, t):
        """The place of the first position of each window, (1, OH, OW, 1)."""
        (sh, sw), ((above, _), (before, _)) = self.strides, self.pads
        _, oh, ow, _ = dimensions(t)
        top, left = tf.range(oh) * sh - above, tf.range(ow) * sw - before
        return (top[:, None] * self.shape[2] + left)[None, :, :, None]
