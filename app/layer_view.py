"""The layers of a model as a page shows them: what each computes from which, and its weights.

`describe` is what the page is told of a model of a run and, in `assets.extra/layers.json`, of an
export that has the signature `activations`.
"""

import inspect
import json
import math
import re
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from app.page.packing import LARGEST, pack
from custom_layers import SparseConv2D, Subsampling2D
from custom_layers.lean_graph import functional_of
from custom_layers.windows import resolve_padding

IMAGE = -1
# Weights that are written for the page, in numbers: of one layer `LARGEST`, and of a model
ALL_WEIGHTS = 2**21


@dataclass(eq=False)
class Step:
    """A layer that has run: `inputs` are the numbers of the steps before it, or `IMAGE`."""

    layer: keras.Operation
    inputs: list
    given: list
    output: tf.Tensor


def walk(model, images):
    """Runs a functional or Sequential model, as it predicts; its steps, nested models opened.

    An operation with several outputs is run, and is no step.
    """
    steps, made_by = [], {id(images): IMAGE}

    def call(operation, *args, **kwargs):
        try:
            inside = functional_of(operation)
        except ValueError:
            pass
        else:
            return inside._run_through_graph(args[0], call_fn=call)
        if "training" in inspect.signature(operation.call).parameters:
            kwargs["training"] = False
        output = operation(*args, **kwargs)
        if tf.is_tensor(output) and output.dtype.is_floating and output.shape.rank > 1:
            given = [x for x in keras.tree.flatten((args, kwargs)) if id(x) in made_by]
            steps.append(Step(operation, [made_by[id(x)] for x in given], given, output))
            made_by[id(output)] = len(steps) - 1
        return output

    functional_of(model)._run_through_graph([images], call_fn=call)
    return steps


def describe(model, image_shape):
    """A dict a layer, in the order in which they run.

    `name`; `layer`, its class; `output`, its output's name in the signature `activations`;
    `kind`, the arithmetic that the page can show: conv, depthwise (also what scales each channel),
    max, average, dense, reshape, or other; `shape` of its output, without the batch; `inputs`, the
    numbers of the layers that it reads, -1 being the image; `kernel` and `bias`, packed, or None
    where there are none or they are too large; `parameters`; and `settings`: strides, pads,
    dilation, groups, window, activation.
    """
    steps = walk(model, tf.zeros((1, *image_shape)))
    left, layers = ALL_WEIGHTS, []
    for number, step in enumerate(steps):
        kind, kernel, bias, settings = _arithmetic(step)
        size = 0 if kernel is None else kernel.size
        written = size <= min(LARGEST, left)
        left -= size if written else 0
        layers.append({
            "name": step.layer.name,
            "layer": type(step.layer).__name__,
            "output": _output_name(number, step),
            "kind": kind,
            "shape": list(step.output.shape[1:]),
            "inputs": step.inputs,
            "kernel_shape": None if kernel is None else list(kernel.shape),
            "kernel": pack(kernel) if size and written else None,
            "bias": pack(bias) if bias is not None and written else None,
            "parameters": sum(math.prod(w.shape) for w in getattr(step.layer, "weights", ())),
            "settings": settings,
        })
    return layers


def activations(model, image_shape):
    """The function of the signature `activations`: one output a layer, in the order of names."""

    @tf.function(input_signature=[tf.TensorSpec((None, *image_shape), tf.float32, name="images")])
    def run(images):
        return layer_outputs(model, images)

    return run


def layer_outputs(model, images):
    """What `activations` gives: the output of each layer, by its name there."""
    return {_output_name(number, step): tf.cast(step.output, tf.float32)
            for number, step in enumerate(walk(model, images))}


def write_layers(model, image_shape, folder):
    """Writes `layers.json` into `folder`, the `assets.extra` of an export."""
    folder.mkdir(exist_ok=True)
    text = json.dumps(describe(model, image_shape))
    (folder / "layers.json").write_text(text + "\n", encoding="utf-8")


def _output_name(number, step):
    return f"{number:03d}_{re.sub('[^A-Za-z0-9_]+', '_', step.layer.name)}"


def _arithmetic(step):
    """(kind, kernel, bias, settings) of a step."""
    layer, shape = step.layer, step.output.shape
    if len(step.given) == 1 and getattr(layer, "data_format", "") != "channels_first":
        for types, arithmetic in _ARITHMETIC.items():
            if isinstance(layer, types):
                return arithmetic(step)
        x = step.given[0]
        if math.prod(x.shape[1:]) == math.prod(shape[1:]) and isinstance(
                layer, (keras.layers.Flatten, keras.layers.Reshape)):
            return "reshape", None, None, {}
    return "other", None, None, _activation(layer)


def _activation(layer):
    function = getattr(layer, "activation", None)
    if function is None:
        return {}
    return {"activation": getattr(function, "__name__", type(function).__name__)}


def _windows(step, size, padding, dilation=(1, 1)):
    layer = step.layer
    strides = getattr(layer, "strides", None) or (1, 1)
    pads = resolve_padding(step.given[0], size, strides, padding, dilation)
    return {"window": list(size), "strides": list(strides), "dilation": list(dilation),
            "pads": [list(pair) for pair in pads], **_activation(layer)}


def _convolution(step):
    layer = step.layer
    padding = getattr(layer, "explicit_padding", None) or layer.padding
    settings = _windows(step, layer.kernel_size, padding, layer.dilation_rate)
    kernel = layer.kernel.numpy()
    if isinstance(layer, SparseConv2D):
        dense = np.zeros((*layer.kernel_size, step.given[0].shape[-1], layer.filters))
        connections = [(c, o) for o, row in enumerate(layer.table) for c in row]
        for weights, (c, o) in zip(np.moveaxis(kernel, 2, 0), connections, strict=True):
            dense[:, :, c, o] = weights
        kernel = dense
    return "conv", kernel, _numbers(layer.bias), settings | {"groups": layer.groups}


def _depthwise(step):
    layer = step.layer
    settings = _windows(step, layer.kernel_size, layer.padding, layer.dilation_rate)
    return "depthwise", layer.kernel.numpy(), _numbers(layer.bias), settings


def _subsampling(step):
    """Each channel's window times one weight: depthwise, with a kernel of equal elements."""
    layer = step.layer
    beta = layer.beta.numpy()
    kernel = np.broadcast_to(beta[:, None], (*layer.pool_size, len(beta), 1))
    return "depthwise", kernel, _numbers(layer.bias), _windows(step, layer.pool_size, layer.padding)


def _pooling(kind):
    def arithmetic(step):
        layer = step.layer
        return kind, None, None, _windows(step, layer.pool_size, layer.padding)

    return arithmetic


def _global_pooling(kind):
    def arithmetic(step):
        return kind, None, None, _windows(step, step.given[0].shape[1:3], "valid")

    return arithmetic


def _dense(step):
    layer = step.layer
    return "dense", layer.kernel.numpy(), _numbers(layer.bias), _activation(layer)


def _scaling(step):
    """y = a x + b for each channel: depthwise, with a kernel of one element, fitted to the layer.

    Batch normalisation as it predicts, normalisation by given statistics, rescaling.
    """
    shape = step.given[0].shape
    if shape.rank != 4:
        return "other", None, None, {}
    probe = np.zeros((2, 1, 1, shape[-1]), np.float32)
    probe[1] = 1
    keywords = {}
    if isinstance(step.layer, keras.layers.BatchNormalization):
        keywords["training"] = False
    zero, one = np.asarray(step.layer(tf.constant(probe), **keywords), np.float32)[:, 0, 0]
    return "depthwise", (one - zero)[None, None, :, None], zero, _windows(step, (1, 1), "valid")


def _numbers(variable):
    return None if variable is None else variable.numpy()


# The first that fits counts.
_ARITHMETIC = {
    keras.layers.DepthwiseConv2D: _depthwise,
    keras.layers.Conv2D: _convolution,
    Subsampling2D: _subsampling,
    keras.layers.MaxPooling2D: _pooling("max"),
    keras.layers.AveragePooling2D: _pooling("average"),
    keras.layers.GlobalMaxPooling2D: _global_pooling("max"),
    keras.layers.GlobalAveragePooling2D: _global_pooling("average"),
    keras.layers.Dense: _dense,
    (keras.layers.BatchNormalization, keras.layers.Normalization, keras.layers.Rescaling): _scaling,
}
