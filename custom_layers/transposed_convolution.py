"""Transposed convolution: the op `conv2d_transpose`, its layer, and FCN's initial values."""

import functools

import keras
import numpy as np
import tensorflow as tf

from custom_layers.activations import activate
from custom_layers.checks import CheckedImages
from custom_layers.convolution_algorithms import native, with_bias
from custom_layers.empty_batch import right_on_empty_batch
from custom_layers.gradient import differentiable
from custom_layers.registration import register
from custom_layers.windows import channels_last, dimensions


@differentiable
@right_on_empty_batch
def conv2d_transpose(x, w, b=None, *, strides=(1, 1), padding="valid", output_padding=None,
                     dilation=(1, 1), data_format="channels_last"):
    """Transposed convolution: the adjoint of `conv2d`, with an optional bias.

    Forward:   y[n,p,q,o] = b[o] + sum of x[n,r,s,c] * w[i,j,o,c] over all r,s,i,j,c with
               r*S + i*D = p + (rows of padding above),  s*S + j*D likewise:
               each x paints w, scaled by x, onto y at S times its place
    Backward:  dx = conv2d(dy, w),
               dw[i,j,o,c] = sum over n,r,s of dyp[n, r*S + i*D, s*S + j*D, o] * x[n,r,s,c]
               with dyp the padded dy,  db[o] = sum over n,p,q of dy[n,p,q,o]
    Shapes:    x (N, H, W, C), w (FH, FW, O, C), b (O,) or None -> y (N, OH, OW, O); with
               F = D * (FH - 1) + 1 the reach of the kernel and P = output_padding
               "valid":  OH = (H - 1) * S + F + P,      where P is None (H - 1) * S + max(F, S)
               "same":   OH = (H - 1) * S + F % 2 + P,  where P is None H * S
               channels_first: x (N, C, H, W) -> y (N, O, OH, OW)
    Settings:  output_padding None or a pair
    Second derivatives are right.
    Raises:    ValueError for strides > 1 together with dilation > 1
    Source:    Zeiler, Krishnan, Taylor, Fergus, Deconvolutional Networks, CVPR 2010; Dumoulin,
               Visin, A Guide to Convolution Arithmetic, 2016, chapter 4.
    """
    if max(strides) > 1 and max(dilation) > 1:
        raise ValueError(
            "`strides` or `dilation` of `conv2d_transpose` must be 1. "
            f"Received: strides={strides}, dilation={dilation}"
        )
    adjoint = _adjoint_dilated if max(dilation) > 1 else _adjoint

    def paint(x):
        n, height, width, _ = dimensions(x)
        rows, columns = (
            transposed_size(size, *axis)
            for size, *axis in zip((height, width), w.shape[:2], strides, dilation,
                                   output_padding or (None, None), (padding, padding))
        )
        shape = (n, rows, columns, w.shape[2])
        return with_bias(*adjoint(x, w, shape, strides=strides, padding=padding,
                                  dilation=dilation), b)

    return channels_last(paint, x, data_format)


def transposed_size(size, kernel, stride, dilation, output_padding, padding):
    """OH of `conv2d_transpose`: the size of an image that conv2d maps to one of `size`."""
    reach = dilation * (kernel - 1) + 1
    if padding == "same":
        return size * stride if output_padding is None else (
            (size - 1) * stride + reach % 2 + output_padding)
    if output_padding is None:
        output_padding = max(reach, stride) - reach
    return (size - 1) * stride + reach + output_padding


def _adjoint(x, w, shape, strides, padding, dilation):
    """TensorFlow's kernels of conv2d, each in the place of another."""
    settings = {"strides": (1, *strides, 1), "padding": padding.upper()}
    w_shape = tf.shape(w)

    def backward(dy):
        dx = tf.raw_ops.Conv2D(input=dy, filter=w, **settings)
        dw = tf.raw_ops.Conv2DBackpropFilter(
            input=dy, filter_sizes=w_shape, out_backprop=x, **settings
        )
        return dx, dw

    y = tf.raw_ops.Conv2DBackpropInput(
        input_sizes=tf.stack(shape), filter=w, out_backprop=x, **settings
    )
    return y, backward


def _adjoint_dilated(x, w, shape, **settings):
    """The backward pass of the dilated conv2d, whose forward a graph then leaves out."""
    _, convolve_backward = native(tf.zeros(shape, x.dtype), w, **settings)

    def backward(dy):
        dx, dw_of = native(dy, w, **settings)
        return dx, dw_of(x)[1]

    return convolve_backward(x)[0], backward


@register
class Conv2DTranspose(CheckedImages, keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` on the op `conv2d_transpose`.

    Raises:
        ValueError: also for `padding="same"` with an even kernel and an `output_padding` of 0,
            an image that no convolution maps to the input.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.padding != "same" or self.output_padding is None:
            return
        for k, d, p in zip(self.kernel_size, self.dilation_rate, self.output_padding):
            if (d * (k - 1) + 1) % 2 == 0 and p == 0:
                raise ValueError(
                    "With `padding='same'` an even kernel needs an `output_padding` of at least "
                    f"1, or None. Received: output_padding={self.output_padding}, "
                    f"kernel_size={self.kernel_size}"
                )

    def call(self, inputs):
        op = functools.partial(
            conv2d_transpose.pair,
            strides=self.strides,
            padding=self.padding,
            output_padding=self.output_padding,
            dilation=self.dilation_rate,
            data_format=self.data_format,
        )
        return activate(op, (inputs, self.kernel, self.bias), self.activation)


@register
class BilinearUpsampling(keras.initializers.Initializer):
    """Initial values that make a `Conv2DTranspose` an upsampling, each map by itself.

    w[i,j,o,c] = t[i] * t[j] where o = c, else 0,  t[i] = 1 - |i - centre| / F with
    F = floor((FH + 1) / 2) and centre = (FH - 1) / 2. A kernel of size 2S - S % 2 with stride
    S and padding "same" then interpolates bilinearly (zeros beyond the border).

    Source: Long, Shelhamer, Darrell, Fully Convolutional Networks, CVPR 2015, section 3.3.

    Raises:
        ValueError: where the kernel is not of shape (FH, FW, C, C).
    """

    def __call__(self, shape, dtype=None, **kwargs):
        if len(shape) != 4 or shape[2] != shape[3]:
            raise ValueError(
                "`BilinearUpsampling` needs a kernel of shape (height, width, maps, maps): as "
                f"many filters as input maps. Received: shape={tuple(shape)}"
            )
        rows, columns = (
            1 - np.abs(np.arange(k) - (k - 1) / 2) / ((k + 1) // 2) for k in shape[:2]
        )
        kernel = np.einsum("i,j,oc->ijoc", rows, columns, np.eye(shape[2]))
        return tf.cast(kernel, dtype or keras.config.floatx())
