"""`handgrad recipe xor`: the gates, XOR by two layers, and what one layer makes of it."""

import itertools
import time

import numpy as np
from rich.table import Table

from app.console import console
from app.models.perceptron import GATES, gate, xor

XOR = "AND, NAND, OR, and XOR of two layers, exact; the best that one layer can do of XOR."
BITS = np.array(list(itertools.product((0, 1), repeat=2)), "float32")
TRUTH = {"AND": [0, 0, 0, 1], "NAND": [1, 1, 1, 0], "OR": [0, 1, 1, 1], "XOR": [0, 1, 1, 0]}


def show_xor():
    """Prints the truth tables of the perceptrons, beside the best single layer for XOR."""
    models = {**{name: gate(name) for name in GATES}, "XOR": xor()}
    began = time.perf_counter()
    found = {name: model(BITS).numpy()[:, 0].astype(int).tolist()
             for name, model in models.items()}
    milliseconds = 1e3 * (time.perf_counter() - began)
    single = best_line(TRUTH["XOR"])
    table = Table("x1", "x2", *found, "XOR, one layer")
    for i, (a, b) in enumerate(BITS.astype(int)):
        table.add_row(str(a), str(b), *(str(values[i]) for values in found.values()),
                      str(single[i]))
    right = sum(map(int, np.equal(single, TRUTH["XOR"])))
    table.caption = (f"all but the last column are right; one line through the plane gets at most "
                     f"{right} of XOR's 4 values right; {milliseconds:.1f} ms")
    console.result({"gates": found, "exact": found == TRUTH, "single_layer_xor": single,
                    "single_layer_right": right, "milliseconds": milliseconds}, table)
    return 0 if found == TRUTH else 1


def best_line(wanted):
    """What the best of all single perceptrons gives: every division of the points by a line."""
    grid = np.linspace(-1, 1, 9)
    weights = np.array(list(itertools.product(grid, grid, np.linspace(-1.5, 1.5, 13))))
    outputs = (BITS @ weights[:, :2].T + weights[:, 2] > 0).astype(int)
    right = (outputs == np.array(wanted)[:, None]).sum(0)
    return outputs[:, right.argmax()].tolist()
