"""Depthwise convolution: every input map has filters of its own."""

import functools

import keras
import tensorflow as tf

from custom_layers.activations import activate
from custom_layers.checks import CheckedWindows
from custom_layers.convolution import conv2d
from custom_layers.convolution_algorithms import with_bias
from custom_layers.empty_batch import right_on_empty_batch
from custom_layers.gradient import differentiable
from custom_layers.registration import register
from custom_layers.tracing import compiled_by_xla
from custom_layers.windows import (
    channels_last,
    dimensions,
    pad,
    pad_adjoint,
    resolve_padding,
    windows,
    windows_adjoint,
)


@differentiable
@right_on_empty_batch
def depthwise_conv2d(x, w, b=None, *, strides=(1, 1), padding="valid", dilation=(1, 1),
                     data_format="channels_last"):
    """Convolution of each input map with M filters of its own, with an optional bias.

    Forward:   y[n,p,q,c*M+m] = b[c*M+m]
                                + sum over i,j of xp[n, p*S + i*D, q*S + j*D, c] * w[i,j,c,m]
               with xp the padded x, S the stride, D the dilation
    Backward:  dx = the same sum read from y to x, cropped to x (the adjoint),
               dw[i,j,c,m] = sum over n,p,q of xp[n, p*S + i*D, q*S + j*D, c] * dy[n,p,q,c*M+m],
               db = sum over n,p,q of dy
    Shapes:    x (N, H, W, C), w (FH, FW, C, M), b (C*M,) or None -> y (N, OH, OW, C*M),
               OH as in conv2d; channels_first: x (N, C, H, W) -> y (N, C*M, OH, OW)
    Settings:  padding "valid", "same" or ((top, bottom), (left, right)); strides together with
               dilation, and strides that differ, are computed at stride 1 and thinned out
    Second derivatives are right.
    Source:    Sifre, Rigid-Motion Scattering for Image Classification, 2014, section 6.2;
               Chollet, Xception, CVPR 2017.
    """
    def convolve(x):
        return with_bias(*_convolve(x, w, strides, padding, dilation), b)

    return channels_last(convolve, x, data_format)


def _convolve(x, w, strides, padding, dilation):
    """TensorFlow's kernels where they can do it: one stride for both axes, no dilation."""
    if compiled_by_xla() and w.shape[0] * w.shape[1] <= 49:
        return _by_windows(x, w, strides, padding, dilation)
    if strides[0] == strides[1] and max(dilation) == 1 and isinstance(padding, str):
        return _native(x, w, strides, padding)
    pads = resolve_padding(x, w.shape[:2], strides, padding, dilation)
    everywhere, convolve_backward = _dilated(x, w, pads, dilation)
    shape = dimensions(everywhere)
    (y,) = windows(everywhere, (1, 1), strides)

    def backward(dy):
        return convolve_backward(windows_adjoint([dy], shape, (1, 1), strides))

    return y, backward


def _native(x, w, strides, padding):
    settings = {"strides": (1, *strides, 1), "padding": padding.upper()}
    x_shape, w_shape = tf.shape(x), tf.shape(w)

    def backward(dy):
        dx = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
            input_sizes=x_shape, filter=w, out_backprop=dy, **settings
        )
        dw = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
            input=x, filter_sizes=w_shape, out_backprop=dy, **settings
        )
        return dx, dw

    return tf.raw_ops.DepthwiseConv2dNative(input=x, filter=w, **settings), backward


def _dilated(x, w, pads, dilation):
    """At stride 1, on each of the D * D phases of the padded image (see conv2d's `_dilated`)."""
    sizes = dimensions(x)[1:3]
    extra = [-(size + sum(p)) % d for size, p, d in zip(sizes, pads, dilation)]
    in_pads = [(before, after + e) for (before, after), e in zip(pads, extra)]
    out_pads = [(0, e) for e in extra]
    phases = tf.space_to_batch(x, dilation, in_pads)
    y, convolve_backward = _native(phases, w, (1, 1), "valid")

    def backward(dy):
        dphases, dw = convolve_backward(tf.space_to_batch(dy, dilation, out_pads))
        return tf.ensure_shape(tf.batch_to_space(dphases, dilation, in_pads), x.shape), dw

    return tf.batch_to_space(y, dilation, out_pads), backward


def _by_windows(x, w, strides, padding, dilation):
    """A sum of products over the kernel's positions, which XLA makes one loop.

    XLA's own kernels took fifty times as long forward, seven times with the backward (on a CPU,
    3 x 3 over 64 x 32 x 32 x 32).
    """
    kernel, (c, m), half = w.shape[:2], w.shape[2:], x.dtype in (tf.float16, tf.bfloat16)
    dtype = tf.float32 if half else x.dtype
    pads = resolve_padding(x, kernel, strides, padding, dilation)
    shape, padded_shape = dimensions(x), dimensions(pad(x, pads))

    def views():
        """What each position sees, (N, OH, OW, C, 1): made again in the backward, not kept."""
        seen = windows(pad(x, pads), kernel, strides, dilation)
        return [tf.cast(view, dtype)[..., None] for view in seen]

    taps = tf.unstack(tf.cast(tf.reshape(w, (-1, c, m)), dtype))
    y = tf.add_n([view * tap for view, tap in zip(views(), taps)])
    n, oh, ow, _, _ = dimensions(y)

    def backward(dy):
        dy = tf.cast(tf.reshape(dy, (n, oh, ow, c, m)), dtype)
        dviews = [tf.reduce_sum(dy * tap, 4) for tap in taps]
        dpadded = windows_adjoint(dviews, padded_shape, kernel, strides, dilation)
        dw = tf.stack([tf.reduce_sum(view * dy, (0, 1, 2)) for view in views()])
        dx = pad_adjoint(dpadded, pads, shape)
        return tf.cast(dx, x.dtype), tf.cast(tf.reshape(dw, w.shape), w.dtype)

    return tf.cast(tf.reshape(y, (n, oh, ow, c * m)), x.dtype), backward


@differentiable
def separable_conv2d(x, w, v, b=None, *, strides=(1, 1), padding="valid", dilation=(1, 1),
                     data_format="channels_last"):
    """A depthwise convolution, whose maps a 1 x 1 convolution then combines.

    Forward:   z = depthwise_conv2d(x, w),  y = conv2d(z, v, b)
    Backward:  dz, dv, db = conv2d's backward of dy,  dx, dw = depthwise_conv2d's of dz
    Shapes:    x (N, H, W, C), w (FH, FW, C, M), v (1, 1, C*M, O), b (O,) or None
               -> y (N, OH, OW, O); channels_first: x (N, C, H, W) -> y (N, O, OH, OW)
    Settings:  those of depthwise_conv2d
    Second derivatives are right.
    Source:    Chollet, Xception, CVPR 2017.
    """
    z, depthwise_backward = depthwise_conv2d.pair(
        x, w, strides=strides, padding=padding, dilation=dilation, data_format=data_format
    )
    y, pointwise_backward = conv2d.pair(z, v, b, data_format=data_format)

    def backward(dy):
        dz, dv, db = pointwise_backward(dy)
        dx, dw, _ = depthwise_backward(dz)
        return dx, dw, dv, db

    return y, backward


def settings_of(layer):
    """The arguments of an op that a Keras convolution layer holds."""
    return dict(strides=layer.strides, padding=layer.padding, dilation=layer.dilation_rate,
                data_format=layer.data_format)


@register
class DepthwiseConv2D(CheckedWindows, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` on the op `depthwise_conv2d`. Strides may differ."""

    def call(self, inputs):
        op = functools.partial(depthwise_conv2d.pair, **settings_of(self))
        return activate(op, (inputs, self.kernel, self.bias), self.activation)


@register
class SeparableConv2D(CheckedWindows, keras.layers.SeparableConv2D):
    """`keras.layers.SeparableConv2D` on the op `separable_conv2d`. Strides may differ."""

    def call(self, inputs):
        op = functools.partial(separable_conv2d.pair, **settings_of(self))
        kernels = self.depthwise_kernel, self.pointwise_kernel
        return activate(op, (inputs, *kernels, self.bias), self.activation)
