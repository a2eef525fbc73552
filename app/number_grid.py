"""Matrices side by side in a terminal, as a textbook shows them."""

import itertools

import numpy as np

DECIMALS = 4
GAP = "   "


def grids(arrays):
    """Named arrays as blocks of lines; of one with more than two axes, a matrix a channel.

    Axes of size one (a batch of one image, its one channel) are left out of it first.
    """
    return [block for name, array in arrays.items() for block in _blocks(name, np.array(array))]


def beside(blocks, width):
    """Blocks of lines next to each other, in as many rows as they need within a width."""
    rows, used = [[]], 0
    for block in blocks:
        needed = len(block[0]) + len(GAP)
        if rows[-1] and used + needed > width + len(GAP):
            rows.append([])
            used = 0
        rows[-1].append(block)
        used += needed
    return [line for row in rows for line in _row(row)]


def _row(blocks):
    lines = itertools.zip_longest(*([*block] for block in blocks))
    widths = [len(block[0]) for block in blocks]
    return [GAP.join((part or "").ljust(w) for part, w in zip(line, widths)).rstrip()
            for line in lines]


def _blocks(name, array):
    array = _small(array)
    maps = list(np.ndindex(array.shape[2:]))
    texts = np.array(_texts(array.ravel())).reshape(array.shape)
    for place in maps:
        title = f"{name}[...,{','.join(map(str, place))}]" if place else name
        lines = [f"[ {' '.join(row)} ]" for row in texts[(..., *place)]]
        yield [line.ljust(len(title)) for line in (title.ljust(len(lines[0])), *lines)]


def _small(array):
    """Without axes of size one, those in front first, down to two axes."""
    if array.ndim < 2:
        return array.reshape(1, -1)
    while array.ndim > 2 and 1 in (array.shape[0], array.shape[-1]):
        array = array[0] if array.shape[0] == 1 else array[..., 0]
    return array


def _texts(values):
    """Numbers in one format: with no more decimals than one of them needs, of equal length."""
    values = np.round(np.asarray(values, "float64"), DECIMALS) + 0.0  # no -0
    decimals = next(d for d in range(DECIMALS + 1) if np.allclose(np.round(values, d), values,
                                                                  rtol=0, atol=1e-9))
    texts = [f"{value:.{decimals}f}" for value in values]
    return [text.rjust(max(map(len, texts))) for text in texts]
