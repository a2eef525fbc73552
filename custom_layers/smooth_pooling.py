"""Pooling without a choice: the norm of each window (L2), its average weighted by distance."""

import math

import keras
import tensorflow as tf

from custom_layers.checks import Checked, check_finite
from custom_layers.empty_batch import right_on_empty_batch
from custom_layers.gradient import differentiable
from custom_layers.registration import register
from custom_layers.tracing import compiled_by_xla
from custom_layers.windows import (
    channels_last,
    dimensions,
    output_size,
    pad,
    pad_adjoint,
    resolve_padding,
    windows,
    windows_adjoint,
)


@differentiable
def l2_pool(x, *, pool_size=(2, 2), strides=(2, 2), padding="valid", data_format="channels_last"):
    """The Euclidean norm of each window.

    Forward:   y[n,p,q,c] = sqrt(sum over i,j of x[n, p*S + i, q*S + j, c]^2)
    Backward:  dx = x * (sum of dy / y over the windows that x is in)
    Shapes:    x (N, H, W, C) -> y (N, OH, OW, C);
               channels_first: x (N, C, H, W) -> y (N, C, OH, OW)
    Kinks:     a window of zeros, the tip of a cone: it gets 0 (the slopes around are within +-1)
    Half-precision x is squared and summed in float32.
    Source:    Goodfellow, Bengio, Courville, Deep Learning, 2016, section 9.3. The sum, not the
               mean, of the squares.
    """

    def pool(x):
        settings = pool_size, strides, padding
        rows, columns = ([1.0] * k for k in pool_size)
        wide = widened(x)
        squares, sum_backward = window_sum(wide * wide, rows, columns, *settings[1:])
        # The inner `where` keeps the slope of the root, infinite at 0, out of second derivatives.
        some, one, zero = squares > 0, tf.ones((), wide.dtype), tf.zeros((), wide.dtype)
        y = tf.where(some, tf.sqrt(tf.where(some, squares, one)), zero)

        def backward(dy):
            slope = tf.math.divide_no_nan(tf.cast(dy, wide.dtype), y)
            return tf.cast(widened(x) * sum_backward(slope), x.dtype)

        return tf.cast(y, x.dtype), backward

    return channels_last(pool, x, data_format)


@differentiable
@right_on_empty_batch
def gaussian_pool(x, *, pool_size=(3, 3), strides=(2, 2), padding="valid", sigma=None,
                  data_format="channels_last"):
    """The average of each window, weighted by the distance from its centre.

    Forward:   y[n,p,q,c] = sum over i,j of w[i,j] x[n, p*S + i, q*S + j, c] / sum of w[i,j],
               w[i,j] = exp(-((i - (kh-1)/2)^2 / (2 sigma_h^2) + (j - (kw-1)/2)^2 / (2 sigma_w^2))),
               both sums over the positions inside the image (padding does not count)
    Backward:  dx = the same weights read from y to x (the adjoint)
    Shapes:    x (N, H, W, C) -> y (N, OH, OW, C);
               channels_first: x (N, C, H, W) -> y (N, C, OH, OW)
    Settings:  sigma: in pixels, a number or (rows, columns); None: a quarter of the window, which
               then ends two sigma from its centre. In a 2 x 2 window all are equally far: the
               average.
    Half-precision x is summed in float32.
    Source:    Goodfellow, Bengio, Courville, Deep Learning, 2016, section 9.3 (the weighted
               average based on the distance from the central pixel; the bell is our choice).
    """
    sigmas = [k / 4 for k in pool_size] if sigma is None else sigma
    sigmas = (sigmas, sigmas) if isinstance(sigmas, (int, float)) else sigmas
    rows, columns = (_bell(k, s) for k, s in zip(pool_size, sigmas))

    def pool(x):
        wide, dtype = widened(x), x.dtype
        total, sum_backward = window_sum(wide, rows, columns, strides, padding)
        if padding == "same":
            inside = _weight_inside(x, rows, columns, strides, total.dtype)
        else:
            inside = tf.ones((), total.dtype)

        def backward(dy):
            return tf.cast(sum_backward(tf.cast(dy, total.dtype) / inside), dtype)

        return tf.cast(total / inside, dtype), backward

    return channels_last(pool, x, data_format)


def window_sum(x, rows, columns, strides, padding):
    """The weighted sum of each window of `x` (NHWC), as (y, backward); padding counts as 0.

    y[n,p,q,c] = sum over i,j of rows[i] columns[j] x[n, p*S + i, q*S + j, c]. The kernels of a
    plain graph and XLA are fast at different things.
    """
    kernel = len(rows), len(columns)
    pads = resolve_padding(x, kernel, strides, padding)
    shape, x = dimensions(x), pad(x, pads)
    if compiled_by_xla():
        y, backward = _by_views(x, rows, columns, strides)
    elif len({*rows}) == 1 and len({*columns}) == 1:
        y, backward = _by_average_pooling(x, rows, columns, strides)
    elif strides[0] == strides[1]:
        y, backward = _by_convolution(x, rows, columns, strides)
    else:  # TensorFlow's depthwise convolutions take no unequal strides
        y, backward = _by_views(x, rows, columns, strides)
    return y, lambda dy: pad_adjoint(backward(dy), pads, shape)


def _by_average_pooling(x, rows, columns, strides):
    shape, scale = tf.shape(x), tf.cast(sum(rows) * sum(columns), x.dtype)
    settings = dict(ksize=(1, len(rows), len(columns), 1), strides=(1, *strides, 1),
                    padding="VALID")

    def backward(dy):
        return tf.raw_ops.AvgPoolGrad(orig_input_shape=shape, grad=dy * scale, **settings)

    return tf.raw_ops.AvgPool(value=x, **settings) * scale, backward


def _by_convolution(x, rows, columns, strides):
    shape, (n, h, w, channels) = tf.shape(x), dimensions(x)
    kernel = tf.constant([[[[r * c]] for c in columns] for r in rows], x.dtype)
    kernel = tf.tile(kernel, (1, 1, channels, 1))
    settings = dict(filter=kernel, strides=(1, *strides, 1), padding="VALID")

    def backward(dy):
        return tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
            input_sizes=shape, out_backprop=dy, **settings
        )

    y = tf.raw_ops.DepthwiseConv2dNative(input=x, **settings)
    # TensorFlow's kernel gives an empty batch the shape of its input.
    size = [output_size(*of) for of in zip((h, w), (len(rows), len(columns)), strides)]
    return tf.reshape(y, (n, *size, channels)), backward


def _by_views(x, rows, columns, strides):
    """Rows first, then columns: kh + kw views of the image instead of kh * kw."""
    def one_axis(x, weights, kernel, strides):
        shape = dimensions(x)
        views = zip(weights, windows(x, kernel, strides))

        def backward(dy):
            return windows_adjoint([w * dy for w in weights], shape, kernel, strides)

        return tf.add_n([w * view for w, view in views]), backward

    middle, rows_backward = one_axis(x, rows, (len(rows), 1), (strides[0], 1))
    y, columns_backward = one_axis(middle, columns, (1, len(columns)), (1, strides[1]))
    return y, lambda dy: rows_backward(columns_backward(dy))


def _bell(size, sigma):
    """Gaussian weights around the middle of `size` pixels, their sum 1."""
    weights = [math.exp(-((i - (size - 1) / 2) ** 2) / (2 * sigma**2)) for i in range(size)]
    return [w / sum(weights) for w in weights]


def _weight_inside(x, rows, columns, strides, dtype):
    """The sum of the weights of each window that lie inside the image, (1, OH, OW, 1)."""
    kernel = len(rows), len(columns)
    pads = resolve_padding(x, kernel, strides, "same")
    sums = []
    for size, weights, s, (before, _) in zip(dimensions(x)[1:3], (rows, columns), strides, pads):
        first = tf.range(-(-size // s)) * s - before
        position = first[:, None] + tf.range(len(weights))
        inside = tf.cast((position >= 0) & (position < size), dtype)
        sums.append(tf.reduce_sum(inside * tf.constant(weights, dtype), 1))
    return (sums[0][:, None] * sums[1])[None, :, :, None]


def widened(x):
    """`x`, in float32 where it is of half precision."""
    return tf.cast(x, tf.float32) if x.dtype in (tf.float16, tf.bfloat16) else x


class PoolingLayer(Checked, keras.layers.Layer):
    """What the pooling layers that Keras lacks share: Keras's arguments, checks and shapes."""

    def __init__(self, pool_size=(2, 2), strides=None, padding="valid", data_format=None,
                 **kwargs):
        super().__init__(**kwargs)
        self.pool_size = _positive_pair("pool_size", pool_size)
        self.strides = self.pool_size if strides is None else _positive_pair("strides", strides)
        self.padding = str(padding).lower()
        self.data_format = data_format or keras.config.image_data_format()
        if self.padding not in ("valid", "same"):
            raise ValueError(f"`padding` must be 'valid' or 'same'. Received: padding={padding}")
        if self.data_format not in ("channels_last", "channels_first"):
            raise ValueError(
                "`data_format` must be 'channels_last' or 'channels_first'. "
                f"Received: data_format={data_format}"
            )
        self.input_spec = keras.layers.InputSpec(ndim=4)

    @property
    def settings(self):
        """The arguments of the layer's op."""
        return dict(pool_size=self.pool_size, strides=self.strides, padding=self.padding,
                    data_format=self.data_format)

    def compute_output_shape(self, input_shape):
        shape = list(input_shape)
        rows = 1 if self.data_format == "channels_last" else 2
        for axis, k, s in zip((rows, rows + 1), self.pool_size, self.strides):
            size = shape[axis]
            if size is not None and (size < 1 or self.padding == "valid" and size < k):
                raise ValueError(
                    f"The window of layer {self.name} does not fit into its image. Received: "
                    f"inputs.shape={tuple(input_shape)}, pool_size={self.pool_size}, "
                    f"padding={self.padding}, data_format={self.data_format}"
                )
            if size is not None:
                shape[axis] = -(-size // s) if self.padding == "same" else (size - k) // s + 1
        return tuple(shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}


def _positive_pair(name, value):
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
        raise ValueError(
            f"`{name}` must be an integer > 0 or two of them, (rows, columns). "
            f"Received: {name}={value}"
        )
    return pair


@register
class L2Pooling2D(PoolingLayer):
    """The op `l2_pool` as a layer: the square root of the sum of squares in each window.

    Args:
        pool_size, strides, padding, data_format: as `keras.layers.AveragePooling2D`.
    """

    def call(self, inputs):
        self.compute_output_shape(inputs.shape)  # its checks
        return l2_pool(inputs, **self.settings)


@register
class GaussianPooling2D(PoolingLayer):
    """The op `gaussian_pool` as a layer: an average weighted by distance from the centre.

    Args:
        sigma: of the Gaussian weights, in pixels: a number, or two (rows, columns). None, the
            default: a quarter of the window.
        pool_size, strides, padding, data_format: as `keras.layers.AveragePooling2D`.
    """

    def __init__(self, pool_size=(3, 3), strides=None, padding="valid", sigma=None, **kwargs):
        super().__init__(pool_size, strides, padding, **kwargs)
        sigmas = (sigma,) if isinstance(sigma, (int, float)) else tuple(sigma or ())
        if sigma is not None and (len(sigmas) not in (1, 2) or not all(s > 0 for s in sigmas)):
            raise ValueError(
                "`sigma` must be a number > 0, two of them (rows, columns), or None. "
                f"Received: sigma={sigma}"
            )
        check_finite(**{"sigma": max(sigmas)} if sigmas else {})
        self.sigma = None if sigma is None else sigmas[0] if len(sigmas) == 1 else sigmas

    def call(self, inputs):
        self.compute_output_shape(inputs.shape)  # its checks
        return gaussian_pool(inputs, sigma=self.sigma, **self.settings)

    def get_config(self):
        return {**super().get_config(), "sigma": self.sigma}
