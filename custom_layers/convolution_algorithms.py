"""Ways to compute one convolution (NHWC, one group): kernels, patches, one matrix, frequencies.

Each takes (x, w) and returns (y, backward), where backward gives (dx, dw).
"""

import numpy as np
import tensorflow as tf

from custom_layers.fourier_convolution import fft
from custom_layers.tracing import sum_rows
from custom_layers.windows import (
    dimensions,
    output_size,
    pad,
    pad_adjoint,
    resolve_padding,
    windows,
    windows_adjoint,
)


def with_bias(y, backward, b):
    """(y + b, backward), where backward gives db after the other gradients; b may be None."""
    if b is None:
        return y, lambda dy: (*backward(dy), None)
    return tf.nn.bias_add(y, b), lambda dy: (*backward(dy), sum_rows(dy))


def native(x, w, *, strides, padding, dilation):
    """TensorFlow's convolution kernels: forward, with respect to the input, to the filter."""
    if tuple(dilation) != (1, 1):
        return _dilated(x, w, padding, dilation)
    pads = (0, 0), (0, 0)
    if padding == "same" and _leaves_taps_unwritten(x, w, strides):
        padding = resolve_padding(x, w.shape[:2], strides, "same")
    if not isinstance(padding, str):
        known = x.shape[1:3].is_fully_defined()
        same = known and padding == resolve_padding(x, w.shape[:2], strides, "same")
        if same and not _leaves_taps_unwritten(x, w, strides):
            padding = "same"  # costs no padded copy
        else:
            pads, padding = padding, "valid"
    settings = {"strides": (1, *strides, 1), "padding": padding.upper()}
    shape, x = dimensions(x), pad(x, pads)
    x_shape, w_shape = tf.shape(x), tf.shape(w)

    def backward(dy):
        dx = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=x_shape, filter=w, out_backprop=dy, **settings
        )
        dw = tf.raw_ops.Conv2DBackpropFilter(
            input=x, filter_sizes=w_shape, out_backprop=dy, **settings
        )
        return pad_adjoint(dx, pads, shape), dw

    return tf.raw_ops.Conv2D(input=x, filter=w, **settings), backward


def _leaves_taps_unwritten(x, w, strides):
    """Whether TensorFlow's gradient of the kernel may hold old memory where a tap sees no pixel.

    Its CPU kernel does so in bfloat16 with "same" padding and strides (measured: maps of height
    or width 1, TensorFlow 2.21). Padded by us each tap sees zeros.
    """
    return x.dtype == tf.bfloat16 and tuple(strides) != (1, 1) and any(
        size is not None and size < kernel for size, kernel in zip(x.shape[1:3], w.shape[:2]))


def _dilated(x, w, padding, dilation):
    """A dilated convolution is a plain one on each of the D * D phases of the image.

    TensorFlow's CPU kernels have no backward pass for dilation. `space_to_batch` makes the
    phases images of their own and `batch_to_space`, its adjoint, weaves them together again.
    Keras allows dilation at stride 1 only.
    """
    pads = resolve_padding(x, w.shape[:2], (1, 1), padding, dilation)
    shape = dimensions(x)
    extra = [-(size + sum(p)) % d for size, p, d in zip(shape[1:3], pads, dilation)]
    in_pads = [(before, after + e) for (before, after), e in zip(pads, extra)]
    out_pads = [(0, e) for e in extra]
    phases = tf.space_to_batch(x, dilation, in_pads)
    y, convolve_backward = native(
        phases, w, strides=(1, 1), padding="valid", dilation=(1, 1)
    )

    def backward(dy):
        dphases, dw = convolve_backward(tf.space_to_batch(dy, dilation, out_pads))
        return tf.ensure_shape(tf.batch_to_space(dphases, dilation, in_pads), x.shape), dw

    return tf.batch_to_space(y, dilation, out_pads), backward


def im2col(x, w, *, strides, padding, dilation):
    """The patches under the kernel as rows of a matrix: one matrix product does it all."""
    kernel, filters = tuple(w.shape[:2]), w.shape[3]
    pads = resolve_padding(x, kernel, strides, padding, dilation)
    padded = pad(x, pads)
    shape, padded_shape = dimensions(x), dimensions(padded)
    patches = tf.concat(windows(padded, kernel, strides, dilation), 3)
    n, oh, ow, _ = dimensions(patches)
    rows = tf.reshape(patches, (-1, patches.shape[3]))
    matrix = tf.reshape(w, (-1, filters))

    def backward(dy):
        dy_rows = tf.reshape(dy, (-1, filters))
        dw = tf.reshape(tf.matmul(rows, dy_rows, transpose_a=True), w.shape)
        dpatches = tf.reshape(
            tf.matmul(dy_rows, matrix, transpose_b=True), (n, oh, ow, patches.shape[3])
        )
        positions = tf.split(dpatches, kernel[0] * kernel[1], 3)
        dpadded = windows_adjoint(positions, padded_shape, kernel, strides, dilation)
        return pad_adjoint(dpadded, pads, shape), dw

    return tf.reshape(tf.matmul(rows, matrix), (n, oh, ow, filters)), backward


def toeplitz(x, w, *, strides, padding, dilation):
    """The doubly blocked Toeplitz matrix T: y = x T on flattened images, and dx = dy T^t.

    T's transpose is the transposed convolution. It has (H W C) x (OH OW O) entries: for
    small images, and for seeing that a convolution is a matrix product.
    """
    (fh, fw, c, filters), (_, h, width, _) = w.shape, x.shape
    if h is None or width is None:
        raise ValueError(
            "algorithm='toeplitz' needs images of known size, for its matrix has one row a "
            f"pixel. Received: x.shape={x.shape}"
        )
    pads = resolve_padding(x, (fh, fw), strides, padding, dilation)
    position, (oh, ow) = _kernel_positions((h, width), (fh, fw), strides, pads, dilation)
    zeros = tf.zeros((1, c * filters), w.dtype)
    table = tf.concat([tf.reshape(w, (fh * fw, c * filters)), zeros], 0)
    blocks = tf.reshape(tf.gather(table, position), (oh * ow, h * width, c, filters))
    matrix = tf.reshape(tf.transpose(blocks, (1, 2, 0, 3)), (h * width * c, oh * ow * filters))
    images = tf.reshape(x, (-1, h * width * c))

    def backward(dy):
        dy_rows = tf.reshape(dy, (-1, oh * ow * filters))
        dx = tf.reshape(tf.matmul(dy_rows, matrix, transpose_b=True), tf.shape(x))
        dmatrix = tf.reshape(
            tf.matmul(images, dy_rows, transpose_a=True), (h * width, c, oh * ow, filters)
        )
        dblocks = tf.reshape(tf.transpose(dmatrix, (2, 0, 1, 3)), (-1, c * filters))
        dtable = tf.math.unsorted_segment_sum(dblocks, position.reshape(-1), fh * fw + 1)
        return dx, tf.reshape(dtable[:-1], w.shape)

    return tf.reshape(tf.matmul(images, matrix), (-1, oh, ow, filters)), backward


def _kernel_positions(size, kernel, strides, pads, dilation):
    """For each (output pixel, input pixel) the kernel position that joins them.

    A pair that no position joins gets fh * fw, the index of the table's zero.
    """
    per_axis, outputs = [], []
    for n, k, s, p, d in zip(size, kernel, strides, pads, dilation):
        outputs.append(output_size(n, k, s, sum(p), d))
        offset = np.arange(n)[None] + p[0] - s * np.arange(outputs[-1])[:, None]
        joined = (offset % d == 0) & (offset >= 0) & (offset < d * k)
        per_axis.append(np.where(joined, offset // d, -1))
    i, j = per_axis[0][:, None, :, None], per_axis[1][None, :, None, :]
    position = np.where((i >= 0) & (j >= 0), i * kernel[1] + j, kernel[0] * kernel[1])
    return position.reshape(outputs[0] * outputs[1], -1).astype(np.int32), outputs


ALGORITHMS = {"native": native, "im2col": im2col, "toeplitz": toeplitz, "fft": fft}
