"""What a model keeps from its forward pass for its backward pass, seen in the traced graph."""

import contextlib
from dataclasses import dataclass, field

import keras
import tensorflow as tf
from keras.src.backend.common.global_state import get_global_attribute
from tensorflow.python.framework.func_graph import FuncGraph

from custom_layers.gradient_buffers import Buffers, base, kind, size
from custom_layers.gradient_peak import peak

# What reads a tensor's shape alone needs its memory no longer than until it is there.
OF_SHAPES = ("OnesLike", "Rank", "Shape", "ShapeN", "Size", "VariableShape", "ZerosLike")
# Their results are in memory anyway: weights, and what is given.
GIVEN = ("Const", "Placeholder", "ReadVariableOp")


@dataclass
class Traced:
    """One training step on a batch; sizes in bytes.

    Attributes:
        layers: all layers that ran, in their order.
        kept: {layer: {what: bytes}}. The layer is None for ops of none.
        unknown: the layers that keep something whose size shows only as it runs.
        inputs: of the batch itself.
        copies: of what is made of the weights alone, in another dtype, and kept.
        peak: the most that is alive at once; the batch, weights and their gradients aside.
    """

    layers: list
    inputs: int
    peak: int = 0
    copies: int = 0
    kept: dict = field(default_factory=dict)
    unknown: list = field(default_factory=list)

    @property
    def size(self):
        return sum(sum(by.values()) for by in self.kept.values())


class Recorder(FuncGraph):
    """A graph that knows which layer of `model` made each op, as long as it is `recording`.

    A layer that is called says so. In lean training links run in its place, in scopes of its
    name. Names of ops do not tell: the second scope `dense` is called `dense_1`, as may be
    another layer.
    """

    def __init__(self, model):
        super().__init__("step")
        self.recording, self.layer_of, self._scopes = True, {}, []
        self._named = {layer.name: layer for layer in reversed(model._flatten_layers())
                       if not isinstance(layer, keras.Model)}

    @contextlib.contextmanager
    def name_scope(self, name):
        self._scopes.append(name)
        try:
            with super().name_scope(name) as scope:
                yield scope
        finally:
            self._scopes.pop()

    def _create_op_internal(self, *args, **kwargs):
        op = super()._create_op_internal(*args, **kwargs)
        if self.recording:
            self.layer_of[op] = self._layer()
        return op

    def _layer(self):
        layer = None
        for scope in get_global_attribute("name_scope_stack") or ():
            if isinstance(scope.caller, keras.layers.Layer):
                layer = scope.caller
                if not isinstance(layer, keras.Model):
                    return layer
        for name in self._scopes:
            if name in self._named:
                return self._named[name]
        return layer


def trace(model, specs):
    """What one training step of `model` keeps; nothing is run.

    `specs`: a `tf.TensorSpec` of fixed shape for each input, in the structure of the inputs.

    Gradients are taken of the outputs and the added losses, by the trainable weights. What the
    backward pass reads of the forward pass is kept: each buffer once, however many views of it
    are read. Weights, and what is made of weights alone, are there anyway.

    Raises:
        ValueError: where there is nothing to train.
    """
    if not model.trainable_variables:
        raise ValueError("`model` has no trainable weights, so that it has no backward pass. "
                         f"Received: {model.name}")
    graph = Recorder(model)
    with graph.as_default():
        batch = tf.nest.map_structure(
            lambda spec: tf.compat.v1.placeholder(spec.dtype, spec.shape), specs)
        with tf.GradientTape() as tape:
            outputs = [y for y in tf.nest.flatten(model(batch, training=True))
                       if y.dtype.is_floating]
            outputs += map(tf.convert_to_tensor, model.losses)
        model._clear_losses()
        graph.recording = False
        with tf.control_dependencies(outputs):  # a loss is between the two passes
            upstream = [tf.identity(tf.compat.v1.placeholder(y.dtype, y.shape)) for y in outputs]
        gradients = tape.gradient(outputs, model.trainable_variables, upstream)
    gradients = [g for g in tf.nest.flatten(gradients, expand_composites=True) if g is not None]
    step = Step(graph, gradients)
    traced = Traced(list(dict.fromkeys(filter(None, graph.layer_of.values()))),
                    sum(map(size, tf.nest.flatten(batch))), peak(step))
    step.add_kept(traced)
    return traced


class Step:
    """A forward and a backward pass in one graph.

    Attributes:
        graph: a `Recorder`; `gradients`: tensors, what it is all for.
        ops: those that have to run, in the order in which they were made.
        kept: the tensors of the forward pass that the backward pass reads.
        buffers: the `Buffers` of the graph.
    """

    def __init__(self, graph, gradients):
        self.graph, self.gradients, self.buffers = graph, gradients, Buffers(graph)
        needed = _needed(gradients)
        self.ops = [op for op in graph.get_operations() if op in needed]
        forward = graph.layer_of
        later = [op for op in self.ops if op not in forward and op.type not in OF_SHAPES]
        read = (t for op in later for t in op.inputs)
        self.kept = list({t.ref(): t for t in read if t.op in forward}.values())

    def given(self, op):
        """Whether the results of an op are in memory anyway: weights, constants, the batch."""
        return op.type in GIVEN

    def add_kept(self, traced):
        seen = set()
        for t in self.kept:
            for buffer, count in self.buffers.of(t):
                if buffer.ref() in seen or buffer.graph is self.graph and self.given(buffer.op):
                    continue
                seen.add(buffer.ref())
                layer, n = self.graph.layer_of.get(base(t).op), size(buffer)
                if n is None or count is None:
                    traced.unknown.append(layer)
                elif buffer.op in self.buffers.unchanging:
                    traced.copies += n
                else:
                    by = traced.kept.setdefault(layer, {})
                    what = kind(buffer, layer, self.graph)
                    by[what] = by.get(what, 0) + count * n


def _needed(targets):
    """The ops that have to run for `targets`; what is read for its shape alone has not."""
    found, left = set(), [t.op for t in targets]
    while left:
        op = left.pop()
        if op not in found:
            found.add(op)
            left += op.control_inputs
            if op.type not in OF_SHAPES:
                left += [t.op for t in op.inputs]
    return found
