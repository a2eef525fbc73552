"""Steps of a model put in others' place, with the same results, before a plan is made."""

import keras

from custom_layers.lean_graph import Link, Stock
from custom_layers.lean_pooling import MaxPool
from custom_layers.lean_unpooling import PoolByWinner, Unpool, Winner, nhwc
from custom_layers.unpooling import MaxPoolingWithIndices2D, MaxUnpooling2D


def rewritten(graph):
    """The graph, its steps changed in place."""
    _leave_probabilities_to_keras(graph)
    _pool_before_activation(graph)
    _share_winners(graph)
    return graph


def _leave_probabilities_to_keras(graph):
    """Keras's losses look for the logits behind a probability that a model ends in."""
    outputs = set(map(id, graph.outputs))
    for i, step in enumerate(graph.steps):
        if isinstance(step, Link) and id(step.output) in outputs and step.kind.of_keras:
            graph.steps[i] = Stock(
                step.kind.of_keras, tuple(step.inputs), {}, [step.output], step.name)


def _pool_before_activation(graph):
    """max relu = relu max: the activation of a pooled map takes a quarter of the work.

    The same for all increasing functions; where ties of the one are none of the other the
    function is flat, so that the gradient there is zero either way.
    """
    consumers = graph.consumers()
    kept = {id(x) for x in graph.outputs} | {id(place) for place, _ in graph.watched}
    for i, step in enumerate(graph.steps):
        if not isinstance(step, Link) or not step.kind.commutes_with_max:
            continue
        users = consumers.get(id(step.output), [])
        if len(users) != 1 or id(step.output) in kept:
            continue
        pool = users[0]
        if not isinstance(pool, Link) or not isinstance(pool.kind, MaxPool):
            continue
        before, after = step.inputs[0], pool.output
        if len(consumers[id(before)]) > 1:
            continue
        pooled = keras.KerasTensor(after.shape, after.dtype)
        graph.steps[i] = Link(pool.kind, [before], pooled, pool.layer, pool.name)
        graph.steps[graph.steps.index(pool)] = Link(
            step.kind, [pooled], after, step.layer, step.name)


def _share_winners(graph):
    """A pooling with indices and all unpoolings by these read one result: who won, in bytes."""
    consumers, outputs = graph.consumers(), set(map(id, graph.outputs))
    for pool in [step for step in graph.steps if _runs(step, MaxPoolingWithIndices2D)]:
        (x,), (y, indices) = pool.inputs, pool.outputs
        unpools = consumers.get(id(indices), [])
        if id(indices) in outputs or not all(_undoes(step, pool) for step in unpools):
            continue
        image = nhwc(x.shape, pool.operation)
        winner = keras.KerasTensor(nhwc(y.shape, pool.operation), "uint8")
        _replace(graph, pool, [(Winner(pool.operation), [x], winner),
                               (PoolByWinner(pool.operation), [x, winner], y)])
        for step in unpools:
            _replace(graph, step, [(Unpool(step.operation, image), [step.inputs[0], winner],
                                    step.outputs[0])])


def _runs(step, layer):
    """Whether a step is a plain call of this type of layer, in the dtype of what it is given."""
    return (isinstance(step, Stock) and type(step.operation) is layer
            and step.operation.activity_regularizer is None
            and step.inputs[0].dtype == step.outputs[0].dtype
            and step.operation.pool_size[0] * step.operation.pool_size[1] <= 255)


def _undoes(step, pool):
    """Whether a step puts values back to the winners of `pool`, into an image of known size."""
    if not _runs(step, MaxUnpooling2D) or step.operation.settings != pool.operation.settings:
        return False
    (x,), (unpooled,) = pool.inputs, step.outputs
    return step.inputs[1] is pool.outputs[1] and None not in x.shape[1:] and (
        unpooled.shape[1:] == x.shape[1:])


def _replace(graph, step, links):
    """Puts links, each (kind, inputs, output), in the place of a step that ran as stock."""
    at = graph.steps.index(step)
    graph.steps[at:at + 1] = [Link(*link, step.operation, step.name) for link in links]
