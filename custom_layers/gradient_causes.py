"""Why is a gradient wrong? Words for the ways in which it differs from what it should be."""

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
    same = lambda a, b: np.all(np.abs(a - b) <= 1e2 * tolerance * max(scale, 1e-300))  # noqa: E731
    if not np.any(analytic):
        return "the gradient is zero"
    for cause, move in _rearrangements(analytic.shape):
        moved = move(indices)
        if not np.array_equal(moved, indices) and same(analytic[tuple(moved.T)], numeric):
            return cause
    large = np.abs(numeric) > 1e-3 * scale
    ratios = here[large] / numeric[large]
    if ratios.size and np.ptp(ratios) <= 1e2 * tolerance * abs(ratios[0]):
        if same(here, ratios[0] * numeric):
            return _factor(ratios[0], sizes)
    wrong = np.abs(here - numeric) > tolerance * np.maximum(np.abs(numeric), scale)
    return _where(wrong, indices, value) or _missing_constant(here - numeric, indices, analytic)


def _rearrangements(shape):
    """Ways to put the elements of a gradient in the wrong places, as maps of indices."""
    rank = len(shape)
    for i in range(rank):
        for j in range(i + 1, rank):
            if shape[i] == shape[j] > 1:
                order = list(range(rank))
                order[i], order[j] = j, i
                yield f"axes {i} and {j} are swapped (transposed)", lambda x, o=order: x[:, o]
    for axes in [(i,) for i in range(rank)] + [(i, i + 1) for i in range(rank - 1)]:
        end = np.array([shape[i] - 1 if i in axes else 0 for i in range(rank)])
        sign = np.where([i in axes for i in range(rank)], -1, 1)
        name = " and ".join(map(str, axes))
        yield f"reversed along axis {name} (a flipped kernel)", lambda x, e=end, s=sign: e + s * x
    for axis in range(rank):
        for shift in (1, -1):
            step = np.array([shift if i == axis else 0 for i in range(rank)])
            yield (
                f"shifted by one along axis {axis} (padding off by one)",
                lambda x, s=step: (x + s) % shape,
            )


def _factor(ratio, sizes):
    close = lambda number: abs(ratio - number) <= 1e-4 * abs(number)  # noqa: E731
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
