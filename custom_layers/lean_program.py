"""Runs a model step by step: segments as lean ops, the rest as stock."""

import keras
import tensorflow as tf
from keras.src.backend import AutocastScope
from keras.src.models.functional import operation_fn

from custom_layers.lean_graph import Stock, graph_of
from custom_layers.lean_normalization import BatchNormalization
from custom_layers.lean_plan import Plan, segments_of
from custom_layers.lean_rewriting import rewritten
from custom_layers.lean_segment import segment_op


class Program:
    """A model made ready to run in one mode (`training`), with its plan."""

    def __init__(self, model, training, save, budget, seed_generator):
        self.training, self.seed_generator = training, seed_generator
        self.graph = rewritten(graph_of(model, training))
        self.steps = segments_of(self.graph)
        self.plan = Plan(self.steps, save, budget)
        self.ops = {segment: _Op(segment, save) for segment in self.plan.segments}

    def __call__(self, tensors):
        values = {id(place): t for place, t in zip(self.graph.inputs, tensors)}
        seed = self._seed()
        watched = {id(place): layer for place, layer in self.graph.watched}
        for step in self.steps:
            if isinstance(step, Stock):
                outputs = self._run_stock(step, values)
            else:
                seed += 1000  # room for every place that a segment keeps
                outputs = self.ops[step]([values[id(x)] for x in step.inputs], seed)
            for place, value in zip(step.outputs, outputs):
                values[id(place)] = value
                if id(place) in watched:
                    _add_activity_loss(watched[id(place)], value)
        result = keras.tree.map_structure(lambda x: values[id(x)], self.graph.structure)
        single = isinstance(result, (list, tuple)) and len(result) == 1
        return result[0] if single else result

    def _run_stock(self, step, values):
        args, kwargs = keras.tree.map_structure(
            lambda x: values[id(x)] if isinstance(x, keras.KerasTensor) else x,
            (step.args, step.kwargs))
        with tf.name_scope(step.name):
            outputs = operation_fn(step.operation, training=self.training)(*args, **kwargs)
        return keras.tree.flatten(outputs)

    def _seed(self):
        if self.seed_generator is None:
            return tf.zeros(2, tf.int32)
        return tf.cast(self.seed_generator.next() % (2**31 - 1), tf.int32)


class _Op:
    """A segment as an op of its inputs: it reads the weights and moves the statistics."""

    def __init__(self, segment, save):
        self.segment, self.op = segment, segment_op(segment, save)
        # Eagerly a tape would keep what every op inside the segment reads.
        self.function = tf.function(self.op, reduce_retracing=True)

    def __call__(self, xs, seed):
        constants = [t for link in self.segment.links for t in link.kind.constants()]
        op = self.function if tf.executing_eagerly() else self.op
        outputs = op(*xs, *self._weights(), *constants, seed)
        count = len(self.segment.outputs)
        statistics = iter(outputs[count:])
        for link in self.segment.links:
            if isinstance(link.kind, BatchNormalization):
                _move(link.layer, next(statistics), next(statistics))
        return outputs[:count]

    def _weights(self):
        """The weights, each as the layer that owns it would see it."""
        for w, dtype in self.segment.weights:
            with AutocastScope(dtype):
                yield tf.convert_to_tensor(w.value)


def _move(layer, mean, variance):
    """The moving statistics, as Keras moves them."""
    for moving, batch in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        batch = tf.cast(tf.stop_gradient(batch), moving.dtype)
        moving.assign(moving * layer.momentum + batch * (1.0 - layer.momentum))


def _add_activity_loss(layer, output):
    """As a layer's own call does: the mean over the batch."""
    loss = layer.activity_regularizer(output)
    if output.shape.rank:
        loss = tf.math.divide_no_nan(loss, tf.cast(tf.shape(output)[0], loss.dtype))
    layer.add_loss(loss)
