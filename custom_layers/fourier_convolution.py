"""Convolution by its theorem: among frequencies it is a product, of each by itself."""

import numpy as np
import tensorflow as tf

from custom_layers.smooth_pooling import widened
from custom_layers.windows import dimensions, pad, pad_adjoint, resolve_padding


def fft(x, w, *, strides, padding, dilation):
    """Fourier transforms of overlapping tiles ("overlap-save"), in few products of matrices.

    Forward:   y = G' (S x * K w):  S takes each tile of x to its frequencies, K the kernel to the
               conjugates of its own, * is a product of channels at each frequency, and G' goes
               back to those pixels of a tile that do not see its other end
    Backward:  all three are linear, ' is the adjoint:
               dx = S' (G dy * (K w)'),  dw = K' ((S x)' * G dy)
    A result of a 7x7 kernel takes a sixth of the multiplications. Keeps x; half precision is
    computed in float32.
    Source:    Mathieu, Henaff, LeCun, Fast Training of Convolutional Networks through FFTs, 2014;
               tiles: Vasilache et al., Fast Convolutional Nets With fbfft, ICLR 2015, section 6.
    """
    dtype, shape = x.dtype, dimensions(x)
    pads = resolve_padding(x, w.shape[:2], strides, padding, dilation)
    sizes = [size + sum(p) for size, p in zip(shape[1:3], pads)]
    axes = _axes(sizes, w.shape[:2], dilation)
    outputs = [axis.outputs for axis in axes]
    analysis, synthesis = _analysis(axes), _synthesis(axes)
    kernel = _Kernel(axes, w)

    def frequencies(x, w):
        return analysis(pad(widened(x), pads)), kernel(widened(w))

    def backward(dy):
        with tf.control_dependencies([dy]):  # else the frequencies would be kept
            x_again, w_again = tf.identity(x), tf.identity(w)
        xf, wf = frequencies(x_again, w_again)
        dyf = synthesis(_spread(widened(dy), strides, outputs))
        dx = analysis.adjoint(tf.matmul(dyf, wf, transpose_b=True), (shape[0], *sizes))
        dw = kernel.adjoint(tf.matmul(xf, dyf, transpose_a=True))
        return tf.cast(pad_adjoint(dx, pads, shape), dtype), tf.cast(dw, dtype)

    y = synthesis.adjoint(tf.matmul(*frequencies(x, w)), (shape[0], *outputs))
    return tf.cast(y[:, ::strides[0], ::strides[1]], dtype), backward


def _spread(dy, strides, size):
    """The adjoint of taking every `strides` pixel of an image of `size`."""
    if tuple(strides) == (1, 1):
        return dy
    (sh, sw), (n, oh, ow, c), none = strides, dimensions(dy), (0, 0)
    apart = tf.pad(dy[:, :, None, :, None], (none, none, (0, sh - 1), none, (0, sw - 1), none))
    return tf.slice(tf.reshape(apart, (n, oh * sh, ow * sw, c)), (0, 0, 0, 0), (n, *size, c))


def _axes(sizes, kernel, dilation):
    """Those of height and width, with tiles of about the least work.

    A tile costs the square of its window, and so does the kernel, as much as A = 28 tiles of one
    image (measured: batches of 2, 64 channels, two cores). Of P outputs (t + reach)^2 (P / t^2 + A)
    is the least where t^3 = reach P / A.
    """
    reaches = [d * (k - 1) for k, d in zip(kernel, dilation)]
    outputs = [size - reach for size, reach in zip(sizes, reaches)]
    known = all(isinstance(n, int) for n in outputs)
    pixels = outputs[0] * outputs[1] if known else 128**2
    return [_Axis(n, k, d, max(1, reach, round((reach * pixels / 28) ** (1 / 3))), values)
            for n, k, d, reach, values in zip(outputs, kernel, dilation, reaches,
                                              ("real", "complex"))]


class _Axis:
    """The tiles along the height or the width of an image, and the waves of their frequencies.

    Attributes:
        outputs: how many places the kernel has.
        step, window: pixels from a tile to the next, and pixels of a tile.
        count: tiles.
        frequencies: of a tile; of real values, half of them say it all.
        taps: the kernel's pixels in a tile.
    """

    def __init__(self, outputs, taps, dilation, step, values):
        self.outputs, self.step = outputs, step
        if isinstance(outputs, int):
            self.step = -(-outputs // max(1, outputs // step))
        self.count = -(-outputs // self.step)
        self.window = self.step + dilation * (taps - 1)
        self.frequencies = self.window // 2 + 1 if values == "real" else self.window
        self.taps = dilation * np.arange(taps)

    def angles(self, pixels):
        """(frequencies, pixels)"""
        return np.outer(2 * np.pi / self.window * np.arange(self.frequencies), pixels)


def _analysis(axes):
    """From the tiles of an image to their frequencies."""
    return _Map(axes, [axis.window for axis in axes], np.ones(axes[0].frequencies))


def _synthesis(axes):
    """The map whose adjoint takes frequencies to the pixels that belong to one tile each.

    Of a row's frequencies but the first and, of even windows, the last, each stands for two.
    """
    rows, columns = axes
    each = np.full(rows.frequencies, 2.0)
    each[0] = 1
    if rows.window % 2 == 0:
        each[-1] = 1
    return _Map(axes, [axis.step for axis in axes], each / (rows.window * columns.window))


class _Map:
    """The linear map from images to the frequencies of the first `pixels` of each tile.

    Shapes: (N, H, W, C) -> (frequencies of rows times those of columns, tiles, 2 C), the real
    parts of all channels before the imaginary ones.
    """

    def __init__(self, axes, pixels, scale):
        self.axes, self.pixels = axes, pixels
        rows, columns = (axis.angles(np.arange(n)) for axis, n in zip(axes, pixels))
        real = np.stack([np.cos(rows), -np.sin(rows)], 1) * scale[:, None, None]
        self.of_rows = real.reshape(-1, pixels[0])  # two of each frequency: real, imaginary
        cos, sin = np.cos(columns), np.sin(columns)
        self.of_columns = np.block([[cos, sin], [-sin, cos]])

    def __call__(self, x):
        (rows, columns), (height, width) = self.axes, self._size()
        n, h, w, c = dimensions(x)
        x = tf.pad(x, ((0, 0), (0, height - h), (0, width - w), (0, 0)))
        x = _cut(tf.reshape(x, (n, height, width * c)), rows, self.pixels[0])
        x = tf.matmul(tf.constant(self.of_rows, x.dtype), x)
        x = _cut(tf.reshape(x, (-1, 2 * width, c)), columns, self.pixels[1], parts=2)
        x = tf.matmul(tf.constant(self.of_columns, x.dtype), x)
        x = tf.reshape(x, (n * rows.count, rows.frequencies, columns.count, 2,
                           columns.frequencies, c))
        x = tf.transpose(x, (1, 4, 0, 2, 3, 5))
        return tf.reshape(x, (rows.frequencies * columns.frequencies, -1, 2 * c))

    def adjoint(self, f, shape):
        """(N, H, W, C), of which `shape` gives all but C."""
        (rows, columns), (height, width) = self.axes, self._size()
        n, h, w = shape
        c = dimensions(f)[2] // 2
        f = tf.reshape(f, (rows.frequencies, columns.frequencies, n * rows.count, columns.count,
                           2, c))
        f = tf.reshape(tf.transpose(f, (2, 0, 3, 4, 1, 5)), (-1, 2 * columns.frequencies, c))
        f = tf.matmul(tf.constant(self.of_columns.T, f.dtype), f)
        f = _join(f, columns, self.pixels[1], parts=2)
        f = tf.reshape(f, (n * rows.count, 2 * rows.frequencies, width * c))
        f = tf.matmul(tf.constant(self.of_rows.T, f.dtype), f)
        f = _join(f, rows, self.pixels[0])
        return tf.reshape(f, (n, height, width, c))[:, :h, :w]

    def _size(self):
        """Of an image that the tiles just cover."""
        return [axis.count * axis.step + n - axis.step for axis, n in zip(self.axes, self.pixels)]


def _cut(x, axis, pixels, parts=1):
    """(B, parts * size, R) -> (B * tiles, parts * pixels, R): a line cut into tiles."""
    first = tf.range(axis.count)[:, None, None] * axis.step
    size = axis.count * axis.step + pixels - axis.step
    place = first + tf.range(parts)[:, None] * size + tf.range(pixels)
    tiles = tf.gather(x, tf.reshape(place, [-1]), axis=1)
    return tf.reshape(tiles, (-1, parts * pixels, dimensions(x)[2]))


def _join(tiles, axis, pixels, parts=1):
    """The adjoint of `_cut`: what tiles share is added."""
    rest = dimensions(tiles)[2]
    tiles = tf.reshape(tiles, (-1, axis.count, parts, pixels, rest))
    tiles = tf.transpose(tiles, (0, 2, 1, 3, 4))
    shared = pixels - axis.step
    if not shared or isinstance(axis.count, int) and axis.count == 1:
        return tf.reshape(tiles, (-1, parts * axis.count * pixels, rest))
    own, over = tiles[:, :, :, :axis.step], tiles[:, :, :, axis.step:]
    none, size = (0, 0), axis.count * axis.step
    over = tf.pad(over, (none, none, none, (0, axis.step - shared), none))
    own, over = (tf.reshape(t, (-1, parts, size, rest)) for t in (own, over))
    whole = tf.pad(own, (none, none, (0, shared), none)) + tf.pad(
        over, (none, none, (axis.step, 0), none))[:, :, :size + shared]
    return tf.reshape(whole, (-1, parts * (size + shared), rest))


class _Kernel:
    """The linear map from kernels (FH, FW, C, O) to factors (frequencies, 2 C, 2 O).

    Each is the product by the conjugate re + i im as a matrix of real numbers:
    (a, b) [[re, im], [-im, re]] = (a re - b im, a im + b re).
    """

    def __init__(self, axes, w):
        rows, columns = (axis.angles(axis.taps) for axis in axes)
        angles = rows[:, None, :, None] + columns[:, None, :]
        self.waves = np.stack([np.cos(angles), np.sin(angles)]).reshape(
            -1, rows.shape[1] * columns.shape[1])
        self.shape = dimensions(w)

    def __call__(self, w):
        *_, c, o = self.shape
        parts = tf.matmul(tf.constant(self.waves, w.dtype), tf.reshape(w, (-1, c * o)))
        re, im = tf.unstack(tf.reshape(parts, (2, -1, c, o)))
        return tf.concat([tf.concat([re, im], 2), tf.concat([-im, re], 2)], 1)

    def adjoint(self, df):
        *_, c, o = self.shape
        (re, im), (minus_im, again) = (
            tf.split(row, 2, 2) for row in tf.split(df, 2, 1))
        parts = tf.reshape(tf.stack([re + again, im - minus_im]), (-1, c * o))
        return tf.reshape(tf.matmul(tf.constant(self.waves, df.dtype), parts, transpose_a=True),
                          self.shape)
