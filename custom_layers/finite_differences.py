"""Derivatives from values alone: central differences in float64 that know when they are wrong.

How exact a difference is, is estimated and not guessed. What bending adds is seen from two step
sizes. What rounding adds is at least that of the values summed; where that does not explain what
is seen, it is measured (`noise`). One convention is left: numbers on the way to a small result
may have the size of 1 (`rounding_error`, `Derivatives`), so that a derivative below about 1e-11
is never an alarm. The caller's tolerance only says how exact a gradient must be.
"""

from dataclasses import dataclass

import numpy as np

# A power of two, so that x + STEP is exact for most x. The error of the extrapolated difference
# is of the order STEP**4 where the function bends on a scale of 1: far below its rounding error.
STEP = 2.0**-13
# Tried in turn until two steps agree: a larger one drowns less in rounding, smaller ones stay
# clear of a kink nearby and follow a function that bends on a small scale.
FACTORS = (1, 32, 1 / 32, 1 / 1024)
# A random direction that meets a kink is halved until its sound parts are found: at most so often.
SPLITS = 64
# The difference quotient 4/3 near - 1/3 far of values with errors of standard deviation sigma is
# wrong by 1.9 sigma / h: this many sigma / h are eight standard deviations of it.
DEVIATIONS = 16


@dataclass(frozen=True)
class Slope:
    """A derivative, the rounding error that it may carry, and the step it was taken with."""

    value: float
    rounding: float
    step: float


def step_for(x):
    """The step to move `x` by: in proportion to its size, where that is from 1e-3 to 1."""
    size = np.sqrt(np.mean(np.square(x))) if np.size(x) else 0.0
    return STEP * 2.0 ** np.round(np.log2(np.clip(size, 1e-3, 1))) if size else STEP


def rounding_error(values, step):
    """What rounding adds to a difference quotient of sum(values), at least.

    Values count as 1e-3 at least: what is computed as exactly 0 (x - mean of one x) may have a
    derivative that is computed as 1e-15.
    """
    return DEVIATIONS * np.finfo("float64").eps * max(np.linalg.norm(values), 1e-3) / step


@np.errstate(invalid="ignore")  # inf - inf, beyond the domain of the function
def noise(line, spacing):
    """The standard deviation of the rounding errors of sum(line(t)) near t = 0, measured.

    Values that cancel leave the errors of what they were computed from, which their own size
    does not tell: (tanh(x) - its mean) * 30 for large x. Third differences of 13 values wipe out
    what is smooth and keep the errors. Of ten, a kink can touch three: the largest three are
    left out. (More and Wild, Estimating Computational Noise, SIAM J. Sci. Comput. 2011; they take
    their mean and even spacing. Values on a grid are rounded alike where they grow by a whole
    number of units in the last place: here the spacing is uneven.)
    """
    k = np.arange(-6, 7)
    ts = k + 0.5 * np.mod(k * 0.618034, 1)
    values = [np.asarray(line(t * spacing)) for t in ts]
    values = np.array([np.sum(value - values[6]) for value in values])
    differences = []
    for i in range(len(ts) - 3):
        t = ts[i:i + 4]
        weights = 1 / np.prod(t[:, None] - t + np.eye(4), axis=1)  # a quadratic's sum is 0
        differences.append(weights @ values[i:i + 4] / np.linalg.norm(weights))
    expected = 0.95  # of the seventh of ten |z|, z normal
    return float(np.sort(np.abs(differences))[6] / expected)


def measured_rounding(line, step):
    """What rounding adds to a difference quotient of sum(line(t)), measured."""
    return DEVIATIONS * max(noise(line, step / 8), noise(line, step / 5)) / step


@np.errstate(invalid="ignore")
def slope(line, centre, *, step, magnitude, tolerance):
    """The derivative of sum(line(t)) at t = 0, or None where there is none to trust.

    Two central differences, of step h and h/2, give by Richardson extrapolation a value with
    an error of order h^4. A kink or a jump *near* t = 0 makes the two disagree, and a smaller
    step is tried. A kink *at* t = 0 leaves them equal (both are the mean of the two sides), but
    its second difference, divided by h, stays as it is when h is halved; that of a smooth
    function halves too. Where no step makes the two agree, the rounding error may be larger
    than the values tell: it is measured, and they are tried again.

    Args:
        line: function of a number t that returns an array; its sum is differentiated.
        centre: `line(0)`.
        step: the first h.
        magnitude: size that such derivatives have; what is small beside it does not matter.
        tolerance: relative error that the result is wanted for.
    """
    for measured in (False, True):
        for h in step * np.array(FACTORS):
            (up, down), (far_up, far_down) = ((line(t), line(-t)) for t in (h / 2, h))
            near, far = np.sum(up - down) / h, np.sum(far_up - far_down) / (2 * h)
            value, rounding = near + (near - far) / 3, rounding_error(centre, h)
            if measured:
                rounding = max(rounding, measured_rounding(line, h))
            allowed = tolerance / 4 * max(magnitude, abs(value)) + rounding
            # Written so that a NaN, beyond the domain of the function, does not pass.
            if not abs(near - far) / 3 <= allowed:
                continue
            bend = abs(np.sum(up - centre + (down - centre))) / (h / 2)
            far_bend = abs(np.sum(far_up - centre + (far_down - centre))) / h
            if bend > 4 * allowed and bend > 0.75 * far_bend:
                rounding = max(rounding, measured_rounding(line, h))
                if bend > 4 * (allowed + rounding):
                    return None
            return Slope(value, rounding, h)
    return None


class Derivatives:
    """The derivatives of sum(function(x)) by a tensor x, as far as there are any.

    Taken by single elements (random ones, where x has more than `elements`) and along random
    directions through all elements. Attributes: `found`, pairs of an index or a direction and
    its `Slope`; `kinks`, how many of the points `tried` have no derivative; `smooth`, 0 at the
    elements that are at a kink, else 1.
    """

    def __init__(
        self, function, x, *, magnitude, tolerance, elements, directions, generator
    ):
        self._function, self._x, self._centre = function, x, function(x)
        self._magnitude, self._tolerance = magnitude, tolerance
        self.shape = x.shape
        self.found, self.kinks, self.tried = [], 0, 0
        self.smooth = np.ones(x.shape)
        self._rounding = 0.0  # times the step: the largest measured so far, along any direction
        for flat in np.sort(generator.permutation(x.size)[:elements]):
            self._by_element(self._index(flat))
        for _ in range(directions):
            self._along(generator.standard_normal(x.shape) * self.smooth)

    @property
    def inconclusive(self):
        return 2 * self.kinks > self.tried

    @property
    def elements(self):
        """(indices, derivatives) of the single elements."""
        found = [(where, slope.value) for where, slope in self.found if isinstance(where, tuple)]
        indices = np.array([index for index, _ in found], int).reshape(len(found), len(self.shape))
        return indices, np.array([value for _, value in found])

    def compare(self, gradient, spread=None):
        """(the largest relative error of a gradient at the points found, how many say nothing).

        A point says nothing where the gradient is wrong beyond the tolerance but not beyond
        what rounding explains. `spread()` tells how exact the gradient itself is, element by
        element: it is asked, and the rounding of the differences measured, only there.
        """
        worst, undecided = self._worst(self.found, gradient, spread)
        return self._error(gradient, *worst) if worst else 0.0, undecided

    def worst(self, gradient, spread=None):
        """(index, derivative) where a gradient is most wrong.

        Where no single element that was looked at is wrong, the worst direction is halved until
        one is left.
        """
        def error(point):
            return self._error(gradient, *point)

        single = [point for point in self.found if isinstance(point[0], tuple)]
        single, _ = self._worst(single, gradient, spread)
        if single is None or error(single) <= self._tolerance:
            single, _ = self._worst(self.found, gradient, spread)
        where, slope = single
        while not isinstance(where, tuple):
            halves = [self._as_index(half) for half in _halves(where)]
            halves = [(half, self._slope(half)) for half in halves]
            halves = [point for point in halves if point[1] is not None]
            if not halves:
                return self._index(np.argmax(np.abs(where))), np.nan
            where, slope = max(halves, key=error)
        return where, slope.value

    def _worst(self, points, gradient, spread=None):
        """(the point where a gradient is most wrong or None, how many worse ones say nothing)."""
        undecided = 0
        for point in sorted(points, key=lambda p: self._error(gradient, *p), reverse=True):
            if not self._lost(gradient, *point, spread):
                return point, undecided
            undecided += 1
        return None, undecided

    def _by_element(self, index):
        self.tried += 1
        slope = self._slope(index)
        if slope is None:
            self.kinks += 1
            self.smooth[index] = 0
        else:
            self.found.append((index, slope))

    def _along(self, direction):
        """Adds the slope along a direction, or along those of its parts that meet no kink."""
        parts, splits = [direction] if np.any(direction) else [], SPLITS
        while parts:
            part = parts.pop()
            slope = self._slope(part)
            if slope is None and splits and np.count_nonzero(part) > 1:
                splits -= 1
                parts += _halves(part)
                continue
            self.tried += 1
            if slope is None:
                self.kinks += 1
            else:
                self.found.append((part, slope))

    def _line(self, where):
        """The function along an element or a direction, and that direction."""
        direction = where
        if isinstance(where, tuple):
            direction = np.zeros(self.shape)
            direction[where] = 1
        return lambda t: self._function(self._x + t * direction), direction

    def _slope(self, where):
        line, direction = self._line(where)
        return slope(
            line,
            self._centre,
            step=step_for(self._x),
            magnitude=self._magnitude * np.linalg.norm(direction),
            tolerance=self._tolerance,
        )

    def _difference(self, gradient, where, slope):
        """(how far a gradient is from a slope, the size to compare that with)."""
        if isinstance(where, tuple):
            analytic, length = gradient[where], 1.0
        else:
            analytic, length = np.sum(gradient * where), np.linalg.norm(where)
        size = max(abs(analytic), abs(slope.value), self._magnitude * length)
        return abs(analytic - slope.value), size

    def _error(self, gradient, where, slope):
        difference, size = self._difference(gradient, where, slope)
        return difference / size if size else 0.0

    def _lost(self, gradient, where, slope, spread):
        """Whether an error is beyond the tolerance and rounding may be all of it."""
        difference, size = self._difference(gradient, where, slope)
        if difference <= self._tolerance * size:
            return False
        if difference <= slope.rounding:
            return True
        line, direction = self._line(where)
        # Values that are small may be what is left of some of size 1, saturated, say.
        least = rounding_error(1.0, slope.step)
        self._rounding = max(self._rounding, measured_rounding(line, slope.step) * slope.step)
        rounding = max(slope.rounding, least, self._rounding / slope.step)
        if spread is not None:
            rounding += np.linalg.norm(spread() * direction)
        return difference <= rounding

    def _index(self, flat):
        return tuple(int(k) for k in np.unravel_index(flat, self.shape))

    def _as_index(self, direction):
        """A direction of one element as its index; any other as it is."""
        support = np.flatnonzero(direction)
        return self._index(support[0]) if len(support) == 1 else direction


def _halves(direction):
    """The direction cut in two."""
    halves = []
    for part in np.array_split(np.flatnonzero(direction), 2):
        half = np.zeros(direction.size)
        half[part] = direction.flat[part]
        halves.append(half.reshape(direction.shape))
    return halves
