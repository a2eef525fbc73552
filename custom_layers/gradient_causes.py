"""Why is a gradient wrong? Words for the ways in which it differs from what it should be."""

import itertools

import numpy as np


def likely_cause(analytic, indices, numeric, *, value, sizes, tolerance):
    """Words for how `analytic` differs from `numeric`, or "" where nothing is recognised.

    Args:
        analytic: the gradient, whole.
        indices: (k, rank) where it was compared.
        numeric: (k,) what it should be there.
        value: the tensor itself.
        sizes: lengths that a sum may wrongly be divided or multiplied by.
        tolerance: relative.
    """
    if not len(numeric):
        return ""
    here = analytic[tuple(indices.T)]
    scale = np.max(np.abs(numeric), initial=0.0)

    def same(a, b):
        return np.all(np.abs(a - b) <= 1e2 * tolerance * scale)

    if not np.any(analytic):
        return "the gradient is zero"
    for cause, moved in _rearrangements(indices, analytic.shape):
        inside = np.all((0 <= moved) & (moved < analytic.shape), axis=1)
        if np.any(numeric[inside]) and 2 * inside.sum() > len(numeric):
            if same(analytic[tuple(moved[inside].T)], numeric[inside]):
                return cause
    large = np.abs(numeric) > 1e-3 * scale
    ratios = here[large] / numeric[large]
    if ratios.size and np.ptp(ratios) <= 1e2 * tolerance * abs(ratios[0]):
        if same(here, ratios[0] * numeric):
            return _factor(ratios[0], sizes)
    wrong = np.abs(here - numeric) > tolerance * np.maximum(np.abs(numeric), scale)
    return _where(wrong, indices, value) or _missing_constant(here - numeric, indices, analytic)


def _rearrangements(indices, shape):
    """Ways to put the elements of a gradient in the wrong places: (words, where they would be)."""
    rank = len(shape)
    for i, j in itertools.combinations(range(rank), 2):
        if shape[i] == shape[j] > 1:
            order = list(range(rank))
            order[i], order[j] = j, i
            yield f"axes {i} and {j} are swapped (transposed)", indices[:, order]
    longer = [axis for axis in range(rank) if shape[axis] > 1]
    for axes in [(i,) for i in longer] + list(zip(longer, longer[1:])):
        moved = indices.copy()
        for axis in axes:
            moved[:, axis] = shape[axis] - 1 - moved[:, axis]
        yield f"reversed along axis {' and '.join(map(str, axes))} (a flipped kernel)", moved
    for axis, shift in itertools.product(longer, (1, -1)):
        moved = indices.copy()
        moved[:, axis] += shift
        yield f"shifted by one along axis {axis} (padding off by one)", moved


def _factor(ratio, sizes):
    def close(number):
        return abs(ratio - number) <= 1e-4 * abs(number)

    if close(-1):
        return "the sign is flipped"
    for n in sorted(sizes):
        if n > 2 and close(1 / n):
            return f"divided by {n}: averaged where it should be summed"
        if n > 2 and close(n):
            return f"multiplied by {n}: summed where it should be averaged"
        if n > 2 and (close((n - 1) / n) or close(n / (n - 1))):
            return f"a count of {n} taken for {n - 1}, or the reverse (biased, unbiased)"
    return f"a constant factor {ratio:.6g}"


def _where(wrong, indices, value):
    """What the wrong elements have in common that the right ones have not."""
    if wrong.all() or wrong.size < 3:
        return ""
    if wrong.sum() == 1:
        return "this element only"
    for axis in range(indices.shape[1]):
        for i in np.unique(indices[wrong, axis]):
            if np.array_equal(wrong, indices[:, axis] == i):
                return f"wrong only at index {i} of axis {axis}"
    x = value[tuple(indices.T)]
    for name, region in (("negative", x < 0), ("positive", x > 0)):
        if region.any() and np.array_equal(wrong, region):
            return f"wrong only where the tensor is {name}"
    if np.min(np.abs(x[wrong])) > np.max(np.abs(x[~wrong])):
        return "wrong only where the tensor is large"
    return f"wrong in {wrong.sum()} of {wrong.size} elements compared"


def _missing_constant(difference, indices, analytic):
    """Says so where the error does not vary along some axes: a mean or a sum is left out."""
    if len(difference) != analytic.size:
        return ""
    whole = np.empty(analytic.shape)
    whole[tuple(indices.T)] = difference
    rank = whole.ndim
    for axes in [tuple(range(rank))] + [tuple(a for a in range(rank) if a != i)
                                        for i in reversed(range(rank))]:
        if axes and np.prod([whole.shape[a] for a in axes]) > 1:
            if np.max(np.ptp(whole, axis=axes)) <= 1e-4 * np.max(np.abs(whole)):
                return f"a term that is constant over axes {axes} is missing or too much (a mean?)"
    return ""


def lengths(tensors):
    """The lengths of axes, and the products of leading ones, that a mean may have divided by."""
    sizes = set()
    for shape in (tuple(t.shape) for t in tensors):
        sizes.update(shape)
        sizes.update(int(np.prod(shape[:k])) for k in range(1, len(shape) + 1))
    return {n for n in sizes if n > 1}
