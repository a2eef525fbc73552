"""`check_gradients`: are the gradients right? By differences, in eager, graph and XLA mode."""

import dataclasses
import functools
import time

import numpy as np
import tensorflow as tf

from custom_layers.gradient_comparison import MODES, Comparison
from custom_layers.gradient_precision import check_own_precision
from custom_layers.gradient_report import Failure, Report, raised
from custom_layers.gradient_subject import Subject, in_dtype, precision


def check_gradients(
    target,
    inputs,
    *,
    modes=("eager", "graph", "xla"),
    training=True,
    skip=(),
    directions=4,
    elements=512,
    second_order=False,
    batched_upstream=False,
    tolerance=1e-6,
    seed=0,
):
    """Compares the gradients of `target` at `inputs` with central differences in float64.

    The scalar that is differentiated is sum(u * y), y the outputs, u a random upstream gradient:
    one of ones would hide a backward pass that ignores or averages it. Checked are, by
    every float input and every trainable weight and in every mode:

    - the gradient element by element (`elements` of them in all, shared evenly by the
      tensors; of a larger tensor, random ones) and along random `directions` through all its
      elements; where only a direction shows an error, its element is searched for;
    - shape, dtype, NaN; that a missing gradient (None) is one that is zero;
    - that it is linear in the upstream gradient, and bitwise the same when taken again;
    - that outputs and gradients agree between the modes;
    - that taking the gradient leaves the state (batch statistics, seeds) where the forward pass
      alone leaves it;
    - once, in float32 or the target's own precision: that it is finite and of its tensor's
      dtype; and in float32, that it is the float64 one to half of float32's digits, where the
      outputs are and neither is lost in the rounding of inputs and upstream gradient.

    A layer or model that does not compute in float64 is rebuilt in float64 from its config, with
    its weights, and a layer that is not built is built. Weights are moved by a tenth, at
    random, off values that hide errors (a scale of 1). Every call starts from the same
    state, so that dropout draws the same mask. The target is left as it was.

    Points at a kink (ReLU at 0, a tie in a pooling window) have no derivative: they are found,
    left out and counted (`report.kinks`). Where more than half are left out, the check fails.
    An error is relative to the element, or to the root mean square of that tensor's gradient
    where that is larger. How exact a difference is, is not guessed: two steps must agree, and
    where a gradient seems wrong the rounding errors of the function and of the gradient are
    measured. What they explain cannot be decided: it is counted (`report.undecided`).

    Args:
        target: function of tensors (decorated with `differentiable`, with
            `tf.custom_gradient`, or neither), keras layer, loss or model.
        inputs: a tensor or array, or a list of them, one for each argument; for a loss
            [y_true, y_pred]; for a model that takes a dict, a dict. Integers are held constant
            and listed, and so is None (an argument that is not given). Complex ones are refused.
        modes: which of "eager", "graph" (`tf.function`) and "xla" (`jit_compile=True`).
        training: what layers and models are called with.
        skip: names of float inputs to hold constant. Of a loss that is y_true.
        directions: how many random directions a tensor.
        elements: how many elements in all.
        second_order: also checks the gradient of (gradient . v), v random, by the tensors and by
            the upstream gradient.
        batched_upstream: also takes the backward pass for three upstream gradients at once
            (`tf.vectorized_map`, as `GradientTape.jacobian` and per-example gradients do) and
            compares with one at a time. Not by default, as in `torch.autograd.gradcheck`:
            training never does it, it takes seconds to trace, and what cannot be vectorised (a
            loop, a kernel without a rule) is right all the same. Asked for, that is a failure.
        tolerance: largest relative error that passes.
        seed: of upstream, directions and elements.

    Returns:
        A `Report`: `ok`, `error`, `errors` by mode, `tensors`, `rows`, `failures`, `kinks`,
        `undecided`, `skipped`, `seconds`, `raise_if_failed()`. It prints as a table and is true
        if all is well.

    Raises:
        TypeError, ValueError: where the arguments are wrong or the target cannot be rebuilt.
            What the forward pass raises is raised on; what the backward pass raises is a failure.
    """
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown or not modes or isinstance(modes, str):
        raise ValueError(f"`modes` must be some of {', '.join(MODES)}. Received: modes={modes!r}")
    started = time.perf_counter()
    generator = np.random.default_rng(seed)

    def subject_of(dtype):
        twin = in_dtype(target, dtype)
        return Subject(
            twin, inputs, dtype=dtype, training=training, skip=skip,
            weights_of=None if twin is target else target,
        )

    with precision("float64"):
        subject = subject_of("float64")
        report = Report(subject.name, tolerance, skipped=subject.skipped)
        compare = functools.partial(
            Comparison, report=report, modes=modes,
            directions=directions, elements=elements, generator=generator,
        )
        try:
            subject.perturb_weights(0.1, generator)
            first_order = compare(subject)
            first_order.run()
            if second_order and report.ok:
                compare(_SecondOrder(subject, first_order.upstream, generator)).run()
            if batched_upstream and report.ok:
                _check_batched_upstream(subject, first_order, report)
        finally:
            subject.restore()
    if report.ok:
        check_own_precision(subject_of, subject, report, generator)
    report.seconds = time.perf_counter() - started
    return report


def _check_batched_upstream(subject, first_order, report):
    """Compares the gradients of several upstream gradients at once with those of each."""
    upstreams = [first_order.upstream, first_order.other]
    upstreams.append([u - v for u, v in zip(*upstreams)])
    subject.load(first_order.values)
    sources = subject.sources(first_order.values)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(sources)
        outputs = subject.call(sources)

    def gradients(upstream):
        return tape.gradient(outputs, sources, upstream, unconnected_gradients="zero")

    one_at_a_time = [gradients(upstream) for upstream in upstreams]
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("CRITICAL")  # it prints pages on what cannot be vectorised; we say it in a line
    try:
        at_once = tf.vectorized_map(
            gradients, [tf.stack(u) for u in zip(*upstreams)], fallback_to_while_loop=False
        )
    except Exception as error:
        failure = raised("batched", error)
        report.failures.append(dataclasses.replace(
            failure, kind="unvectorised",
            message="the backward pass cannot be taken for several upstream gradients at once "
            f"(`batched_upstream`): {failure.message}",
        ))
        return
    finally:
        logger.setLevel(level)
    for i, (name, batch, *singles) in enumerate(zip(subject.names, at_once, *one_at_a_time)):
        if not first_order.agree(i, batch, tf.stack(singles)):
            report.failures.append(Failure(
                name, "batched", "batched",
                "the gradients for several upstream gradients at once are not those of each",
                cause="a backward pass that keeps something between its calls",
            ))


class _SecondOrder(Subject):
    """The sum of (gradient . v) of a subject, as a function of its tensors and the upstream."""

    def __init__(self, subject, upstream, generator):
        self._subject, self._count, self.state = subject, len(subject.names), subject.state
        self._v = [generator.standard_normal(value.shape) for value in subject.values]
        self.values = subject.values + [np.asarray(u) for u in upstream]
        self.names = [f"second order, {name}" for name in subject.names]
        self.names += [f"second order, upstream {i}" for i in range(len(upstream))]

    def load(self, values):
        self._subject.load(values[:self._count])

    def sources(self, values):
        return self._subject.sources(values[:self._count]) + list(values[self._count:])

    def call(self, sources):
        sources, upstream = sources[:self._count], sources[self._count:]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            outputs = self._subject.call(sources)
        gradients = tape.gradient(outputs, sources, upstream)
        products = [tf.reduce_sum(tf.convert_to_tensor(g) * v)
                    for g, v in zip(gradients, self._v) if g is not None]
        return [tf.add_n([tf.constant(0, tf.float64), *products])]
