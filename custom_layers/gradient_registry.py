"""TensorFlow's registry of gradients, kept from holding every graph that was ever traced."""

import weakref

import tensorflow as tf
from tensorflow.python.framework import ops


def live_with_its_graph(y):
    """Ties the backward pass of `y`, results of a `tf.custom_gradient`, to the graph of `y`.

    TensorFlow registers the backward pass of each traced op for the life of the process. It
    holds the tensors of its graph and so the whole graph: a process that builds and trains one
    model after the other grows with each (some 400 objects a layer and trace). Here the graph
    holds the backward pass, the registry refers to it weakly and forgets it with the graph.
    """
    if tf.executing_eagerly():
        return
    op = tf.nest.flatten(y)[0].op
    name = op.get_attr("_gradient_op_type").decode()
    entry = ops.gradient_registry._registry[name]
    backward = entry["type"]
    op.graph.backward_passes = passes = getattr(op.graph, "backward_passes", [])
    passes.append(backward)
    entry["type"] = _weak(backward)
    weakref.finalize(op.graph, ops.gradient_registry._registry.pop, name)


def _weak(function):
    reference = weakref.ref(function)
    return lambda *arguments: reference()(*arguments)
