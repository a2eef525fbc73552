"""Gradients beside differences: one subject, in every mode."""

import functools

import numpy as np
import tensorflow as tf

from custom_layers.finite_differences import Derivatives, rounding_error, step_for
from custom_layers.gradient_causes import lengths, likely_cause
from custom_layers.gradient_report import Failure, Row, malformed, raised
from custom_layers.gradient_subject import draws_random_numbers


def _compiled(function, **options):
    # As a partial, each function is new to TensorFlow, which else warns of retracing one.
    return tf.function(functools.partial(function), **options)


MODES = {
    "eager": lambda function: function,
    "graph": _compiled,
    "xla": functools.partial(_compiled, jit_compile=True),
}


class Comparison:
    """One check of one subject: its gradients in every mode, then the differences.

    What is found goes into `report`.
    """

    def __init__(self, subject, *, report, modes, directions, elements, generator):
        self.subject, self.report, self.modes = subject, report, modes
        self.generator = generator
        self.values = [tf.constant(value) for value in subject.values]
        self.outputs = self.upstream = self.other = ()
        self.gradients = {}  # mode -> a gradient for each tensor; None where it is malformed
        self.own_forward = []  # modes that draw other random numbers than eager mode does
        self.missing, self.ignores_dy = set(), set()  # (mode, tensor) each
        self._runs, self._spreads = {}, {}  # by mode
        self._points = {
            "directions": directions,
            "elements": max(8, elements // len(self.values)),
            "generator": generator,
            "tolerance": report.tolerance,
        }

    def run(self):
        self.outputs, _ = self.subject.forward(self.values)
        if not self._outputs_can_be_checked():
            return
        self.upstream, self.other = (
            [tf.constant(self.generator.standard_normal(y.shape)) for y in self.outputs]
            for _ in range(2)
        )
        for mode in self.modes:
            try:
                self._take_gradients(mode)
            except Exception as error:
                self.report.failures.append(raised(mode, error))
        alike = [mode for mode in self.gradients if mode not in self.own_forward]
        for modes in [alike, *([mode] for mode in self.own_forward)]:
            if modes:
                self._compare(modes)

    def _fail(self, tensor, kind, mode, message, cause=""):
        self.report.failures.append(Failure(tensor, kind, mode, message, cause=cause))

    def _outputs_can_be_checked(self):
        if not self.outputs:
            self._fail("outputs", "output", "eager", "there is no float output")
        for i, y in enumerate(self.outputs):
            if y.dtype != tf.float64:
                self._fail(
                    f"output {i}", "dtype", "eager",
                    f"expected float64, since all inputs are; got {y.dtype.name}",
                    cause="the function casts to a dtype of its own",
                )
            elif not np.all(np.isfinite(y)):
                self._fail(f"output {i}", "output", "eager", "the output is not finite")
        return self.report.ok

    def _take_gradients(self, mode):
        """Takes the gradients in one mode, and checks all that needs no differences."""
        run = self._runs[mode] = MODES[mode](self.subject.gradients)
        outputs, gradients, state = run(self.values, self.upstream)
        again, gradients_again, _ = run(self.values, self.upstream)
        for i, (y, y_again) in enumerate(zip(outputs, again)):
            if not np.array_equal(y, y_again):
                self._fail(f"output {i}", "random", mode, "differs when computed again")
                return
        if not self._same_outputs(mode, outputs):
            if self._draws_random_numbers:
                self.own_forward.append(mode)
            else:
                self._fail("outputs", "modes", mode, "the outputs differ from eager mode's")
        sound = []
        for name, source, gradient, twin in zip(
            self.subject.names, self.values, gradients, gradients_again
        ):
            failure = malformed(name, mode, source, gradient)
            if failure:
                self.report.failures.append(failure)
                sound.append(None)
                continue
            if gradient is None:
                self.missing.add((mode, name))
            sound.append(np.zeros(source.shape) if gradient is None else gradient.numpy())
            if gradient is not None and not np.array_equal(gradient, twin):
                self._fail(name, "random", mode, "the gradient differs when taken again")
        self.gradients[mode] = sound
        self._check_linearity(mode, run)
        self._check_state(mode, state)

    def _check_linearity(self, mode, run):
        _, others, _ = run(self.values, self.other)
        mixture = [2 * u - 3 * v for u, v in zip(self.upstream, self.other)]
        _, mixed, _ = run(self.values, mixture)
        for i, gradient in enumerate(self.gradients[mode]):
            if gradient is None or others[i] is None:
                continue
            ignored = np.any(gradient) and np.array_equal(gradient, others[i])
            if ignored:
                self.ignores_dy.add((mode, self.subject.names[i]))
            parts = 2 * gradient, -3 * others[i].numpy()
            largest = max(np.max(np.abs(part), initial=0.0) for part in parts)
            size = max(largest, self._floor(i))
            spread = functools.partial(self._largest_spread, mode, i)
            if not self._close(mixed[i], sum(parts), size, spread):
                self._fail(
                    self.subject.names[i], "nonlinear", mode,
                    "the gradient is not linear in the upstream gradient",
                    cause="the upstream gradient is ignored" if ignored else "",
                )

    def _check_state(self, mode, state):
        """The state after a gradient must be that after the forward pass alone."""
        if not state:
            return
        _, once = MODES[mode](self.subject.forward)(self.values)
        for variable, expected, value in zip(self.subject.state, once, state):
            if not self._close(value, expected):
                self._fail(
                    variable.name, "state", mode,
                    "taking the gradient moves the state further than the forward pass does",
                    cause="the backward pass updates it again (a recomputed forward pass?)",
                )

    def _compare(self, modes):
        """Compares the gradients of modes that have one forward pass with its differences."""
        function = self._weighted(modes[0])
        by_tensor = [self._derivatives(function, i, modes) for i in range(len(self.values))]
        for i, derivatives in enumerate(by_tensor):
            name = self.subject.names[i]
            compared = {
                mode: derivatives.compare(
                    self.gradients[mode][i], lambda: self._spread(mode)[1][i]
                )
                for mode in modes if self.gradients[mode][i] is not None
            }
            if modes[0] not in self.own_forward:
                self.report.kinks += derivatives.kinks
                self.report.undecided += max((lost for _, lost in compared.values()), default=0)
            if derivatives.inconclusive:
                self._fail(
                    name, "kinks", " ".join(modes),
                    f"{derivatives.kinks} of {derivatives.tried} points were left out, too many "
                    "to conclude",
                    cause="the inputs lie at kinks (zeros, ties), where random ones would not, "
                    "or what they change in the outputs is lost in rounding",
                )
            for mode in modes:
                gradient = self.gradients[mode][i]
                error, undecided = compared.get(mode, (np.inf, 0))
                self.report.rows.append(Row(
                    name, derivatives.shape, mode, float(error), len(derivatives.found),
                    derivatives.kinks, undecided,
                ))
                if gradient is None:
                    continue
                if error > self.report.tolerance:
                    self.report.failures.append(self._explained(mode, i, by_tensor))
                elif not self._agrees(i, mode, modes[0], derivatives):
                    self._fail(
                        name, "modes", mode, f"the gradient differs from {modes[0]} mode's"
                    )

    def _derivatives(self, function, i, modes):
        """The derivatives of sum(u * y) by tensor i."""
        gradient = next((g for g in (self.gradients[m][i] for m in modes) if g is not None), 0.0)
        return Derivatives(
            lambda x: function([*self.values[:i], tf.constant(x), *self.values[i + 1:]]),
            self.values[i].numpy(),
            magnitude=np.sqrt(np.mean(np.square(gradient))) if np.size(gradient) else 0.0,
            **self._points,
        )

    def _explained(self, mode, i, by_tensor):
        gradient, derivatives = self.gradients[mode][i], by_tensor[i]
        name = self.subject.names[i]
        index, numeric = derivatives.worst(gradient, lambda: self._spread(mode)[1][i])
        kind, message = "gradient", "wrong gradient"
        if (mode, name) in self.missing:
            kind, message = "missing", "no gradient (None)"
            cause = "the backward pass returns None, or the path to this tensor is cut"
        elif (mode, name) in self.ignores_dy:
            cause = "the upstream gradient is ignored"
        else:
            cause = self._exchanged(i, gradient, by_tensor) or likely_cause(
                gradient, *derivatives.elements, value=self.values[i].numpy(),
                sizes=lengths([*self.values, *self.outputs]), tolerance=self.report.tolerance,
            )
        return Failure(
            name, kind, mode, message, index, float(gradient[index]), float(numeric), cause
        )

    def _exchanged(self, i, gradient, by_tensor):
        for j, other in enumerate(by_tensor):
            if j != i and other.shape == gradient.shape and np.any(gradient):
                if other.compare(gradient)[0] <= self.report.tolerance:
                    return f"it is the gradient of {self.subject.names[j]}"
        return ""

    def agree(self, i, gradients, others):
        """Whether two gradients by tensor i agree, or several stacked."""
        size = max(np.max(np.abs(others), initial=0.0), self._floor(i))
        return self._close(
            gradients, others, size, lambda: self._largest_spread(self.modes[0], i)
        )

    def _agrees(self, i, mode, first_mode, derivatives):
        gradient, first = self.gradients[mode][i], self.gradients[first_mode][i]
        if first is None:
            return True
        largest = max(np.max(np.abs(first), initial=0.0), self._floor(i))
        # At a kink, rounding decides between two gradients: both are right.
        return self._close(
            gradient * derivatives.smooth, first * derivatives.smooth, largest,
            lambda: self._spread(mode)[1][i] + self._spread(first_mode)[1][i],
        )

    def _same_outputs(self, mode, outputs):
        return all(
            self._close(y, eager, spread=lambda: self._spread(mode)[0][i])
            for i, (y, eager) in enumerate(zip(outputs, self.outputs))
        )

    def _close(self, a, b, size=None, spread=None):
        """Whether two arrays agree, relative to `size`: by default the largest element's.

        What `spread()` explains is no disagreement; it is asked only where there is one.
        """
        a, b = np.asarray(a, "float64"), np.asarray(b, "float64")
        # Not below 1e-6: modes round differently, and what should be 0 may be 1e-17.
        size = np.max(np.abs(b), initial=1e-6) if size is None else size
        if a.shape != b.shape:
            return False
        difference = np.abs(a - b)
        if np.all(difference <= self.report.tolerance * size):
            return True
        if spread is None:
            return False
        return bool(np.all(difference <= self.report.tolerance * size + spread()))

    def _spread(self, mode):
        """(how exact the outputs are, how exact the gradients are), element by element.

        That is how far they move when the tensors and the upstream gradient move by some units
        in their last place: no checker can hold that against a formula. An element that happens
        not to move counts as its tensor's median: a gradient that is 0 is computed as one of few
        multiples of a rounding error.
        """
        if mode not in self._spreads:
            generator = np.random.default_rng(0)

            def moved(tensors):
                amount = 64 * np.finfo("float64").eps
                return [tf.constant(t * (1 + amount * generator.uniform(-1, 1, t.shape)))
                        for t in map(np.asarray, tensors)]

            def spread(here, *others):
                if here is None:
                    return 0.0
                far = np.max([np.abs(np.subtract(other, here)) for other in others], axis=0)
                return np.maximum(far, np.median(far))

            run = self._runs[mode]
            points = [run(self.values, self.upstream)[:2]]
            points += [run(moved(self.values), moved(self.upstream))[:2] for _ in range(8)]
            self._spreads[mode] = [list(map(spread, *part)) for part in zip(*points)]
        return self._spreads[mode]

    def _largest_spread(self, mode, i):
        """That of a sum of some gradients by tensor i."""
        return 8 * np.max(self._spread(mode)[1][i])

    def _floor(self, i):
        """The size of gradient by tensor i that is lost in rounding."""
        weighted = [np.linalg.norm(u * y) for u, y in zip(self.upstream, self.outputs)]
        step = step_for(self.values[i].numpy())
        return rounding_error(weighted, step) / self.report.tolerance

    @functools.cached_property
    def _graph(self):
        """u * y in graph mode; None of a target that only runs eagerly."""
        function = _compiled(self.subject.weighted)
        try:
            function.get_concrete_function(self.values, self.upstream)
        except Exception:
            return None
        return function

    @functools.cached_property
    def _draws_random_numbers(self):
        return self._graph is not None and draws_random_numbers(
            self._graph.get_concrete_function(self.values, self.upstream)
        )

    def _weighted(self, mode):
        """u * y as a function of the tensors: by the forward pass of `mode`, or eager mode's."""
        if mode in self.own_forward:
            function = MODES[mode](self.subject.weighted)
        else:
            function = self._graph or self.subject.weighted
        return lambda values: function(values, self.upstream).numpy()
