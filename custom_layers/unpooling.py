"""Max pooling that also says where each maximum was, and unpooling back to those places."""

import keras
import tensorflow as tf

from custom_layers.checks import INTEGER, check_kind, compatible
from custom_layers.gradient import differentiable
from custom_layers.registration import register
from custom_layers.smooth_pooling import PoolingLayer
from custom_layers.tracing import compiled_by_xla
from custom_layers.windows import dimensions, resolve_padding
from custom_layers.winners import Winners


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
    to_last, from_last = transpositions(data_format)
    x = to_last(x)
    windows = Winners(dimensions(x), pool_size, strides,
                      resolve_padding(x, pool_size, strides, padding))
    y, winner = windows.largest(x)

    def backward(dy, _):
        return from_last(windows.scatter(to_last(dy), winner))

    return (from_last(y), from_last(windows.indices(winner))), backward


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
    to_last, from_last = transpositions(data_format)
    y = to_last(y)
    n, *outputs, c = dimensions(y)
    pads = unpooled_padding(outputs, output_size, pool_size, strides, padding)
    windows = Winners((n, *output_size, c), pool_size, strides, pads)
    winner = windows.winner(to_last(indices))
    _check(winner, windows)

    def backward(dx):
        return from_last(windows.gather(to_last(dx), winner)), None

    return from_last(windows.scatter(y, winner)), backward


def _check(winner, windows):
    message = (
        "`indices` must say for each value of `inputs` a place h * W + w inside its window of the "
        f"unpooled image of size {tuple(windows.shape[1:3])}, as MaxPoolingWithIndices2D with the "
        "same settings does: these come from another pooling, or `output_size` is not that of the "
        "image."
    )
    lost = winner == tf.cast(windows.count, winner.dtype)
    if tf.executing_eagerly():
        if tf.reduce_any(lost):
            at = tf.where(lost)[0].numpy().tolist()
            raise ValueError(f"{message} Received: an index outside its window at {at}")
    elif not compiled_by_xla():
        tf.debugging.Assert(~tf.reduce_any(lost), [message])


def unpooled_padding(outputs, size, pool_size, strides, padding):
    """`resolve_padding` for an image that is not there yet."""
    if padding == "valid":
        return (0, 0), (0, 0)
    pads = []
    for o, n, k, s in zip(outputs, size, pool_size, strides):
        total = (o - 1) * s + k - n
        total = max(total, 0) if isinstance(total, int) else tf.maximum(total, 0)
        pads.append((total // 2, total - total // 2))
    return tuple(pads)


def transpositions(data_format):
    """To NHWC and back."""
    return (tf.identity, tf.identity) if data_format == "channels_last" else (_to_nhwc, _to_nchw)


def _to_nhwc(t):
    return tf.transpose(t, (0, 2, 3, 1))


def _to_nchw(t):
    return tf.transpose(t, (0, 3, 1, 2))


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
        check_kind(self, "indices", indices, (INTEGER,))
        size = output_size
        if size is None:
            rows = slice(1, 3) if self.data_format == "channels_last" else slice(2, 4)
            size = self._sizes(dimensions(inputs)[rows], None)
        y = max_unpool(inputs, indices, output_size=tuple(size), **self.settings)
        return tf.ensure_shape(y, shape)

    def compute_output_shape(self, inputs_shape, indices_shape=None, output_size=None):
        shape = tuple(inputs_shape)
        if indices_shape is not None and not compatible(shape, tuple(indices_shape)):
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
        check_kind(self, "indices", indices, (INTEGER,))
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def _sizes(self, pooled, output_size):
        """Height and width of the result; None where they are not known."""
        if output_size is None:
            sizes = []
            for o, k, s in zip(pooled, self.pool_size, self.strides):
                sizes.append(None if o is None else o * s if self.padding == "same" else
                             (o - 1) * s + k)
            return sizes
        if len(output_size) != 2:
            raise ValueError(
                f"`output_size` of layer {self.name} must be (height, width). "
                f"Received: output_size={output_size}"
            )
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
