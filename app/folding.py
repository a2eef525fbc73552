"""Batch normalisation folded into the layer before it: the same function in fewer operations.

At inference batch normalisation is y = scale * x + shift, with a scale and a shift for each
channel. What a convolution or a dense layer gives is linear in its kernel and bias:

    scale * (kernel . x + bias) + shift  =  (scale * kernel) . x  +  (scale * bias + shift)
"""

from dataclasses import dataclass

import keras
import numpy as np
from keras.src.models.functional import Functional

import custom_layers

_CLASSES = ("Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose", "Conv3DTranspose", "DepthwiseConv2D",
            "SeparableConv2D", "Dense")


def _both(*names):
    """Keras's classes of these names, and ours."""
    modules = keras.layers, custom_layers
    return {getattr(module, name) for name in names for module in modules if hasattr(module, name)}


# Not subclasses, which may compute something else.
_LINEAR, _NORMS = _both(*_CLASSES), _both("BatchNormalization")
# They commute with a shift, and the maximum with a scale that is positive.
_MAXIMUM = _both("MaxPooling2D", "GlobalMaxPooling2D")
_MEAN = _both("AveragePooling2D", "GlobalAveragePooling2D")
_HALF = ("float16", "bfloat16")


@dataclass
class _Fold:
    """A linear layer, and y = scale * x + shift that goes into it."""

    layer: keras.layers.Layer
    scale: np.ndarray
    shift: np.ndarray

    def weights(self):
        """The kernels and the bias, scaled in float64."""
        scale, layer = self.scale, self.layer
        bias = layer.bias.numpy() if layer.use_bias else 0.0
        *first, last = [w.numpy().astype(np.float64) for w in layer.weights
                        if w is not layer.bias]
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            last = last * scale.reshape(last.shape[-2:])
        elif isinstance(layer, (keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)):
            last = last * scale[:, None]
        else:
            last = last * scale
        return [*first, last, bias * scale + self.shift]


def folded(model):
    """A copy of a model for inference, without the batch normalisation that can be folded away.

    That is one whose input comes from a linear layer (a convolution of any kind or Dense, ours or
    Keras's, without an activation) and is used nowhere else. Poolings may lie between: a mean, or
    a maximum where no scale is negative or zero. Layers that compute in half precision stay as
    they are: a scaled kernel would be rounded anew.

    Args:
        model: any Keras model; it stays untouched. Models inside it are folded as well.

    Returns:
        The copy. A model that Keras cannot copy (a subclass, a layer without its config) is
        returned as it is, and so is one in which there is nothing to fold.
    """
    if not isinstance(model, (Functional, keras.Sequential)) or not model.built:
        return model
    if not count_norms(model):
        return model
    inner = model if isinstance(model, Functional) else model._functional
    # Not compiled, whatever the model is.
    graph = keras.Model(inner._inputs_struct, inner._outputs_struct, name=model.name)
    folds, gone = _folds(graph)
    copies = {}

    def copy(operation):
        if id(operation) not in copies:
            copies[id(operation)] = operation, _copy(operation, folds.get(id(operation)))
        return copies[id(operation)][1]

    def call(operation, *args, **kwargs):
        return args[0] if id(operation) in skipped else operation(*args, **kwargs)

    skipped = {id(copy(norm)) for norm in gone}
    try:
        result = keras.models.clone_model(graph, clone_function=copy, call_function=call)
    except (NotImplementedError, TypeError, ValueError):
        return model
    for operation, made in copies.values():
        if id(operation) in folds:
            made.set_weights(folds[id(operation)].weights())
        elif id(made) not in skipped and _has_weights(made):
            made.set_weights(operation.get_weights())
            if isinstance(made, keras.layers.Normalization):
                made.finalize_state()  # computed from the weights just set
    return result


def count_norms(model):
    """How many batch normalisations there are in a model, and in those inside it."""
    return sum(type(layer) in _NORMS for layer in model._flatten_layers())


def _has_weights(operation):
    """Of its own: a model inside has been given them."""
    return isinstance(operation, keras.layers.Layer) and not isinstance(operation, keras.Model)


def _copy(operation, fold):
    """A layer of the same config; with a bias where something is folded into it."""
    if isinstance(operation, keras.Model):
        return folded(operation)
    config = operation.get_config()
    if fold:
        config["use_bias"] = True
        # What the kernel had to obey, the folded one may not.
        config.update({name: None for name in config if name.endswith("_constraint")})
    return type(operation).from_config(config)


def _folds(graph):
    """Folds by the id of their linear layer, and the normalisations that they replace."""
    nodes = [node for depth in graph._nodes_by_depth.values() for node in depth]
    makers, uses, calls = {}, {}, {}
    for node in nodes:
        calls[id(node.operation)] = calls.get(id(node.operation), 0) + 1
        for tensor in node.outputs:
            makers[id(tensor)] = node
        for tensor in node.input_tensors:
            uses[id(tensor)] = uses.get(id(tensor), 0) + 1
    for tensor in graph.outputs:
        uses[id(tensor)] = uses.get(id(tensor), 0) + 1

    def alone(node):
        """Whether the operation is called here only, its result used once."""
        return calls[id(node.operation)] == uses.get(id(node.outputs[0]), 0) == 1

    folds, gone = {}, []
    for node in nodes:
        norm = node.operation
        if type(norm) not in _NORMS or calls[id(norm)] > 1 or _trains(node):
            continue
        scale, shift = _scale_and_shift(norm)
        tensor = node.input_tensors[0]
        maker = makers[id(tensor)]
        while alone(maker) and (type(maker.operation) in _MEAN
                                or type(maker.operation) in _MAXIMUM and (scale > 0).all()):
            tensor = maker.input_tensors[0]
            maker = makers[id(tensor)]
        if alone(maker) and _takes(maker.operation, tensor, node.input_tensors[0], norm):
            folds[id(maker.operation)] = _Fold(maker.operation, scale, shift)
            gone.append(norm)
    return folds, gone


def _trains(node):
    """Whether the normalisation is by each batch's own statistics, or sees part of it."""
    given = node.arguments.kwargs
    return bool(given.get("training")) or len(node.input_tensors) > 1


def _takes(layer, made, normalized, norm):
    """Whether the scale and the shift of `norm` can go into `layer`, which has made `made`."""
    if type(layer) not in _LINEAR or layer.activation not in (None, keras.activations.linear):
        return False
    if getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False):
        return False
    if {layer.compute_dtype, norm.compute_dtype} & set(_HALF):
        return False
    first = getattr(layer, "data_format", None) == "channels_first"
    channels = 1 if first else len(made.shape) - 1
    after = 1 if first else len(normalized.shape) - 1
    axis = norm.axis if isinstance(norm.axis, int) else norm.axis[0]
    return (axis % len(normalized.shape) == after
            and made.shape[channels] == normalized.shape[after])


def _scale_and_shift(norm):
    """Of each channel, in float64."""
    mean, variance = (np.asarray(v.numpy(), np.float64)
                      for v in (norm.moving_mean, norm.moving_variance))
    scale = 1 / np.sqrt(variance + norm.epsilon)
    if norm.scale:
        scale = scale * norm.gamma.numpy()
    shift = -mean * scale
    return scale, shift + norm.beta.numpy() if norm.center else shift
