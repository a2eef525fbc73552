"""Our gradient checker beside others: how many planted bugs each catches, misses, and its time.

The bugs are those of the tests (`tests/planted_*.py`); whatever a checker raises counts as caught.
The others check the inputs' gradients in eager mode, as they are used; ours is run as
`check_gradients(op, inputs)`. The bugs it misses there it finds when asked for second order and
batched upstream gradients: tests/test_gradient_check.py shows that.
"""

import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import tensorflow as tf

from custom_layers.gradient_check import check_gradients

# The planted bugs are tests first: they are imported from where they lie.
sys.path.append(str(Path(__file__).parent.parent / "tests"))

HEADER = ("checker", "bugs caught", "of", "right ops refused", "of", "ms a check", "missed")


def by_defaults(op, inputs):
    """Whether `check_gradients` passes."""
    return check_gradients(op, inputs).ok


def by_gradcheck(op, inputs, *, eps=1e-6, atol=1e-5, rtol=1e-3):
    """Whether the arithmetic of `torch.autograd.gradcheck`, with its defaults, passes.

    Written here over TensorFlow, since PyTorch is no dependency: the whole Jacobian by central
    differences in float64 beside the one taken row by row with upstream gradients of one 1,
    |a - n| <= atol + rtol |n|; and the backward pass bitwise the same when taken again
    (nondet_tol=0). Shapes are checked, as PyTorch's engine does.
    """
    function, tensors = _by_floats(op, inputs)

    def jacobians():
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(tensors)
            y = function(*tensors)
        rows = [tape.gradient(y, tensors, tf.constant(row, y.dtype)) for row in np.eye(y.shape[0])]
        columns = []
        for x, gradients in zip(tensors, zip(*rows)):
            gradients = [np.zeros(x.shape) if g is None else np.asarray(g) for g in gradients]
            if any(g.shape != x.shape for g in gradients):
                raise ValueError(f"a gradient of the wrong shape. Received: {gradients[0].shape}")
            columns.append(np.stack([g.ravel() for g in gradients]))
        return columns

    analytic, again = jacobians(), jacobians()
    for i, (a, b) in enumerate(zip(analytic, again)):
        if not np.array_equal(a, b):
            return False
        for column in range(a.shape[1]):
            step = eps * np.eye(a.shape[1])[column].reshape(tensors[i].shape)
            ends = [function(*tensors[:i], tensors[i] + s, *tensors[i + 1:]).numpy()
                    for s in (step, -step)]
            numeric = (ends[0] - ends[1]) / (2 * eps)
            if not np.all(np.abs(a[:, column] - numeric) <= atol + rtol * np.abs(numeric)):
                return False
    return True


def by_compute_gradient(op, inputs, *, threshold=1e-4):
    """Whether `tf.test.compute_gradient`, its step of 1/1024 and float64, finds no difference.

    The largest absolute one is held against 1e-4, as TensorFlow's own tests mostly do.
    """
    pairs = zip(*tf.test.compute_gradient(*_by_floats(op, inputs)))
    return all(np.max(np.abs(theory - numeric)) <= threshold for theory, numeric in pairs)


def _by_floats(op, inputs):
    """`op` as a function of its float inputs, with one flat result; and those inputs."""
    inputs = [tf.convert_to_tensor(x) for x in (inputs if isinstance(inputs, list) else [inputs])]
    places = [i for i, x in enumerate(inputs) if x.dtype.is_floating]

    def function(*tensors):
        arguments = list(inputs)
        for place, tensor in zip(places, tensors):
            arguments[place] = tensor
        return tf.concat([tf.reshape(y, [-1]) for y in tf.nest.flatten(op(*arguments))], 0)

    return function, [inputs[place] for place in places]


CHECKERS = {
    "`check_gradients`": by_defaults,
    "as `torch.autograd.gradcheck`": by_gradcheck,
    "`tf.test.compute_gradient`": by_compute_gradient,
}


def passes(checker, build, bug):
    """(whether a checker passes an op, the seconds it took)."""
    target = build(bug)
    started = time.perf_counter()
    try:
        passed = bool(checker(*target))
    except Exception:
        passed = False
    return passed, time.perf_counter() - started


def rows(bugs=None):
    """One row a checker. `bugs`: {builder: names of its bugs}, by default all there are."""
    from planted_bugs import BUGS

    bugs = BUGS if bugs is None else bugs
    for name, checker in CHECKERS.items():
        refused, missed, seconds, count = 0, {}, [], 0
        for build in bugs:
            for bug in (None, *bugs[build]):
                passed, taken = passes(checker, build, bug)
                seconds.append(taken)
                refused += bug is None and not passed
                count += bug is not None
                if bug is not None and passed:
                    missed.setdefault(build.__name__, []).append(bug)
        misses = sum(map(len, missed.values()))
        text = "; ".join(f"{build}: {', '.join(names)}" for build, names in missed.items())
        yield (name, str(count - misses), str(count), str(refused), str(len(bugs)),
               f"{1e3 * median(seconds):.0f}", text or "none")
