"""The arithmetic of networks: what each layer holds, multiplies, sees and keeps. Nothing runs."""

import math
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import keras
from keras.src.backend.common import global_state

from custom_layers.lean import lean
from custom_layers.lean_graph import functional_of

_WAITING = "uninitialized_variables"  # Keras's list of variables to allocate later


@contextmanager
def shapes_only():
    """Models built in here know their shapes, but their weights take no memory, and no values."""
    before = global_state.get_global_attribute(_WAITING)
    global_state.set_global_attribute(_WAITING, [])  # a list that is kept would be added to
    with keras.StatelessScope(initialize_variables=False):
        try:
            yield
        finally:
            global_state.set_global_attribute(_WAITING, before)


@dataclass(frozen=True)
class Row:
    """A layer of a network.

    Attributes:
        output: the shape of its result, without the batch.
        parameters: trainable ones.
        multiply_adds: products of a weight and an input, a sample.
        connections: as LeCun et al., 1998 count them: those, and one for each bias added; of
            subsampling all inputs of a window.
        receptive_field: the side in pixels of what one element of the result sees, which may
            reach over the image's edge; None where it sees the whole image.
        stock_bytes, lean_bytes: kept for the backward pass, a sample, by stock Keras and lean;
            None where lean runs the layer as stock, which is not known from shapes.
    """

    layer: str
    type: str
    output: tuple
    parameters: int
    multiply_adds: int
    connections: int
    receptive_field: int | None
    stock_bytes: float | None
    lean_bytes: float | None

    as_dict = asdict


def rows(model):
    """A `Row` for each layer of a functional or Sequential model, in their order."""
    kept = {row.layer: row for row in lean(model).plan.rows}
    fields = _receptive_fields(model)
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        shape = tuple(first_output(layer).shape[1:])
        plan = kept.get(layer.name)
        field = fields[id(first_output(layer))][0]
        found.append(Row(
            layer.name, type(layer).__name__, shape,
            sum(math.prod(w.shape) for w in layer.trainable_weights),
            _multiply_adds(layer), _connections(layer),
            None if field == math.inf else field,
            plan.stock if plan else None, plan.kept if plan else None))
    return found


def first_output(layer):
    """What a layer gives; of several tensors the first, which tells what it is."""
    return keras.tree.flatten(layer.output)[0]


def _kernel(layer):
    """The shape of a layer's kernel: of a convolution, a product, a code; None without one."""
    for name in ("kernel", "codes", "depthwise_kernel"):
        for weight in layer.weights:
            if weight.name == name:
                return weight.shape


def _places(layer):
    """How often a layer's kernel is applied: the pixels of its result, or once."""
    return math.prod(first_output(layer).shape[1:-1])


def _multiply_adds(layer):
    kernel = _kernel(layer)
    return math.prod(kernel) * _places(layer) if kernel else 0


def _connections(layer):
    results = math.prod(first_output(layer).shape[1:])
    biases = results * any(weight.name == "bias" for weight in layer.weights)
    if _kernel(layer):
        return _multiply_adds(layer) + biases
    window = math.prod(getattr(layer, "pool_size", ()))
    return results * window + biases if biases else 0


def _receptive_fields(model):
    """{id of a place: (side that one element sees, pixels between neighbours)}"""
    found = {}
    for node in (node for _, nodes in sorted(functional_of(model)._nodes_by_depth.items(),
                                             reverse=True) for node in nodes):
        seen = [found[id(x)] for x in node.input_tensors] or [(1, 1)]
        field, jump = map(max, zip(*seen))
        found.update({id(x): _seen(node.operation, field, jump) for x in node.output_tensors})
    return found


def _seen(layer, field, jump):
    whole = (keras.layers.Dense, keras.layers.Flatten, keras.layers.Resizing)
    if isinstance(layer, whole) or "Global" in type(layer).__name__:
        return math.inf, jump
    window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
    if window is None or not getattr(layer, "strides", None):
        return field, jump
    dilation = getattr(layer, "dilation_rate", (1,))
    reach = (window[0] - 1) * (dilation[0] if isinstance(dilation, tuple) else dilation)
    return field + reach * jump, jump * layer.strides[0]
