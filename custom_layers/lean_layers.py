"""Which links a layer is made of: one table by type, stock layers and ours."""

import functools
import math

import keras
import tensorflow as tf
from keras.src.ops import numpy as keras_numpy

import custom_layers as ours
from custom_layers.activations import op_of
from custom_layers.activations import relu as general_relu
from custom_layers.convolution import conv1d, conv2d
from custom_layers.dense import dense
from custom_layers.depthwise import depthwise_conv2d, settings_of
from custom_layers.dropout import dropout
from custom_layers.global_pooling import global_max_pool
from custom_layers.group_norms import group_normalization, layer_normalization
from custom_layers.lean_links import (
    ACTIVATIONS,
    Bias,
    Dropout,
    Pair,
    clipped_relu,
    leaky_relu,
    our_dropout,
    relu,
    softmax,
    stock_dropout,
)
from custom_layers.lean_normalization import BatchNormalization, FrozenNormalization
from custom_layers.lean_pooling import MaxPool
from custom_layers.merging import add, concatenate, multiply
from custom_layers.pooling import average_pool, global_average_pool
from custom_layers.reshaping import flatten
from custom_layers.smooth_activations import gelu, scaled_tanh, silu
from custom_layers.transposed_convolution import conv2d_transpose
from custom_layers.upsampling import upsample2d

_MAKERS = {}


def links_of(layer, training):
    """The kinds of the links that `layer` is made of, in order; None where it has to run as stock.

    The last may be a function of Keras (an activation that no link knows): it runs as stock.
    """
    maker = _MAKERS.get(type(layer))
    if maker is None or getattr(layer, "lora_enabled", False):
        return None
    if getattr(layer, "quantization_mode", None) is not None:
        return None
    return maker(layer, training)


def _kinds(*names):
    """Registers a maker for the layers of these names, Keras's and ours."""
    def register(maker):
        for name in names:
            for module in (keras.layers, ours):
                if hasattr(module, name):
                    _MAKERS[getattr(module, name)] = maker
        return maker

    return register


def _activation(layer):
    """No link for the identity, one that is known, or the function itself."""
    activation = layer.activation
    if activation is None:
        return []
    if activation is keras.activations.gelu and type(layer).__module__.startswith("custom_layers"):
        return [Pair(gelu.pair)]  # without the rounding of TensorFlow's constant
    name = getattr(activation, "__name__", None)
    if activation is getattr(keras.activations, name or "", None) and name in ACTIVATIONS:
        kind = ACTIVATIONS[name]()
        return [] if kind is None else [kind]
    op = op_of(activation)
    return [Pair(op.pair) if op else activation]


def _convolution(op, kernels, **settings):
    """A link of a convolution. It is cheap where it has at most 32 products a result and makes
    much of little: that of an image's three colours, or of few channels (MobileNetV2).
    """
    *size, inputs, filters = kernels[0].shape
    widens = filters >= max(16, 2 * inputs * math.prod(settings.get("strides", ())))
    cheap = op is conv2d and math.prod(size) * inputs <= 32 and widens
    return Pair(functools.partial(op.pair, **settings), kernels, cheap=cheap)


def _ended(layer, *kinds):
    """`kinds`, then the layer's bias and its activation."""
    bias = [] if layer.bias is None else [Bias(layer.bias, getattr(
        layer, "data_format", "channels_last"))]
    return [*kinds, *bias, *_activation(layer)]


@_kinds("Conv2D")
def _(layer, training):
    return _ended(layer, _convolution(
        conv2d, (layer.kernel,), strides=layer.strides,
        padding=getattr(layer, "explicit_padding", None) or layer.padding,
        dilation=layer.dilation_rate, groups=layer.groups, data_format=layer.data_format,
        algorithm=getattr(layer, "algorithm", "native")))


@_kinds("Conv1D")
def _(layer, training):
    return _ended(layer, _convolution(
        conv1d, (layer.kernel,), stride=layer.strides[0], padding=layer.padding,
        dilation=layer.dilation_rate[0], groups=layer.groups, data_format=layer.data_format))


@_kinds("DepthwiseConv2D")
def _(layer, training):
    return _ended(layer, _convolution(depthwise_conv2d, (layer.kernel,), **settings_of(layer)))


@_kinds("SeparableConv2D")
def _(layer, training):
    depthwise = _convolution(depthwise_conv2d, (layer.depthwise_kernel,), **settings_of(layer))
    depthwise.channels = layer.pointwise_kernel.shape[-2]
    return _ended(
        layer, depthwise,
        _convolution(conv2d, (layer.pointwise_kernel,), data_format=layer.data_format))


@_kinds("Conv2DTranspose")
def _(layer, training):
    both = layer.output_padding
    return _ended(layer, _convolution(
        conv2d_transpose, (layer.kernel,), strides=layer.strides, padding=layer.padding,
        output_padding=(both, both) if isinstance(both, int) else both,
        dilation=layer.dilation_rate, data_format=layer.data_format))


@_kinds("Dense")
def _(layer, training):
    return _ended(layer, Pair(dense.pair, (layer.kernel,), cheap=False))


@_kinds("BatchNormalization")
def _(layer, training):
    if layer.renorm or layer.synchronized:
        return None
    return [(BatchNormalization if training and layer.trainable else FrozenNormalization)(layer)]


@_kinds("LayerNormalization")
def _(layer, training):
    axes = [layer.axis] if isinstance(layer.axis, int) else layer.axis
    pair = functools.partial(
        layer_normalization.pair, axes=axes, epsilon=layer.epsilon,
        rms_scaling=getattr(layer, "rms_scaling", False))
    return [_affine(pair, layer)]


@_kinds("GroupNormalization")
def _(layer, training):
    pair = functools.partial(group_normalization.pair, groups=layer.groups, axis=layer.axis,
                             epsilon=layer.epsilon)
    return [_affine(pair, layer)]


def _affine(pair, layer):
    """The op `pair(x, gamma, beta)` where the layer may lack either."""
    weights = [w for w in (layer.gamma, layer.beta) if w is not None]

    def given(x, *ws):
        ws = list(ws)
        gamma = None if layer.gamma is None else ws.pop(0)
        y, backward = pair(x, gamma, ws[0] if ws else None)
        return y, lambda dy: [d for d in backward(dy) if d is not None]

    kind = Pair(given, tuple(weights))
    kind.reads = "x"  # for dx too
    return kind


@_kinds("Activation")
def _(layer, training):
    return _activation(layer)


@_kinds("ReLU")
def _(layer, training):
    if not layer.negative_slope and not layer.threshold:
        return [relu() if layer.max_value is None else clipped_relu(layer.max_value)]
    if type(layer) is keras.layers.ReLU and layer.max_value is None and not layer.threshold:
        return [leaky_relu(layer.negative_slope)]  # as Keras does, which rounds it to float32
    return [Pair(functools.partial(
        general_relu.pair, negative_slope=layer.negative_slope,
        max_value=layer.max_value, threshold=layer.threshold))]


@_kinds("LeakyReLU")
def _(layer, training):
    return [leaky_relu(layer.negative_slope)] if layer.negative_slope > 0 else None


@_kinds("ELU")
def _(layer, training):
    return [ACTIVATIONS["elu"]()] if layer.alpha == 1 else None


@_kinds("Softmax")
def _(layer, training):
    return [softmax(layer.axis if isinstance(layer.axis, int) else tuple(layer.axis))]


@_kinds("Sigmoid", "Tanh")
def _(layer, training):
    return [ACTIVATIONS[type(layer).__name__.lower()]()]


@_kinds("SiLU")
def _(layer, training):
    return [Pair(silu.pair)]


@_kinds("GELU")
def _(layer, training):
    return [Pair(functools.partial(gelu.pair, approximate=layer.approximate))]


@_kinds("ScaledTanh")
def _(layer, training):
    return [Pair(functools.partial(
        scaled_tanh.pair, amplitude=layer.amplitude, slope=layer.slope))]


@_kinds("Dropout")
def _(layer, training):
    if not training or layer.rate == 0:
        return [] if getattr(layer, "scale_at", "training") == "training" else None
    if type(layer) is ours.Dropout:
        drop = our_dropout(dropout.pair, rate=layer.rate, noise_shape=layer.noise_shape,
                           scaled=layer.scale_at == "training")
    else:
        drop = stock_dropout(layer.rate, layer.noise_shape)
    return [Dropout(drop, layer.seed_generator)] if layer.rate < 1 else None


@_kinds("SpatialDropout2D")
def _(layer, training):
    if not training or layer.rate == 0:
        return []
    first = layer.data_format == "channels_first"
    noise_shape = (None, None, 1, 1) if first else (None, 1, 1, None)
    if type(layer) is ours.SpatialDropout2D:
        drop = our_dropout(dropout.pair, rate=layer.rate, noise_shape=noise_shape)
    else:
        drop = stock_dropout(layer.rate, noise_shape)
    return [Dropout(drop, layer.seed_generator)]


@_kinds("MaxPooling2D")
def _(layer, training):
    return [MaxPool(layer.pool_size, layer.strides, layer.padding, layer.data_format)]


@_kinds("AveragePooling2D")
def _(layer, training):
    return [Pair(functools.partial(
        average_pool.pair, pool_size=layer.pool_size, strides=layer.strides,
        padding=layer.padding, data_format=layer.data_format), reads="")]


@_kinds("GlobalAveragePooling2D", "GlobalAveragePooling1D")
def _(layer, training):
    rank = 3 if "1D" in type(layer).__name__ else 4
    last = layer.data_format == "channels_last"
    axes = tuple(range(1, rank - 1)) if last else tuple(range(2, rank))
    return [Pair(functools.partial(
        global_average_pool.pair, axes=axes, keepdims=layer.keepdims), reads="", cheap=False)]


@_kinds("GlobalMaxPooling2D")
def _(layer, training):
    axes = (1, 2) if layer.data_format == "channels_last" else (2, 3)
    return [Pair(functools.partial(
        global_max_pool.pair, axes=axes, keepdims=layer.keepdims), cheap=False)]


@_kinds("UpSampling2D")
def _(layer, training):
    return [Pair(functools.partial(
        upsample2d.pair, size=layer.size, interpolation=layer.interpolation,
        data_format=layer.data_format), reads="")]


@_kinds("ZeroPadding2D")
def _(layer, training):
    sides = ((0, 0), *layer.padding, (0, 0))
    if layer.data_format == "channels_first":
        sides = ((0, 0), (0, 0), *layer.padding)
    return [Pair(functools.partial(_pad, sides=sides), reads="", stock="")]


def _pad(x, *, sides):
    """Zeros around x; the adjoint takes them off."""
    shape = tf.shape(x)
    begin = [before for before, _ in sides]
    return tf.pad(x, sides), lambda dy: tf.ensure_shape(tf.slice(dy, begin, shape), x.shape)


@_kinds("Cropping2D")
def _(layer, training):
    sides = ((0, 0), *layer.cropping, (0, 0))
    if layer.data_format == "channels_first":
        sides = ((0, 0), (0, 0), *layer.cropping)
    return [Pair(functools.partial(_crop, sides=sides), reads="", stock="")]


def _crop(x, *, sides):
    """x without what lies at its sides; the adjoint puts zeros there."""
    shape = x.shape
    size = [s - before - after for s, (before, after) in zip(tf.unstack(tf.shape(x)), sides)]
    y = tf.slice(x, [before for before, _ in sides], size)
    return y, lambda dy: tf.ensure_shape(tf.pad(dy, sides), shape)


@_kinds("Flatten")
def _(layer, training):
    return [Pair(functools.partial(flatten.pair, data_format=layer.data_format),
                 reads="", stock="")]


@_kinds("Reshape")
def _(layer, training):
    return [Pair(functools.partial(_reshape, target=layer.target_shape), reads="", stock="")]


def _reshape(x, *, target):
    shape, static = tf.shape(x), x.shape
    y = tf.reshape(x, tf.concat([shape[:1], target], 0))
    return y, lambda dy: tf.ensure_shape(tf.reshape(dy, shape), static)


@_kinds("Permute")
def _(layer, training):
    return [Pair(functools.partial(_transpose, order=(0, *layer.dims)), reads="", stock="")]


def _transpose(x, *, order):
    back = [order.index(axis) for axis in range(len(order))]
    return tf.transpose(x, order), lambda dy: tf.transpose(dy, back)


@_kinds("Concatenate")
def _(layer, training):
    kind = Pair(functools.partial(concatenate.pair, axis=layer.axis), reads="", stock="")
    kind.concatenates = layer.axis
    return [kind]


@_kinds("Add")
def _(layer, training):
    return [Pair(add.pair, reads="", stock="")]


@_kinds("Subtract")
def _(layer, training):
    def pair(x, z):
        y, backward = add.pair(x, -z)

        def subtract_backward(dy):
            dx, dz = backward(dy)
            return dx, -dz

        return y, subtract_backward

    return [Pair(pair, reads="", stock="")]


@_kinds("Average")
def _(layer, training):
    def pair(*xs):
        y, backward = add.pair(*xs)
        return y / len(xs), lambda dy: backward(dy / len(xs))

    return [Pair(pair, reads="", stock="")]


@_kinds("Multiply")
def _(layer, training):
    return [Pair(multiply.pair)]


@_kinds("Rescaling")
def _(layer, training):
    if not all(isinstance(v, (int, float)) for v in (layer.scale, layer.offset)):
        return None

    def pair(x):
        exact = type(layer) is ours.Rescaling  # Keras rounds them to float32 first
        scale, offset = (tf.constant(v, x.dtype) if exact else tf.cast(v, x.dtype)
                         for v in (layer.scale, layer.offset))
        return x * scale + offset, lambda dy: dy * scale

    return [Pair(pair, reads="", stock="")]


@_kinds("Identity")
def _(layer, training):
    return []


def _plus(layer, training):
    return [Pair(add.pair, reads="", stock="")]


_MAKERS[keras_numpy.Add] = _plus
