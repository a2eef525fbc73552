"""`check_gradients`: are the gradients right? By differences, in eager, graph and XLA mode."""

import functools
import time

import numpy as np
import tensorflow as tf

from custom_layers.gradient_comparison import MODES, Comparison
from custom_layers.gradient_report import Report, malformed, raised
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
    - once, in float32 or the target's own precision: that it is finite and of its tensor's dtype.

    A layer or model that does not compute in float64 is rebuilt in float64 from its config, with
    its weights, and a layer that is not built is built. Weights are moved by a tenth, at
    random, off values that hide errors (a scale of 1). Every call starts from the same
    state, so that dropout draws the same mask. The target is left as it was.

    Points at a kink (ReLU at 0, a tie in a pooling window) have no derivative: they are found,
    left out and counted (`report.kinks`). Where more than half are left out, the check fails.
    An error is relative to the element, or to the root mean square of that tensor's gradient
    where that is larger; below the rounding error of the differences it counts as none.

    Args:
        target: function of tensors (decorated with `differentiable`, with
            `tf.custom_gradient`, or neither), keras layer, loss or model.
        inputs: a tensor or array, or a list of them, one for each argument; for a loss
            [y_true, y_pred]; for a model that takes a dict, a dict. Integers are held constant
            and listed, and so is None (an argument that is not given).
        modes: which of "eager", "graph" (`tf.function`) and "xla" (`jit_compile=True`).
        training: what layers and models are called with.
        skip: names of float inputs to hold constant. Of a loss that is y_true.
        directions: how many random directions a tensor.
        elements: how many elements in all.
        second_order: also checks the gradient of (gradient . v), v random, by the tensors and by
            the upstream gradient.
        tolerance: largest relative error that passes.
        seed: of upstream, directions and elements.

    Returns:
        A `Report`: `ok`, `error`, `errors` by mode, `tensors`, `rows`, `failures`, `kinks`,
        `skipped`, `seconds`, `raise_if_failed()`. It prints as a table and is true if all is well.

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
            Comparison, differentiate=_gradients, report=report, modes=modes,
            directions=directions, elements=elements, generator=generator,
        )
        try:
            subject.perturb_weights(0.1, generator)
            first_order = compare(subject)
            first_order.run()
            if second_order and report.ok:
                compare(_SecondOrder(subject, first_order.upstream, generator)).run()
        finally:
            subject.restore()
    if report.ok:
        _check_own_precision(subject_of, report, generator)
    report.seconds = time.perf_counter() - started
    return report


def _check_own_precision(subject_of, report, generator):
    """Takes the gradient once in float32, or what the target is made for."""
    try:
        subject = subject_of("float32")
    except ValueError as error:
        report.notes.append(f"Not run in float32: {error}")
        return
    values = [tf.constant(value) for value in subject.values]
    try:
        outputs, _ = subject.forward(values)
        upstream = [tf.cast(generator.standard_normal(y.shape), y.dtype) for y in outputs]
        _, gradients, _ = _gradients(subject, values, upstream)
    except Exception as error:
        report.failures.append(raised("float32", error))
        return
    finally:
        subject.restore()
    finite = all(np.all(np.isfinite(tf.cast(y, "float64"))) for y in outputs)
    for name, value, gradient in zip(subject.names, values, gradients):
        failure = malformed(name, "float32", value, gradient)
        # What overflows in the forward pass already is not the gradient's fault.
        if failure and (finite or failure.kind != "nan"):
            report.failures.append(failure)


def _gradients(subject, values, upstream):
    """The outputs, the gradients by the sources, and the state that they leave."""
    subject.load(values)
    sources = subject.sources(values)
    with tf.GradientTape() as tape:
        tape.watch(sources)
        outputs = subject.call(sources)
    gradients = tape.gradient(outputs, sources, upstream)
    gradients = [None if g is None else tf.convert_to_tensor(g) for g in gradients]
    return outputs, gradients, [tf.identity(variable.value) for variable in subject.state]


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
