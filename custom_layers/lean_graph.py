"""A Keras model as a list of steps: links that lean training runs, and layers that run as stock."""

from dataclasses import dataclass, field

import keras
from keras.src.models.functional import Functional

from custom_layers.lean_layers import links_of
from custom_layers.lean_links import Cast, Kind


@dataclass(eq=False)
class Link:
    """One link between tensors, which are `keras.KerasTensor`s here: places for those of a call."""

    kind: Kind
    inputs: list
    output: keras.KerasTensor
    layer: keras.Operation
    name: str

    @property
    def stock(self):
        return False

    def read_inputs(self, stock=False):
        """The inputs, with None for each that the backward pass, ours or stock's, does not read."""
        reads = self.kind.stock if stock else self.kind.reads
        return [place if "x" in reads or "i" in reads and number else None
                for number, place in enumerate(self.inputs)]

    def reads(self, place):
        """Whether the backward pass reads `place` as an input."""
        return any(read is place for read in self.read_inputs())


@dataclass(eq=False)
class Stock:
    """An operation that runs as it stands, with its arguments, in which tensors are places."""

    operation: object
    args: tuple
    kwargs: dict
    outputs: list
    name: str
    inputs: list = field(init=False)
    layer = None

    def __post_init__(self):
        self.inputs = _places((self.args, self.kwargs))


@dataclass(eq=False)
class Graph:
    """The steps of a model in the order in which they run, its inputs and outputs.

    `watched` are the outputs of layers with an activity regulariser, with these layers.
    """

    inputs: list
    outputs: list
    structure: object
    steps: list
    watched: list

    def consumers(self):
        """The steps that read each place."""
        found = {}
        for step in self.steps:
            for place in step.inputs:
                found.setdefault(id(place), []).append(step)
        return found


def graph_of(model, training):
    """The graph of a functional or Sequential model, nested models opened.

    Raises:
        ValueError: where the model is neither, or is not built.
    """
    function = functional_of(model)
    inputs = [keras.KerasTensor(x.shape, x.dtype) for x in function.inputs]
    builder = _Builder(training)
    structure = function._run_through_graph(inputs, call_fn=builder.record)
    outputs = keras.tree.flatten(structure)
    return Graph(inputs, outputs, structure, builder.steps, builder.watched)


def functional_of(model):
    """The `Functional` that a functional or Sequential model runs."""
    if isinstance(model, keras.Sequential) and type(model).call is keras.Sequential.call:
        if not model.built or model._functional is None:
            raise ValueError(
                "`model` must be built, so that the shapes of its layers are known: begin it with "
                f"`keras.Input(shape)` or call it once. Received: {model.name} (not built)")
        model = model._functional
    if not isinstance(model, Functional) or type(model).call is not Functional.call:
        raise ValueError(
            "`model` must be a functional or Sequential Keras model, whose layers can be seen. "
            f"Received: {model} of type {type(model).__name__}")
    return model


class _Builder:
    """Records the operations that a functional model would run, on places instead of tensors."""

    def __init__(self, training):
        self.training, self.steps, self.watched = training, [], []
        self.masked = set()  # places that may bear a Keras mask

    def record(self, operation, *args, **kwargs):
        training = kwargs.get("training") if self.training is None else self.training
        plain = set(kwargs) <= {"training", "mask"} and kwargs.get("mask") is None
        if plain and _opens(operation, args) and (training == self.training):
            return functional_of(operation)._run_through_graph(
                keras.tree.flatten(args[0]), call_fn=self.record)
        others = {name: value for name, value in kwargs.items() if name != "training"}
        outputs = operation.compute_output_spec(*args, **others)
        flat = keras.tree.flatten(outputs)
        kinds = self._kinds(operation, args, flat, bool(training)) if plain else None
        if kinds is None:
            step = Stock(operation, args, kwargs, flat, operation.name)
            self.steps.append(step)
            if _makes_masks(operation) or self.masked & set(map(id, step.inputs)):
                self.masked |= set(map(id, flat))
            return outputs
        place = self._link(operation, kinds, _places(args), flat[0])
        if getattr(operation, "activity_regularizer", None) is not None:
            self.watched.append((place, operation))
        return place

    def _kinds(self, operation, args, outputs, training):
        """The kinds of an operation's links, or None where it runs as stock."""
        inputs, flat = _places(args), keras.tree.flatten(args)
        floats = all(keras.backend.is_float_dtype(x.dtype) for x in (*inputs, *outputs))
        if not (floats and inputs and len(outputs) == 1 and len(flat) == len(inputs)):
            return None
        if any(x.sparse for x in inputs) or self.masked & set(map(id, inputs)):
            return None
        kinds = links_of(operation, training)
        dtypes = {x.dtype for x in inputs}
        wanted = getattr(operation, "compute_dtype", inputs[0].dtype)
        if kinds is None or dtypes == {wanted}:
            return kinds
        castable = len(inputs) == 1 and getattr(operation, "autocast", False)
        return [Cast(wanted), *kinds] if castable else None

    def _link(self, operation, kinds, inputs, output):
        """Appends a step for each kind; the last one's place."""
        place = inputs[0]
        for i, kind in enumerate(kinds, 1):
            if i == len(kinds):
                place = output
            elif isinstance(kind, Cast):
                place = keras.KerasTensor(inputs[0].shape, kind.dtype)
            else:
                place = keras.KerasTensor(_shape_between(kind, output, operation), output.dtype)
            if isinstance(kind, Kind):
                self.steps.append(Link(kind, inputs, place, operation, operation.name))
            else:
                self.steps.append(Stock(kind, tuple(inputs), {}, [place], operation.name))
            inputs = [place]
        return place


def _opens(operation, args):
    """Whether `operation` is a nested model whose layers can stand in the outer graph."""
    try:
        inner = functional_of(operation)
    except ValueError:
        return False
    if len(args) != 1 or isinstance(args[0], dict):
        return False
    given = keras.tree.flatten(args[0])
    return getattr(operation, "activity_regularizer", None) is None and len(given) == len(
        inner.inputs) and all(
            isinstance(x, keras.KerasTensor) and len(x.shape) == len(y.shape)
            and x.dtype == y.dtype for x, y in zip(given, inner.inputs))


def _shape_between(kind, output, layer):
    """The shape of a place inside a layer: the output's, but for a separable convolution's maps."""
    channels = getattr(kind, "channels", None)
    if channels is None:
        return output.shape
    axis = 1 if layer.data_format == "channels_first" else -1
    shape = list(output.shape)
    shape[axis] = channels
    return tuple(shape)


def _places(structure):
    return [x for x in keras.tree.flatten(structure) if isinstance(x, keras.KerasTensor)]


def _makes_masks(operation):
    if isinstance(operation, keras.layers.Embedding):
        return operation.mask_zero
    if not isinstance(operation, keras.Layer) or isinstance(operation, keras.layers.Masking):
        return isinstance(operation, keras.layers.Masking)
    of_keras = type(operation).__module__.startswith(("keras.", "custom_layers."))
    return not of_keras and type(operation).compute_mask is not keras.Layer.compute_mask
