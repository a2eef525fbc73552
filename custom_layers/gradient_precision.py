"""What a gradient check asks of float32: a gradient that is right there too."""

import numpy as np
import tensorflow as tf

from custom_layers.gradient_report import Failure, malformed, raised
from custom_layers.gradient_subject import precision


def check_own_precision(subject_of, wide, report, generator):
    """Takes the gradient in float32, or what the target is made for."""
    try:
        subject = subject_of("float32")
    except ValueError as error:
        report.notes.append(f"Not run in float32: {error}")
        return
    values = [tf.constant(value) for value in subject.values]
    try:
        outputs, _ = subject.forward(values)
        upstream = [tf.cast(generator.standard_normal(y.shape), y.dtype) for y in outputs]
        _, gradients, _ = subject.gradients(values, upstream)
        failures = []
        finite = all(np.all(np.isfinite(tf.cast(y, "float64"))) for y in outputs)
        for name, value, gradient in zip(subject.names, values, gradients):
            failure = malformed(name, "float32", value, gradient)
            # What overflows in the forward pass already is not the gradient's fault.
            if failure and (finite or failure.kind != "nan"):
                failures.append(failure)
        if finite and not failures:
            failures = _wrong_in_float32(subject, wide, generator)
    except Exception as error:
        failures = [raised("float32", error)]
    finally:
        subject.restore()
        wide.restore()
    report.failures += failures


def _wrong_in_float32(subject, wide, generator):
    """The failures of gradients that are right in float64 alone.

    A tensor fails that does at each of three points nearby: what an accident of rounding does
    to a pooling's tie or a ReLU near 0, it does not do three times.
    """
    failures = None
    for distance in (0, 2.0**-10, 2.0**-9):
        values = [v * (1 + distance * generator.uniform(-1, 1, v.shape)) for v in wide.values]
        found = _precision_failures(subject, wide, values, generator)
        names = {failure.tensor for failure in found}
        failures = found if failures is None else [f for f in failures if f.tensor in names]
        if not failures:
            break
    return failures


def _precision_failures(subject, wide, values, generator):
    """The failures of float32 gradients beside float64's, at the same values and upstream."""
    values = [value.astype("float32") for value in values]
    outputs, _ = subject.forward([tf.constant(value) for value in values])
    if any(t.dtype != tf.float32 for t in [*outputs, *subject.sources(values)]):
        return []
    upstream = [generator.standard_normal(y.shape).astype("float32") for y in outputs]

    def differentiated(subject, dtype, moved=lambda t: t):
        tensors = [[tf.constant(moved(t.astype(dtype))) for t in ts] for ts in (values, upstream)]
        with precision(dtype):
            outputs, gradients, _ = subject.gradients(*tensors)
        return ([np.asarray(y, "float64") for y in outputs],
                [0.0 if g is None else np.asarray(g, "float64") for g in gradients])

    def size(t):
        return np.maximum(np.abs(t), np.sqrt(np.mean(np.square(t))))

    def spread(dtype):
        """How far each gradient moves when all is rounded to `dtype`."""
        amount = 4 * np.finfo(dtype).eps

        def rounded(t):
            return t * (1 + amount * generator.uniform(-1, 1, t.shape))

        near = [differentiated(wide, "float64", rounded)[1] for _ in range(4)]
        return [16 * np.max(np.abs([g - right for g in gs]), axis=0)
                for right, *gs in zip(exact, *near)]

    eps = np.finfo("float32").eps
    half_the_digits = np.sqrt(eps)
    outputs, gradients = differentiated(subject, "float32")
    exact_outputs, exact = differentiated(wide, "float64")
    for y, right in zip(outputs, exact_outputs):
        # A forward pass that loses more than the last digit, or draws other numbers, may have
        # another gradient.
        if np.any(np.abs(y - right) > 64 * eps * size(right)):
            return []
    # The size of a gradient that changes the outputs by their own size where the tensor changes
    # by its own. What is small beside it (a saturated tanh, a bias before a normalisation) is
    # a difference of rounded numbers in the best of formulas. Outputs count as 1e-3 at least, as
    # in `rounding_error`: they may have cancelled to 0.
    effect = np.linalg.norm([np.linalg.norm(u * np.maximum(np.abs(y), 1e-3))
                             for u, y in zip(upstream, exact_outputs)])
    errors = [
        np.abs(g - right) * np.linalg.norm(value)
        - half_the_digits * np.maximum(size(right) * np.linalg.norm(value), effect)
        for g, right, value in zip(gradients, exact, values)
    ]
    if not any(np.any(error > 0) for error in errors):
        return []
    failures = []
    for i, (error, lost, zero) in enumerate(zip(errors, spread("float32"), spread("float64"))):
        if np.linalg.norm(exact[i]) <= np.linalg.norm(zero):
            continue  # lost in float64's rounding already: a derivative that is 0
        error = error - lost * np.linalg.norm(values[i])
        if np.any(error > 0):
            index = tuple(int(k) for k in np.unravel_index(np.argmax(error), error.shape))
            failures.append(Failure(
                subject.names[i], "precision", "float32", "right in float64, wrong in float32",
                index, float(gradients[i][index]), float(exact[i][index]),
                cause="the backward pass cancels or overflows, or takes another path in float32",
            ))
    return failures
