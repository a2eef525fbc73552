"""Max pooling that also says where each maximum was, and unpooling back to those places."""

import keras
import tensorflow as tf

from custom_layers.gradient import differentiable
from custom_layers.registration import register
from custom_layers.smooth_pooling import PoolingLayer
from custom_layers.tracing import compiled_by_xla
from custom_layers.windows import (
    dimensions,
    pad,
    pad_adjoint,
    resolve_padding,
    windows,
    windows_adjoint,
)


@differentiable
def max_pool_with_indices(x, *, pool_size=(2, 2), strides=(2, 2), padding="valid",
                          data_format="channels_last"):
    """The largest value of each window and its place in the image.

    Forward:   y[n,p,q,c] = max over i,j of x[n, p*S + i, q*S + j, c];
               indices[n,p,q,c] = h * W + w of the winner's row h and column w, whatever
               the channel and the data format (as PyTorch's; TensorFlow's count channels too)
    Backward:  dx at the winner of each window += dy, 0 elsewhere
    Shapes:    x (N, H, W, C) -> y (N, OH, OW, C), indices (N, OH, OW, C) int64;
               channels_first: x (N, C, H, W) -> y, indices (N, C, OH, OW)
    Ties:      the first in row-major order takes all of dy
    Keeps one byte a window, the winner's position in it, not x.
    Source:    Badrinarayanan, Kendall, Cipolla, SegNet, 2015, section 3.
    """
    to_last, from_last = _transpositions(data_format)
    x = to_last(x)
    pads = resolve_padding(x, pool_size, strides, padding)
    grid = _Grid(dimensions(x), pool_size, strides, pads)

    def by_views():
        y, winner = _largest(windows(pad(x, pads, x.dtype.min), pool_size, strides), grid.code)
        return y, winner, grid.indices(winner)

    def by_kernel():
        y, places = tf.raw_ops.MaxPoolWithArgmax(
            input=x, ksize=(1, *pool_size, 1), strides=(1, *strides, 1), padding=padding.upper()
        )
        indices = places // tf.cast(tf.shape(x)[3], tf.int64)
        return y, grid.winner(indices), indices

    # A plain graph is slow at views; XLA has no such kernel, and it takes no empty batch.
    if compiled_by_xla() or x.dtype == tf.bfloat16 or x.shape.num_elements() == 0:
        y, winner, indices = by_views()
    elif x.shape.is_fully_defined():
        y, winner, indices = by_kernel()
    else:
        y, winner, indices = tf.cond(tf.size(x) > 0, by_kernel, by_views)

    def backward(dy, _):
        return from_last(grid.scatter(to_last(dy), winner))

    return (from_last(y), from_last(indices)), backward


def _largest(views, code):
    """The largest of the views at each place, and the number of the first that is."""
    y, *others = views
    winner = tf.zeros(tf.shape(y), code)
    for k, view in enumerate(others, 1):
        winner = tf.where(view > y, tf.cast(k, code), winner)
        y = tf.maximum(view, y)
    return y, winner


@differentiable
def max_unpool(y, indices, *, output_size, pool_size=(2, 2), strides=(2, 2), padding="valid",
               data_format="channels_last"):
    """Each value back at the place that its maximum was taken from, zeros elsewhere.

    Forward:   x[n, indices // W, indices % W, c] += y[n,p,q,c], 0 where nothing is added
    Backward:  dy[n,p,q,c] = dx[n, indices // W, indices % W, c]
    Shapes:    y, indices (N, OH, OW, C) -> x (N, H, W, C) with output_size (H, W);
               channels_first: y, indices (N, C, OH, OW) -> x (N, C, H, W)
    Ties:      where overlapping windows share a winner their values add, since any order of
               overwriting would be arbitrary
    Raises:    an index outside its own window comes from another pooling: ValueError in eager
               mode, InvalidArgumentError in a graph; under XLA its value is dropped
    Keeps one byte a window.
    Source:    Badrinarayanan, Kendall, Cipolla, SegNet, 2015, section 3.
    """
    to_last, from_last = _transpositions(data_format)
    y = to_last(y)
    n, *outputs, c = dimensions(y)
    pads = _padding(outputs, output_size, pool_size, strides, padding)
    grid = _Grid((n, *output_size, c), pool_size, strides, pads)
    winner = grid.winner(to_last(tf.cast(indices, tf.int64)))
    _check(winner, grid)

    def backward(dx):
        return from_last(grid.gather(to_last(dx), winner)), None

    return from_last(grid.scatter(y, winner)), backward


class _Grid:
    """The windows over images of `shape` (N, H, W, C), and three ways to say who won in them.

    A winner is a position in its window, i * kw + j, in one byte; an index the place h * W + w
    in the image. `scatter` and `gather` are adjoints.
    """

    def __init__(self, shape, pool_size, strides, pads):
        self.shape, self.pool_size, self.strides, self.pads = shape, pool_size, strides, pads
        self.code = tf.uint8 if pool_size[0] * pool_size[1] <= 255 else tf.int32
        n, h, w, c = shape
        self.padded_shape = (n, h + sum(pads[0]), w + sum(pads[1]), c)

    def scatter(self, t, winner):
        """(N, OH, OW, C) -> (N, H, W, C): each value of `t` added at its winner's place."""
        zero = tf.zeros((), t.dtype)
        views = [tf.where(winner == k, t, zero) for k in self._codes()]
        padded = windows_adjoint(views, self.padded_shape, self.pool_size, self.strides)
        return pad_adjoint(padded, self.pads, self.shape)

    def gather(self, image, winner):
        """(N, H, W, C) -> (N, OH, OW, C): what stands in `image` at each winner's place."""
        result = tf.zeros((), image.dtype)
        for k, view in zip(self._codes(), windows(pad(image, self.pads), self.pool_size,
                                                  self.strides)):
            result = tf.where(winner == k, view, result)
        return result

    def indices(self, winner):
        width, kw = tf.cast(self.shape[2], tf.int64), self.pool_size[1]
        code = tf.cast(winner, tf.int64)
        return self._corners(winner) + code + code // kw * (width - kw)

    def winner(self, indices):
        """kh * kw, the code after the last, where the place is not in its window."""
        (kh, kw), width = self.pool_size, tf.cast(self.shape[2], tf.int64)
        offset = indices - self._corners(indices)
        winner = tf.fill(tf.shape(offset), tf.cast(kh * kw, self.code))
        for k, code in enumerate(self._codes()):
            winner = tf.where(offset == k // kw * width + k % kw, code, winner)
        return winner

    def _corners(self, t):
        """The place of the first position of each window, (1, OH, OW, C)."""
        (sh, sw), ((above, _), (before, _)) = self.strides, self.pads
        _, oh, ow, c = (tf.cast(d, tf.int64) for d in dimensions(t))
        top = tf.range(oh) * sh - tf.cast(above, tf.int64)
        left = tf.range(ow) * sw - tf.cast(before, tf.int64)
        corners = top[:, None] * tf.cast(self.shape[2], tf.int64) + left
        return tf.tile(corners[None, :, :, None], (1, 1, 1, c))

    def _codes(self):
        return [tf.cast(k, self.code) for k in range(self.pool_size[0] * self.pool_size[1])]


def _check(winner, grid):
    message = (
        "`indices` must say for each value of `inputs` a place h * W + w inside its window of the "
        f"unpooled image of size {tuple(grid.shape[1:3])}, as MaxPoolingWithIndices2D with the "
        "same settings does: these come from another pooling, or `output_size` is not that of the "
        "image."
    )
    lost = winner == tf.cast(grid.pool_size[0] * grid.pool_size[1], winner.dtype)
    if tf.executing_eagerly():
        if tf.reduce_any(lost):
            at = tf.where(lost)[0].numpy().tolist()
            raise ValueError(f"{message} Received: an index outside its window at {at}")
    elif not compiled_by_xla():
        tf.debugging.Assert(~tf.reduce_any(lost), [message])


def _padding(outputs, size, pool_size, strides, padding):
    """`resolve_padding` for an image that is not there yet."""
    if padding == "valid":
        return (0, 0), (0, 0)
    pads = []
    for o, n, k, s in zip(outputs, size, pool_size, strides):
        total = (o - 1) * s + k - n
        total = max(total, 0) if isinstance(total, int) else tf.maximum(total, 0)
        pads.append((total // 2, total - total // 2))
    return tuple(pads)


def _transpositions(data_format):
    """To NHWC and back."""
    if data_format == "channels_last":
        return (lambda t: t), (lambda t: t)
    return (lambda t: tf.transpose(t, (0, 2, 3, 1))), (lambda t: tf.transpose(t, (0, 3, 1, 2)))


@register
class MaxPoolingWithIndices2D(PoolingLayer):
    """The op `max_pool_with_indices` as a layer: returns (y, indices), for `MaxUnpooling2D`.

    Args:
        pool_size, strides, padding, data_format: as `keras.layers.MaxPooling2D`.
    """

    def call(self, inputs):
        self.compute_output_shape(inputs.shape)  # its checks
        return max_pool_with_indices(inputs, **self.settings)

    def compute_output_shape(self, input_shape):
        shape = super().compute_output_shape(input_shape)
        return shape, shape

    def compute_output_spec(self, inputs):
        shape, _ = self.compute_output_shape(inputs.shape)
        return (keras.KerasTensor(shape, dtype=self.compute_dtype),
                keras.KerasTensor(shape, dtype="int64"))


@register
class MaxUnpooling2D(PoolingLayer):
    """The op `max_unpool` as a layer: called with (y, indices[, output_size]).

    `indices` are those of `MaxPoolingWithIndices2D` with the same settings; y may be any tensor
    of their shape. `output_size` is the size (H, W) of the image that was pooled. Without it: the
    smallest image that has these windows ("valid"), the strides times y's size ("same"). Tell it
    where the image was larger or smaller, for an odd size is halved without a trace.

    Args:
        pool_size, strides, padding, data_format: those of the pooling.
    """

    def call(self, inputs, indices, output_size=None):
        shape = self.compute_output_shape(inputs.shape, indices.shape, output_size)
        if not indices.dtype.is_integer:
            raise ValueError(
                f"`indices` of layer {self.name} must be integers. "
                f"Received: indices.dtype={indices.dtype.name}"
            )
        size = output_size
        if size is None:
            rows = slice(1, 3) if self.data_format == "channels_last" else slice(2, 4)
            size = self._sizes(dimensions(inputs)[rows], None)
        y = max_unpool(inputs, indices, output_size=tuple(size), **self.settings)
        return tf.ensure_shape(y, shape)

    def compute_output_shape(self, inputs_shape, indices_shape=None, output_size=None):
        shape = tuple(inputs_shape)
        if indices_shape is not None and not _compatible(shape, tuple(indices_shape)):
            raise ValueError(
                f"`indices` of layer {self.name} must have the shape of its inputs: these come "
                f"from another pooling. Received: inputs.shape={shape}, "
                f"indices.shape={tuple(indices_shape)}"
            )
        rows = slice(1, 3) if self.data_format == "channels_last" else slice(2, 4)
        size = self._sizes(shape[rows], output_size)
        return (shape[0], *size, shape[3]) if rows.start == 1 else (*shape[:2], *size)

    def compute_output_spec(self, inputs, indices, output_size=None):
        shape = self.compute_output_shape(inputs.shape, indices.shape, output_size)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def _sizes(self, pooled, output_size):
        """Height and width of the result; None where they are not known."""
        if output_size is None:
            sizes = []
            for o, k, s in zip(pooled, self.pool_size, self.strides):
                sizes.append(None if o is None else o * s if self.padding == "same" else
                             (o - 1) * s + k)
            return sizes
        sizes = [n if isinstance(n, int) else None for n in output_size]
        for o, n, k, s in zip(pooled, sizes, self.pool_size, self.strides, strict=True):
            fits = n is None or o is None or o == (
                -(-n // s) if self.padding == "same" else (n - k) // s + 1
            )
            if not fits:
                raise ValueError(
                    f"`output_size` of layer {self.name} must be the size of an image that is "
                    f"pooled to {tuple(pooled)} with pool_size={self.pool_size}, "
                    f"strides={self.strides}, padding={self.padding}. "
                    f"Received: output_size={tuple(output_size)}"
                )
        return sizes


def _compatible(a, b):
    return len(a) == len(b) and all(m is None or n is None or m == n for m, n in zip(a, b))
