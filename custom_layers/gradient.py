"""`differentiable`: a function that returns its result and, with it, its backward pass."""

import contextlib
import contextvars
import inspect

import tensorflow as tf

from custom_layers.gradient_registry import live_with_its_graph

_FORWARD_ONLY = contextvars.ContextVar("forward_only", default=False)


@contextlib.contextmanager
def forward_only():
    """Ops called inside are their forward passes alone: a smaller graph, for an export.

    A graph that is saved with custom gradients makes TensorFlow warn, wherever it is loaded,
    of gradients that nobody will take.
    """
    token = _FORWARD_ONLY.set(True)
    try:
        yield
    finally:
        _FORWARD_ONLY.reset(token)


def differentiable(pair):
    """Makes a differentiable op of a function that returns `(y, backward)`.

    `pair(*tensors, **settings)` computes the forward result `y` (a tensor or a tuple of them)
    and returns it with `backward`, which takes the upstream gradient `dy` (one for each
    output) and returns the gradient of each tensor, in their order: a bare tensor where the
    op takes one, a tuple where it takes several. `None` says that a tensor has no gradient
    (a seed, integer labels). A tensor that is not there (no bias) is `None`, and so is its
    gradient.

    TensorFlow accepts gradients of any number, shape and dtype and trains wrongly with them;
    here each is checked against its tensor when the gradient is taken.

    A second derivative is that of the backward pass, by TensorFlow: right where that is made of
    differentiable ops of its tensors, as every op's here is (tests/test_layers.py).

    The undecorated function stays reachable as `op.pair`, so that ops compose: the backward
    of a chain is the backwards of its links in reverse order (`chain`).

    Raises:
        TypeError: on the call, where a setting is unknown.
        ValueError: when the gradient is taken, where a gradient is missing, has another shape
            or another dtype than its tensor.
    """

    optional = [
        parameter.default is None and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        for parameter in inspect.signature(pair).parameters.values()
    ]

    def op(*tensors, **settings):
        tensors += (None,) * sum(optional[len(tensors):])
        tensors = [None if t is None else tf.convert_to_tensor(t) for t in tensors]
        if _FORWARD_ONLY.get():
            return pair(*tensors, **settings)[0]
        given = [i for i, t in enumerate(tensors) if t is not None]

        @tf.custom_gradient
        def run(*values):
            arguments = [None] * len(tensors)
            for i, value in zip(given, values):
                arguments[i] = value
            y, backward = pair(*arguments, **settings)

            def checked_backward(*dy):
                gradients = _checked(op, arguments, backward(*dy))
                return tuple(gradients[i] for i in given)

            return y, checked_backward

        y = run(*(tensors[i] for i in given))
        live_with_its_graph(y)
        return y

    # Not functools.wraps: its __wrapped__ makes a tf.function that takes the op as an argument
    # trace the undecorated function, which has no gradient.
    op.__name__, op.__qualname__ = pair.__name__, pair.__qualname__
    op.__doc__, op.__module__ = pair.__doc__, pair.__module__
    op.__signature__ = inspect.signature(pair)
    op.pair = pair
    return op


def chain(first, *links):
    """The op that applies `first` to its tensors and each of `links` to the result.

    Forward:   y = link_n(... link_1(first(tensors)))
    Backward:  the links' backwards in reverse order (the chain rule)

    `first` and `links` are functions that return `(y, backward)`: `op.pair`, or
    `functools.partial(op.pair, setting=...)`. The chain is one node of the graph, so that
    TensorFlow can fuse what lies inside it (a convolution with its bias and ReLU).
    """

    def pair(*tensors):
        y, backward = first(*tensors)
        backwards = [backward]
        for link in links:
            y, backward = link(y)
            backwards.append(backward)

        def chain_backward(dy):
            for backward in reversed(backwards):
                dy = backward(dy)
            return dy

        return y, chain_backward

    return differentiable(pair)


def _checked(op, tensors, gradients):
    """`gradients` as a tuple, each checked against the tensor it belongs to."""
    if not isinstance(gradients, (tuple, list)):
        gradients = (gradients,)
    if len(gradients) != len(tensors):
        raise ValueError(
            f"The backward pass of `{op.__name__}` must return one gradient for each of its "
            f"{len(tensors)} tensors (None where there is none). Received: {len(gradients)}"
        )
    for i, (tensor, gradient) in enumerate(zip(tensors, gradients)):
        if gradient is None:
            continue
        if tensor is None:
            raise ValueError(
                f"The backward pass of `{op.__name__}` returned a gradient for argument {i}, "
                "which was not given. Return None for it."
            )
        if gradient.dtype != tensor.dtype or not gradient.shape.is_compatible_with(tensor.shape):
            raise ValueError(
                f"The backward pass of `{op.__name__}` must return for argument {i} a gradient "
                f"of shape {tensor.shape} and dtype {tensor.dtype.name}. "
                f"Received: shape={gradient.shape}, dtype={gradient.dtype.name}"
            )
    return gradients
