"""What training keeps for the backward pass, stock and lean, as a figure."""

import numpy as np
from matplotlib.figure import Figure

from app.drawing import BLUE, INK, ORANGE, styled
from custom_layers.byte_sizes import shown

STOCK, LEAN = {"color": ORANGE, "label": "stock Keras"}, {"color": BLUE, "label": "lean"}
MOST_BARS = 30


@styled
def draw_memory(report):
    """Bytes kept by layer, stock and lean, side by side; totals in the title.

    Layers that keep less than a hundredth of the largest are left out, and counted. Where more
    than `MOST_BARS` remain: the sum over the layers in their order, and what it is that is kept.

    report: a `custom_layers.lean_report.MemoryReport`.
    """
    layers = {row.layer: (row.stock_bytes, row.lean_bytes) for row in report.rows}
    large = _large(layers)
    if len(large) <= MOST_BARS:
        figure = Figure(figsize=(7.5, 1.3 + 0.3 * max(len(large), 3)))
        left_out = len(layers) - len(large)
        top = figure.subplots()
        _bars(top, large, f"  (left out: {left_out} layers of less than 1 % of the largest)"
              if left_out else "")
    else:
        kinds = _large(report.by_what(), "all else")
        figure = Figure(figsize=(7.5, 4.5 + 0.3 * len(kinds)))
        top, below = figure.subplots(2, 1, height_ratios=[3, 0.3 * len(kinds) + 0.3])
        _sums(top, report.rows)
        _bars(below, kinds)
    top.legend(ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2)
    figure.suptitle(
        f"Kept for the backward pass by {report.model}, batch {report.batch_size}:\n"
        f"stock Keras {shown(report.stock)}, lean ({report.save}) {shown(report.lean)}, "
        f"{report.ratio:.0%}", x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def _bars(axes, sizes, note=""):
    """{name: (stock, lean)} as pairs of bars, the first at the top, their sizes beside them."""
    unit, factor = _unit(max((max(pair) for pair in sizes.values()), default=0))
    places = np.arange(len(sizes))
    for side, style in enumerate((STOCK, LEAN)):
        values = [pair[side] for pair in sizes.values()]
        bars = axes.barh(places + 0.4 * side - 0.2, np.divide(values, factor), height=0.36, **style)
        axes.bar_label(bars, [shown(value) if value else "0" for value in values], padding=3,
                       fontsize=6.5, color=INK, alpha=0.8)
    axes.set_yticks(places, sizes, fontsize=8)
    axes.set_ylim(len(sizes) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.1)
    axes.set_xlabel(f"{unit} kept{note}")
    axes.grid(axis="x")
    axes.set_axisbelow(True)


def _sums(axes, rows):
    """What the layers up to each keep together, over their number."""
    unit, factor = _unit(sum(row.stock_bytes for row in rows))
    depth = np.arange(len(rows) + 1)
    for sizes, style in (([row.stock_bytes for row in rows], STOCK),
                         ([row.lean_bytes for row in rows], LEAN)):
        total = np.cumsum([0, *sizes]) / factor
        axes.fill_between(depth, total, alpha=0.25, color=style["color"], linewidth=0)
        axes.plot(depth, total, linewidth=2, **style)
    axes.set(xlabel="layers that keep something, in their order", ylabel=f"{unit} kept so far",
             xlim=(0, len(rows)), ylim=(0, None))
    axes.grid()


def _large(sizes, rest=None):
    """The pairs of at least a hundredth of the largest; the sum of all others as `rest`."""
    least = max((max(pair) for pair in sizes.values()), default=0) / 100
    large = {name: pair for name, pair in sizes.items() if max(pair) >= least}
    others = [pair for name, pair in sizes.items() if name not in large]
    return large | {rest: tuple(map(sum, zip(*others)))} if rest and others else large


def _unit(largest):
    unit = shown(largest).split()[-1]
    return {"GB": ("GB", 1e9), "MB": ("MB", 1e6), "kB": ("kB", 1e3)}.get(unit, ("bytes", 1))
