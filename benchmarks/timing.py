"""Timing of functions beside each other: in turn, in one process, so that noise hits all alike."""

import time
from statistics import median


def compare(functions, *, rounds=301, seconds=1.5):
    """Times in seconds of each function, called in turn: one a round.

    Each round calls every function once, the order turning from round to round; at least nine
    rounds, then until `seconds` or `rounds` are over. Two calls before that are warm-up.
    """
    names = list(functions)
    times = {name: [] for name in names}
    for function in functions.values():
        function(), function()
    started = time.perf_counter()
    for i in range(rounds):
        for name in names[i % len(names):] + names[:i % len(names)]:
            begin = time.perf_counter()
            functions[name]()
            times[name].append(time.perf_counter() - begin)
        if i >= 8 and time.perf_counter() - started > seconds:
            break
    return times


def columns(times):
    """Medians of ours and stock in milliseconds, and the median of their ratios by round."""
    ours, stock = times["ours"], times["stock"]
    ratio = median(a / b for a, b in zip(ours, stock))
    return f"{median(ours) * 1e3:.2f}", f"{median(stock) * 1e3:.2f}", f"{ratio:.2f}"
