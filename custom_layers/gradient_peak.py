"""How much of a training step's memory is needed at once, as far as its graph tells."""

from collections import deque

from custom_layers.gradient_buffers import base, size

# Ops that write over an input that nobody reads after them.
IN_PLACE = (
    "Add", "AddN", "AddV2", "BiasAdd", "Elu", "EluGrad", "Erf", "Exp", "Floor", "LeakyRelu",
    "LeakyReluGrad", "Maximum", "Minimum", "Mul", "Neg", "RealDiv", "Relu", "Relu6", "Relu6Grad",
    "ReluGrad", "Rsqrt", "Selu", "SeluGrad", "Sigmoid", "SigmoidGrad", "Softmax", "Softplus",
    "SoftplusGrad", "Sqrt", "Square", "SquaredDifference", "Sub", "Tanh", "TanhGrad",
)


def peak(step):
    """The most bytes alive at once: each buffer from the op that makes it to its last reader.

    TensorFlow runs what is ready, in no order that a graph fixes. So this is the most of three:
    that in which the ops were made, and of those that are ready the first, or the last, first.
    The batch, weights, and the gradients of weights are aside.
    """
    readers, missing = _dependencies(step)
    orders = (step.ops, _ready_order(step.ops, readers, dict(missing), deque.popleft),
              _ready_order(step.ops, readers, dict(missing), deque.pop))
    return max(_most_alive(step, order) for order in orders)


def _dependencies(step):
    """{op: ops that read from it or wait for it}, {op: how many ops it reads from or waits for}"""
    readers, missing = {op: [] for op in step.ops}, {}
    for op in step.ops:
        before = {t.op for t in op.inputs}.union(op.control_inputs) & readers.keys()
        missing[op] = len(before)
        for b in before:
            readers[b].append(op)
    return readers, missing


def _ready_order(ops, readers, missing, choose):
    """`ops` in an order in which each can run; `choose` takes one from the queue of the ready."""
    ready = deque(op for op in ops if not missing[op])
    order = []
    while ready:
        op = choose(ready)
        order.append(op)
        for reader in readers[op]:
            missing[reader] -= 1
            if not missing[reader]:
                ready.append(reader)
    return order


def _most_alive(step, ops):
    last = {base(t).ref(): i for i, op in enumerate(ops) for t in op.inputs}
    seen = {base(g).ref() for g in step.gradients}
    freed = [0] * len(ops)
    alive = most = 0
    for i, op in enumerate(ops):
        before, done = alive, freed[i]
        if not step.given(op) and op not in step.buffers.unchanging:
            for t in op.outputs:
                made = _made(step, t, seen)
                freed[last.get(t.ref(), i)] += made
                alive += made
        in_place = op.type in IN_PLACE and done >= alive - before
        most = max(most, before if in_place else alive)
        alive -= freed[i]
    return most


def _made(step, t, seen):
    """Bytes of the buffers that are there with `t` and were not before."""
    if base(t) is not t:
        return 0
    made = [(b, n) for b, n in step.buffers.of(t)
            if b.ref() not in seen and (b is t or b.graph is not step.graph)]
    seen.update(b.ref() for b, _ in made)
    return sum((size(b) or 0) * (n or 0) for b, n in made)
