"""Runs a segment: its forward pass keeps what the plan says, its backward pass the rest again."""

import keras
import tensorflow as tf

from custom_layers.gradient import differentiable
from custom_layers.lean_again import Again
from custom_layers.lean_normalization import BatchNormalization
from custom_layers.lean_plan import work_an_input
from custom_layers.lean_storage import storage
from custom_layers.tracing import compiled_by_xla


# Multiply-adds an element of x from which one dw may still be in the making beside the next dx: it
# is faster on more cores than one, at the price of x, held a little longer.
BESIDE = 128


def segment_op(segment, save):
    """The differentiable op of a segment.

    Forward:   the links one after the other
    Backward:  their backward passes in reverse order (the chain rule); what one reads and is not
               kept is computed again, from the places kept, when its upstream gradient is there
    Tensors:   the segment's inputs, its weights, the constants of its links, a seed for `save`
    Returns:   the segment's outputs, then mean and variance of each batch normalisation
    """
    n_inputs, n_weights = len(segment.inputs), len(segment.weights)

    def pair(*tensors):
        xs, ws = tensors[:n_inputs], tensors[n_inputs:n_inputs + n_weights]
        *constants, seed = tensors[n_inputs + n_weights:]
        weight = dict(zip(segment.keys, ws))
        values = {id(place): x for place, x in zip(segment.inputs, xs)}
        arguments, memos, given = {}, {}, list(constants)
        kept = {key: values[key] for key in values}
        stored = {}
        for i, link in enumerate(segment.links):
            own = [weight[key] for key in link.weights]
            own += [given.pop(0) for _ in range(link.kind.constant_count)]
            arguments[link] = own
            with keras.name_scope(link.name, caller=link.layer):
                y, memos[link] = link.kind.forward([values[id(x)] for x in link.inputs], own)
                if id(link.output) in segment.kept:
                    stored[id(link.output)] = storage(save, y.dtype).encode(y, seed + 2 * i)
                    if not save.exact:
                        (y,) = _in_turn([y], stored[id(link.output)])
                values[id(link.output)] = y
        statistics = [t for link in segment.links if isinstance(link.kind, BatchNormalization)
                      for t in memos[link][:2]]
        outputs = [values[id(x)] for x in segment.outputs] + statistics
        dtypes = {key: values[key].dtype for key in stored}
        del values

        def backward(*dys):
            again = _Again(segment, kept, stored, save, dtypes, arguments, memos)
            gradients = {}
            for place, dy in zip(segment.outputs, dys):
                gradients[id(place)] = [dy]
            dweights, late = {}, []
            for link in reversed(segment.links):
                if id(link.output) not in gradients:
                    continue
                dy = _sum(gradients.pop(id(link.output)))
                with keras.name_scope(link.name, caller=link.layer):
                    x, y = again.read(link, [dy])
                    own = again.arguments(link, [dy])
                    dxs, dws = link.kind.backward(dy, x, y, own, memos[link])
                if not link.kind.cheap:
                    beside = save.exact and work_an_input(link) >= BESIDE
                    dxs = _in_turn(dxs, late if beside else [*late, *dws])
                    late = dws if beside else []
                for place, dx in zip(link.inputs, dxs):
                    if dx is not None:
                        gradients.setdefault(id(place), []).append(dx)
                for key, w, dw in zip(link.weights, link.kind.weights, dws):
                    if w.trainable:
                        dweights.setdefault(key, []).append(dw)
            dxs = [_sum(gradients[id(p)]) if id(p) in gradients else None for p in segment.inputs]
            dws = [_sum(dweights[key]) if key in dweights else None for key in segment.keys]
            return (*dxs, *dws, *[None] * len(constants), None)

        return tuple(outputs), backward

    pair.__name__ = pair.__qualname__ = "lean_segment"
    return differentiable(pair)


class _Again(Again):
    """With tensors for values, each waiting for others, so that none is there before its time."""

    def __init__(self, segment, there, stored, save, dtypes, arguments, memos):
        there |= {key: value for key, (value,) in stored.items()} if save.exact else {}
        super().__init__(segment, there, {} if save.exact else stored)
        self.save, self.dtypes, self.own, self.memos = save, dtypes, arguments, memos

    def run(self, link, xs, after):
        with keras.name_scope(link.name + "_again", caller=link.layer):
            return link.kind.again(xs, self.arguments(link, after), self.memos[link])

    def decode(self, place, after):
        key = id(place)
        dtype = self.dtypes[key]
        return storage(self.save, dtype).decode(wait(self.stored[key], after), dtype)

    def wait(self, value, after):
        return wait([value], after)[0]

    def arguments(self, link, after):
        """A link's weights, and its constants made to wait: a seed would be drawn from at once."""
        own, n = self.own[link], len(link.kind.weights)
        return own[:n] + (wait(own[n:], after) if own[n:] else [])


def wait(tensors, after):
    """`tensors`, not to be had before the tensors `after` are there.

    XLA knows no such dependency (on CPUs it drops its optimization barrier before it merges what
    is equal), so there a zero is added that only `after` can tell to be one.
    """
    if not compiled_by_xla():
        with tf.control_dependencies(after):
            return [tf.identity(t) for t in tensors]
    zero = tf.zeros((), tf.int32)
    for t in after:
        first = tf.reshape(t, [-1])[:1]
        zero += tf.reduce_sum(tf.cast(first > t.dtype.max, tf.int32))
    return [t + tf.cast(zero, t.dtype) for t in tensors]


def _in_turn(tensors, others):
    """`tensors`, handed on when `others` are there: what those read is free by then.

    XLA schedules by memory as it is.
    """
    others = [t for t in others if t is not None]
    if compiled_by_xla() or not others:
        return tensors
    with tf.control_dependencies(others):
        return [None if t is None else tf.identity(t) for t in tensors]


def _sum(tensors):
    return tensors[0] if len(tensors) == 1 else tf.add_n(tensors)
