"""Which links a layer is made of: those of layers that weigh, normalise, activate or drop."""

import functools
import math

import keras

import custom_layers as ours
from custom_layers import lean_moves  # noqa: F401 enters the layers that move values
from custom_layers.activations import op_of
from custom_layers.activations import relu as general_relu
from custom_layers.convolution import conv1d, conv2d
from custom_layers.dense import dense
from custom_layers.depthwise import depthwise_conv2d, settings_of
from custom_layers.dropout import dropout
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
from custom_layers.lean_makers import MAKERS, kinds
from custom_layers.lean_normalization import BatchNormalization, FrozenNormalization
from custom_layers.local_response import local_response_normalization
from custom_layers.rbf import rbf
from custom_layers.smooth_activations import gelu, scaled_tanh, silu
from custom_layers.sparse_convolution import sparse_conv2d
from custom_layers.subsampling import sum_windows, weigh
from custom_layers.transposed_convolution import conv2d_transpose


def links_of(layer, training):
    """The kinds of the links that `layer` is made of, in order; None where it has to run as stock.

    The last may be a function of Keras (an activation that no link knows): it runs as stock.
    """
    maker = MAKERS.get(type(layer))
    if maker is None or getattr(layer, "lora_enabled", False):
        return None
    if getattr(layer, "quantization_mode", None) is not None:
        return None
    return maker(layer, training)


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


@kinds("Conv2D")
def _(layer, training):
    return _ended(layer, _convolution(
        conv2d, (layer.kernel,), strides=layer.strides,
        padding=getattr(layer, "explicit_padding", None) or layer.padding,
        dilation=layer.dilation_rate, groups=layer.groups, data_format=layer.data_format,
        algorithm=getattr(layer, "algorithm", "native")))


@kinds("Conv1D")
def _(layer, training):
    return _ended(layer, _convolution(
        conv1d, (layer.kernel,), stride=layer.strides[0], padding=layer.padding,
        dilation=layer.dilation_rate[0], groups=layer.groups, data_format=layer.data_format))


@kinds("DepthwiseConv2D")
def _(layer, training):
    return _ended(layer, _convolution(depthwise_conv2d, (layer.kernel,), **settings_of(layer)))


@kinds("SeparableConv2D")
def _(layer, training):
    depthwise = _convolution(depthwise_conv2d, (layer.depthwise_kernel,), **settings_of(layer))
    depthwise.channels = layer.pointwise_kernel.shape[-2]
    return _ended(
        layer, depthwise,
        _convolution(conv2d, (layer.pointwise_kernel,), data_format=layer.data_format))


@kinds("Conv2DTranspose")
def _(layer, training):
    both = layer.output_padding
    return _ended(layer, _convolution(
        conv2d_transpose, (layer.kernel,), strides=layer.strides, padding=layer.padding,
        output_padding=(both, both) if isinstance(both, int) else both,
        dilation=layer.dilation_rate, data_format=layer.data_format))


@kinds("SparseConv2D")
def _(layer, training):
    op = functools.partial(sparse_conv2d.pair, **layer.settings)
    return _ended(layer, Pair(op, (layer.kernel,), cheap=False))


@kinds("Subsampling2D")
def _(layer, training):
    """The sum of each window, and what a quarter of its bytes is read for: the weights."""
    sums = Pair(functools.partial(sum_windows, **layer.settings), reads="", stock="")
    weights = layer.beta, layer.bias
    weighed = functools.partial(weigh, dtype=layer.compute_dtype, data_format=layer.data_format)
    return [sums, Pair(weighed, weights), *_activation(layer)]


@kinds("Dense")
def _(layer, training):
    return _ended(layer, Pair(dense.pair, (layer.kernel,), cheap=False))


@kinds("BatchNormalization")
def _(layer, training):
    if layer.renorm or layer.synchronized:
        return None
    return [(BatchNormalization if training and layer.trainable else FrozenNormalization)(layer)]


@kinds("LayerNormalization")
def _(layer, training):
    axes = [layer.axis] if isinstance(layer.axis, int) else layer.axis
    pair = functools.partial(
        layer_normalization.pair, axes=axes, epsilon=layer.epsilon,
        rms_scaling=getattr(layer, "rms_scaling", False))
    return [_affine(pair, layer)]


@kinds("GroupNormalization")
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

    return _reading(Pair(given, tuple(weights)))


def _reading(kind):
    """The kind of a link whose dx needs x, whether its weights are trained or not."""
    kind.reads = "x"
    return kind


@kinds("LocalResponseNormalization")
def _(layer, training):
    return [Pair(functools.partial(
        local_response_normalization.pair, k=layer.k, n=layer.n, alpha=layer.alpha,
        beta=layer.beta, data_format=layer.data_format), cheap=False)]


@kinds("RBF")
def _(layer, training):
    return [_reading(Pair(rbf.pair, (layer.weight,), cheap=False))]


@kinds("Activation")
def _(layer, training):
    return _activation(layer)


@kinds("ReLU")
def _(layer, training):
    if not layer.negative_slope and not layer.threshold:
        return [relu() if layer.max_value is None else clipped_relu(layer.max_value)]
    if type(layer) is keras.layers.ReLU and layer.max_value is None and not layer.threshold:
        return [leaky_relu(layer.negative_slope)]  # as Keras does, which rounds it to float32
    return [Pair(functools.partial(
        general_relu.pair, negative_slope=layer.negative_slope,
        max_value=layer.max_value, threshold=layer.threshold))]


@kinds("LeakyReLU")
def _(layer, training):
    return [leaky_relu(layer.negative_slope)] if layer.negative_slope > 0 else None


@kinds("ELU")
def _(layer, training):
    return [ACTIVATIONS["elu"]()] if layer.alpha == 1 else None


@kinds("Softmax")
def _(layer, training):
    return [softmax(layer.axis if isinstance(layer.axis, int) else tuple(layer.axis))]


@kinds("Sigmoid", "Tanh")
def _(layer, training):
    return [ACTIVATIONS[type(layer).__name__.lower()]()]


@kinds("SiLU")
def _(layer, training):
    return [Pair(silu.pair)]


@kinds("GELU")
def _(layer, training):
    return [Pair(functools.partial(gelu.pair, approximate=layer.approximate))]


@kinds("ScaledTanh")
def _(layer, training):
    return [Pair(functools.partial(
        scaled_tanh.pair, amplitude=layer.amplitude, slope=layer.slope))]


@kinds("Dropout")
def _(layer, training):
    if not training or layer.rate == 0:
        return [] if getattr(layer, "scale_at", "training") == "training" else None
    if type(layer) is ours.Dropout:
        drop = our_dropout(dropout.pair, rate=layer.rate, noise_shape=layer.noise_shape,
                           scaled=layer.scale_at == "training")
    else:
        drop = stock_dropout(layer.rate, layer.noise_shape)
    return [Dropout(drop, layer.seed_generator)] if layer.rate < 1 else None


@kinds("SpatialDropout2D")
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
