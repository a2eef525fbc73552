"""Timing of functions beside each other: in turn, in one process, so that noise hits all alike."""

import time
from statistics import median


def compare(functions, *, rounds=301, seconds=1.5):
    """Median time in seconds of each function, called in turn.

    Each round calls every function once, the order turning from round to round; at least nine
    rounds, then until `seconds` or `rounds` are over. The first two are warm-up.
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
    return {name: median(values) for name, values in times.items()}
