"""Sliding windows over images (NHWC), shared by convolution and pooling.

Each function stands next to its adjoint: what one copies out, the other adds back in.
"""

import tensorflow as tf


def dimensions(x):
    """The shape of `x` as a list: integers where they are known, scalar tensors elsewhere."""
    if x.shape.is_fully_defined():
        return x.shape.as_list()
    return [s if s is not None else d for s, d in zip(x.shape, tf.unstack(tf.shape(x)))]


def channels_last(pair, x, data_format):
    """`pair(x)`, a function for NHWC images, on images of either format.

    The image's gradient is the first, or the only one, that its backward returns. XLA and
    TensorFlow's layout optimiser cancel the transpositions between layers.
    """
    if data_format == "channels_last":
        return pair(x)
    y, backward = pair(tf.transpose(x, (0, 2, 3, 1)))

    def transposed_backward(dy):
        gradients = backward(tf.transpose(dy, (0, 2, 3, 1)))
        dx, *others = gradients if isinstance(gradients, tuple) else (gradients,)
        dx = tf.transpose(dx, (0, 3, 1, 2))
        return (dx, *others) if others else dx

    return tf.transpose(y, (0, 3, 1, 2)), transposed_backward


def output_size(size, kernel, stride, padding=0, dilation=1):
    """floor((size + padding - dilation * (kernel - 1) - 1) / stride) + 1."""
    return (size + padding - dilation * (kernel - 1) - 1) // stride + 1


def resolve_padding(x, kernel, strides, padding, dilation=(1, 1)):
    """((top, bottom), (left, right)) for "valid", "same" or explicit `padding`.

    "same" pads so that the output size is ceil(size / stride), the odd row or column at the
    end, as TensorFlow does.
    """
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding != "same":
        return padding
    result = []
    for size, k, s, d in zip(dimensions(x)[1:3], kernel, strides, dilation):
        total = (-(-size // s) - 1) * s + d * (k - 1) + 1 - size
        total = max(total, 0) if isinstance(total, int) else tf.maximum(total, 0)
        result.append((total // 2, total - total // 2))
    return tuple(result)


def pad(x, pads, value=0):
    """`x` with `pads` rows and columns of `value` around it."""
    if _is_nothing(pads):
        return x
    return tf.pad(x, ((0, 0), *pads, (0, 0)), constant_values=tf.cast(value, x.dtype))


def pad_adjoint(dy, pads, shape):
    """The part of `dy` that belongs to the image of `shape` (N, H, W, C) inside the padding."""
    if _is_nothing(pads):
        return dy
    (top, _), (left, _) = pads
    return tf.slice(dy, (0, top, left, 0), shape)


def _is_nothing(pads):
    return all(isinstance(p, int) and p == 0 for side in pads for p in side)


def windows(x, kernel, strides, dilation=(1, 1)):
    """What each kernel position sees, in row-major order: kh * kw images of the output's size.

    Position (i, j) sees rows i * dilation + stride * (0 .. OH-1) of `x`, columns likewise.
    """
    n, h, w, c = dimensions(x)
    if _tiles(kernel, strides, dilation):
        (kh, kw), (oh, ow) = kernel, (h // kernel[0], w // kernel[1])
        tiles = tf.reshape(x[:, : oh * kh, : ow * kw], (n, oh, kh, ow, kw, c))
        return [tiles[:, :, i, :, j] for i in range(kh) for j in range(kw)]
    return [
        tf.strided_slice(x, begin, end, steps, begin_mask=9, end_mask=9)
        for begin, end, steps in _bounds((h, w), kernel, strides, dilation)
    ]


def windows_adjoint(dwindows, shape, kernel, strides, dilation=(1, 1)):
    """Adds each of `dwindows` to the places of an image of `shape` that `windows` took it from."""
    n, h, w, c = shape
    if _tiles(kernel, strides, dilation):
        (kh, kw), (oh, ow) = kernel, (h // kernel[0], w // kernel[1])
        rows = [tf.concat(dwindows[i * kw:(i + 1) * kw], 3) for i in range(kh)]
        rows = [tf.reshape(row, (n, oh, 1, ow * kw * c)) for row in rows]
        dx = tf.reshape(tf.concat(rows, 2), (n, oh * kh, ow * kw, c))
        return tf.pad(dx, ((0, 0), (0, h - oh * kh), (0, w - ow * kw), (0, 0)))
    return tf.add_n(
        [
            tf.raw_ops.StridedSliceGrad(
                shape=shape, begin=begin, end=end, strides=steps, dy=d, begin_mask=9, end_mask=9
            )
            for d, (begin, end, steps) in zip(dwindows, _bounds((h, w), kernel, strides, dilation))
        ]
    )


def _tiles(kernel, strides, dilation):
    """Windows that lie side by side are one reshape, much cheaper than strided slices."""
    return tuple(kernel) == tuple(strides) and tuple(dilation) == (1, 1)


def _bounds(size, kernel, strides, dilation):
    """Begin, end and step of every position's strided slice (masked in batch and channels)."""
    oh, ow = (output_size(n, k, s, 0, d) for n, k, s, d in zip(size, kernel, strides, dilation))
    (sh, sw), (dh, dw) = strides, dilation
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * dh, j * dw
            end = (0, top + (oh - 1) * sh + 1, left + (ow - 1) * sw + 1, 0)
            yield (0, top, left, 0), end, (1, sh, sw, 1)
