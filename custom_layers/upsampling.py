"""Upsampling: images made larger by an integer factor."""

import functools

import keras
import numpy as np
import tensorflow as tf

from custom_layers.checks import FLOAT, INTEGER, CheckedImages
from custom_layers.gradient import differentiable
from custom_layers.registration import register
from custom_layers.tracing import compiled_by_xla
from custom_layers.windows import (
    channels_last,
    dimensions,
    pad,
    pad_adjoint,
    windows,
    windows_adjoint,
)


@differentiable
def upsample2d(x, *, size=(2, 2), interpolation="nearest", data_format="channels_last"):
    """Images larger by integer factors, their new pixels interpolated.

    Forward:   nearest: y[n,p,q,c] = x[n, floor(p / F), floor(q / F), c]
               else, along the rows and then along the columns, with k the kernel and
               u = (p + 1/2) / F - 1/2 the place of p among the rows of x:
               y[p] = sum over h of x[h] k(u - h) / sum over h of k(u - h)
    Backward:  nearest: dx[n,h,w,c] = sum of dy over the F x F pixels made from (h, w)
               else the adjoint: dx[h] = sum over p of dy[p] k(u - h) / sum over h of k(u - h)
    Shapes:    x (N, H, W, C) -> y (N, H*F, W*F, C), F = size of each axis;
               channels_first: x (N, C, H, W) -> y (N, C, H*F, W*F)
    Settings:  interpolation "nearest", "bilinear", "bicubic" (a = -1/2), "lanczos3", "lanczos5"
    Second derivatives are right. Nothing is kept for the backward pass.
    Half precision is computed with in float32 (but not for "nearest"), and y is of x's dtype.
    As TensorFlow does, bicubic rounds u to 1/1024 of a pixel.
    Source:    Keys, Cubic Convolution Interpolation, 1981 (bicubic); Duchon, Lanczos Filtering
               in One and Two Dimensions, 1979.
    """
    size = tuple(size)
    if interpolation == "nearest":
        return channels_last(functools.partial(_nearest, size=size), x, data_format)

    def resize(x):
        wide = tf.cast(x, tf.float32) if x.dtype in (tf.float16, tf.bfloat16) else x
        if compiled_by_xla():
            y, resize_backward = _by_phases(wide, size, interpolation)
        elif interpolation == "bilinear" and wide.dtype == tf.float32:
            y, resize_backward = _bilinear_native(wide, size)
        else:
            y, resize_backward = _by_matrices(wide, size, interpolation)

        def backward(dy):
            return tf.cast(resize_backward(tf.cast(dy, wide.dtype)), x.dtype)

        return tf.cast(y, x.dtype), backward

    return channels_last(resize, x, data_format)


def _nearest(x, size):
    n, h, w, c = dimensions(x)
    (fh, fw), dtype = size, x.dtype

    def backward(dy):
        wide = tf.cast(dy, tf.float32) if dtype in (tf.float16, tf.bfloat16) else dy
        if compiled_by_xla():
            dx = tf.add_n(windows(wide, size, size))
        else:  # the mean of each block is faster than its sum
            dx = fh * fw * tf.nn.avg_pool2d(wide, size, size, "VALID")
        return tf.cast(dx, dtype)

    blocks = tf.tile(x[:, :, None, :, None], (1, 1, fh, 1, fw, 1))
    return tf.reshape(blocks, (n, h * fh, w * fw, c)), backward


def _bilinear_native(x, size):
    """TensorFlow's kernels, which exist for float32 and are slow under XLA."""
    y = _bilinear_resize(x, size)
    return y, lambda dy: _bilinear_resize_adjoint(dy, tf.shape(x), size=size)


def _bilinear_resize(x, size):
    _, h, w, _ = dimensions(x)
    return tf.raw_ops.ResizeBilinear(
        images=x, size=(h * size[0], w * size[1]), half_pixel_centers=True
    )


@differentiable
def _bilinear_resize_adjoint(dy, shape, *, size):
    """An op, for TensorFlow knows no derivative of this kernel, and says so to nobody."""
    zeros = tf.zeros(shape, dy.dtype)  # the kernel wants x, for its shape alone
    dx = tf.raw_ops.ResizeBilinearGrad(grads=dy, original_image=zeros, half_pixel_centers=True)
    return dx, lambda ddx: (_bilinear_resize(ddx, size), None)


def _by_matrices(x, size, interpolation):
    """One matrix product an axis: Y = R X C^t for each image and channel."""
    n, h, w, c = dimensions(x)
    (fh, fw), static = size, x.shape
    rows, columns = (
        _matrix(extent, factor, interpolation, x.dtype) for extent, factor in ((h, fh), (w, fw))
    )

    def both(t, rows, columns, height, before, after):
        t = tf.matmul(rows, tf.reshape(t, (n, -1, before * c)))
        t = tf.matmul(columns, tf.reshape(t, (n * height, before, c)))
        return tf.reshape(t, (n, height, after, c))

    def backward(dy):
        dx = both(dy, tf.transpose(rows), tf.transpose(columns), h, w * fw, w)
        return tf.ensure_shape(dx, static)

    return both(x, rows, columns, h * fh, w, w * fw), backward


def _matrix(extent, factor, interpolation, dtype):
    """(extent * factor, extent): what each old pixel gives to each new one of an axis."""
    eye = tf.reshape(tf.eye(extent, dtype=dtype), (1, extent, extent, 1))
    matrix, _ = _along(eye, factor, interpolation, axis=1)
    return tf.reshape(matrix, (extent * factor, extent))


def _by_phases(x, size, interpolation):
    """Rows, then columns."""
    y, rows_backward = _along(x, size[0], interpolation, axis=1)
    y, columns_backward = _along(y, size[1], interpolation, axis=2)
    return y, lambda dy: rows_backward(columns_backward(dy))


def _along(x, factor, interpolation, axis):
    """One axis: new pixels at the same place between old ones are sums with the same weights."""
    n, h, w, c = dimensions(x)
    interpolate = functools.partial(
        _weighted_neighbours, weights=_phase_weights(interpolation, factor), axis=axis
    )
    extent = (1, h, 1, 1) if axis == 1 else (1, 1, w, 1)
    # Less than 1 at the border, where some of the neighbours are not there.
    scale = 1 / interpolate(tf.ones(extent, x.dtype))[0]
    y, interpolate_backward = interpolate(x)
    return y * scale, lambda dy: interpolate_backward(dy * scale)


def _weighted_neighbours(x, weights, axis):
    """y[f * h + r] = sum over k of weights[r, k] * x[h + k - R], zeros outside of x."""
    factor, taps = weights.shape
    reach = taps // 2
    n, h, w, c = shape = dimensions(x)
    if axis == 1:
        pads, kernel, block = ((reach, reach), (0, 0)), (taps, 1), (factor, 1)
        y_shape = (n, h * factor, w, c)
    else:
        pads, kernel, block = ((0, 0), (reach, reach)), (1, taps), (1, factor)
        y_shape = (n, h, w * factor, c)
    padded = pad(x, pads)
    padded_shape = dimensions(padded)
    neighbours = windows(padded, kernel, (1, 1))
    phases = [_weighted_sum(neighbours, row) for row in weights]

    def backward(dy):
        dphases = windows(dy, block, block)
        dneighbours = [_weighted_sum(dphases, column) for column in weights.T]
        dpadded = windows_adjoint(dneighbours, padded_shape, kernel, (1, 1))
        return pad_adjoint(dpadded, pads, shape)

    return windows_adjoint(phases, y_shape, block, block), backward


def _weighted_sum(tensors, weights):
    terms = [t * tf.cast(w, t.dtype) for t, w in zip(tensors, weights) if w]
    return tf.add_n(terms) if terms else tf.zeros_like(tensors[0])


def _phase_weights(interpolation, factor):
    """k(u - h) for each new pixel of one old one (row) and the old ones about it (column)."""
    kernel, reach = KERNELS[interpolation]
    place = (np.arange(factor) + 0.5) / factor - 0.5
    if interpolation == "bicubic":
        place = np.rint(place * 1024) / 1024
    return kernel(np.abs(place[:, None] - np.arange(-reach, reach + 1)))


def _triangle(d):
    return np.maximum(0, 1 - d)


def _cubic(d):
    near, far = (1.5 * d - 2.5) * d * d + 1, ((2.5 - 0.5 * d) * d - 4) * d + 2
    return np.where(d < 1, near, np.where(d < 2, far, 0))


def _lanczos(d, radius):
    return np.where(d < radius, np.sinc(d) * np.sinc(d / radius), 0)


KERNELS = {
    "bilinear": (_triangle, 1),
    "bicubic": (_cubic, 2),
    "lanczos3": (functools.partial(_lanczos, radius=3), 3),
    "lanczos5": (functools.partial(_lanczos, radius=5), 5),
}


@register
class UpSampling2D(CheckedImages, keras.layers.UpSampling2D):
    """`keras.layers.UpSampling2D` on the op `upsample2d`.

    Every interpolation works under XLA, and in float64 is computed in float64. With images of
    whole numbers, Keras's own arithmetic runs.

    Raises:
        ValueError: for an unknown interpolation.
    """

    def __init__(self, size=(2, 2), data_format=None, interpolation="nearest", **kwargs):
        super().__init__(size, data_format, interpolation, **kwargs)
        known = ("nearest", *KERNELS)
        if self.interpolation not in known:
            raise ValueError(
                f"`interpolation` must be one of {', '.join(known)}. "
                f"Received: interpolation={interpolation}"
            )

        self.takes = None if self.interpolation == "nearest" else (FLOAT, INTEGER)

    def call(self, inputs):
        if not inputs.dtype.is_floating:  # Keras rounds; there is no gradient
            return super().call(inputs)
        return upsample2d(inputs, size=self.size, interpolation=self.interpolation,
                          data_format=self.data_format)
