"""Figures: each function returns a matplotlib `Figure`; `save` and `as_data_uri` write one."""

import math

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from app.drawing import BLUE, INK, ORANGE, RED, as_data_uri, save, styled
from app.gallery import GALLERY

__all__ = [
    "GALLERY", "as_data_uri", "best_trial", "completed", "confusion_matrix", "filters",
    "hyper_parameter", "learning_curves", "mistakes", "save", "search", "searched",
    "validation_curves",
]
# Side of a weight, and of the line between filters, in a picture of filters (pixels).
ZOOM, GAP = 8, 5
MOST_FILTERS = 64


@styled
def learning_curves(history, measures=("loss", "accuracy")):
    """Each measure by epoch, side by side; the best epoch is marked.

    The best has the highest validation accuracy and, among equals, the lowest loss, as in
    training.

    history: a dict an epoch: epoch (from 0), loss, accuracy, and, where there was a validation
    part, val_loss and val_accuracy.
    """
    figure = Figure(figsize=(4.5 * len(measures), 3.2))
    epochs = [int(row["epoch"]) + 1 for row in history]
    validated = "val_accuracy" in history[0]
    for axes, name in zip(figure.subplots(1, len(measures), squeeze=False)[0], measures):
        _lines(axes, epochs, [row[name] for row in history], label="training", color=BLUE)
        if validated:
            values = [row["val_" + name] for row in history]
            _lines(axes, epochs, values, label="validation", color=ORANGE)
            best = max(range(len(history)), key=lambda i: (
                _finite(history[i]["val_accuracy"], -1), -_finite(history[i]["val_loss"], np.inf)))
            axes.axvline(epochs[best], color=INK, alpha=0.4, linestyle=":", zorder=0)
            axes.plot(epochs[best], values[best], "o", color=ORANGE, markersize=8,
                      label=f"best epoch: {epochs[best]}")
        axes.set(title="loss (nats)" if name == "loss" else name, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
        axes.grid()
    return figure


@styled
def confusion_matrix(counts, class_names):
    """Images by true and predicted class: right ones blue, mistakes orange.

    The opacity of a cell is the square root of its fraction of the true class, so that rare
    mistakes are seen. Up to 25 classes, the counts are written into the cells.
    """
    classes = len(class_names)
    side = min(11, max(3.4, 1.2 + 0.36 * classes))
    size = max(3.5, min(10, 0.4 * 72 * side / (classes + 3)))
    figure = Figure(figsize=(side, side))
    axes = figure.subplots()
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # Opacity rather than a scale from white: it suits a dark page, too.
    cells = np.empty((classes, classes, 4))
    cells[:] = mpl.colors.to_rgba(ORANGE)
    cells[np.eye(classes, dtype=bool)] = mpl.colors.to_rgba(BLUE)
    cells[..., 3] = np.sqrt(fractions)
    axes.imshow(cells, interpolation="nearest")
    names = [_short(name) for name in class_names]
    turned = 90 if max(map(len, names)) > 3 else 0
    axes.set_xticks(range(classes), names, rotation=turned, fontsize=size)
    axes.set_yticks(range(classes), names, fontsize=size)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if classes <= 25:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                axes.text(column, row, str(count), ha="center", va="center", fontsize=size,
                          color="white" if cells[row, column, 3] > 0.7 else INK)
    edges = np.arange(classes + 1) - 0.5
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(which="minor", linewidth=0.5 if classes <= 25 else 0.2)
    return figure


@styled
def mistakes(evaluation, images, k=24):
    """The `k` most confident mistakes: true class, predicted class and its probability.

    images: uint8 (N, H, W, C), those that were evaluated.
    """
    wrong = evaluation.worst_mistakes(k)
    columns = min(6, max(1, len(wrong)))
    rows = max(1, math.ceil(len(wrong) / columns))
    figure = Figure(figsize=(1.6 * columns, 1.95 * rows))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, i in zip(grid, wrong):
        axes.imshow(images[i].squeeze(), cmap="gray", vmin=0, vmax=255)
        true = evaluation.class_names[evaluation.labels[i]]
        predicted = evaluation.class_names[evaluation.predicted[i]]
        axes.set_title(f"{_short(true)}, taken for\n{_short(predicted)} "
                       f"({evaluation.confidence[i]:.0%})", fontsize=8, fontweight="normal")
    return figure


@styled
def filters(before, after):
    """Kernels (kh, kw, cin, cout) before and after training, on one scale.

    Grey for 1 input channel, where mid grey is 0; RGB for 3; the mean over the channels for
    any other number. At most the first `MOST_FILTERS` are drawn.
    """
    scale = max(np.abs(before).max(), np.abs(after).max())
    pictures = [_mosaic(kernel[..., :MOST_FILTERS], scale) for kernel in (before, after)]
    height, width = pictures[0].shape[:2]
    figure = Figure(figsize=(9, 0.4 + 4.3 * height / width))
    figure.get_layout_engine().set(wspace=0.08)
    for axes, picture, when in zip(figure.subplots(1, 2), pictures, ("before", "after")):
        axes.imshow(picture, interpolation="none")
        axes.set_title(f"{when} training", fontsize=12)
        axes.axis("off")
    return figure


@styled
def search(trials):
    """Score of each trial in its order, the best so far, and the trials that failed.

    trials: dicts with trial, status, score (None where it failed), and objective: "val_accuracy",
    the default, or "val_loss", of which the lowest is best.
    """
    figure = Figure(figsize=(7.5, 2.9))
    axes = figure.subplots()
    done, failed = completed(trials), [i for i, t in enumerate(trials) if not _is_completed(t)]
    numbers = [i for i, t in enumerate(trials) if _is_completed(t)]
    scores = [t["score"] for t in done]
    best = (np.maximum if _sign(trials) > 0 else np.minimum).accumulate(scores) if scores else []
    axes.plot(numbers, best, drawstyle="steps-post", color=ORANGE, label="best so far")
    axes.plot(numbers, scores, "o", color=BLUE, label="score")
    if failed:
        axes.plot(failed, [0.04] * len(failed), "x", color=RED, markersize=8, markeredgewidth=2,
                  label="failed", transform=axes.get_xaxis_transform())
    axes.set_xticks(*_thinned(range(len(trials)), [t["trial"] for t in trials]))
    axes.set_xlim(-0.5, len(trials) - 0.5)
    axes.set(xlabel="trial", ylabel=_objective(trials))
    axes.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    axes.grid()
    return figure


@styled
def hyper_parameter(trials, name):
    """Score of the completed trials against one of their hyper-parameters.

    Numbers that spread over more than a factor of 20 are drawn on a log scale; a few whole
    numbers, or what is no number, take one place a value.
    """
    figure = Figure(figsize=(3.4, 2.6))
    axes = figure.subplots()
    done = [t for t in completed(trials) if name in t["values"]]
    values, scores = [t["values"][name] for t in done], [t["score"] for t in done]
    kinds = _kinds(values)
    if kinds is None:
        if min(values) > 0 and max(values) > 20 * min(values):
            axes.set_xscale("log")
            # Matplotlib's own labels of a log scale are formulas.
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter("")
    else:
        values = [kinds.index(v) for v in values]
        axes.set_xticks(range(len(kinds)), [_short(str(kind)) for kind in kinds])
        axes.set_xlim(-0.5, len(kinds) - 0.5)
    axes.plot(values, scores, "o", color=BLUE, alpha=0.8)
    best = int(np.argmax(np.multiply(_sign(trials), scores)))
    axes.plot(values[best], scores[best], "o", color=ORANGE, markersize=9)
    axes.set_title(name)
    axes.set_ylabel(_objective(trials))
    axes.grid()
    return figure


@styled
def validation_curves(trials):
    """Score by epoch of every trial that has any, the best trial in colour."""
    figure = Figure(figsize=(7.5, 2.9))
    axes = figure.subplots()
    best = best_trial(trials)
    for trial in trials:
        if trial["curve"] and trial is not best:
            _lines(axes, range(1, len(trial["curve"]) + 1), trial["curve"], color=BLUE, alpha=0.35,
                   linewidth=1)
    if best and best["curve"]:
        _lines(axes, range(1, len(best["curve"]) + 1), best["curve"], color=ORANGE, linewidth=2.5,
               label=f"best trial: {best['trial']}")
        axes.legend()
    axes.set(xlabel="epoch", ylabel=_objective(trials))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid()
    return figure


def completed(trials):
    """The trials that ended with a score."""
    return [trial for trial in trials if _is_completed(trial)]


def best_trial(trials):
    """The completed trial of the best score (the lower loss among equals), or None."""
    def merit(trial):
        return _sign(trials) * trial["score"], -(trial.get("loss") or 0.0)

    return max(completed(trials), key=merit, default=None)


def searched(trials):
    """Names of the hyper-parameters that had more than one value in the completed trials."""
    seen = {}
    for trial in completed(trials):
        for name, value in trial["values"].items():
            seen.setdefault(name, set()).add(value)
    return [name for name, values in seen.items() if len(values) > 1]


def _sign(trials):
    return -1 if trials and trials[0].get("objective") == "val_loss" else 1


def _objective(trials):
    return "validation accuracy" if _sign(trials) > 0 else "validation loss (nats)"


def _is_completed(trial):
    ended = trial["status"] in ("COMPLETED", "STOPPED")
    return ended and math.isfinite(_finite(trial["score"], math.nan))


def _finite(value, otherwise):
    return value if value is not None and math.isfinite(value) else otherwise


def _kinds(values, few=6):
    """The values that take one place each, in their order; None for a scale of numbers."""
    kinds = set(values)
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in kinds):
        return sorted(kinds, key=str)
    if len(kinds) <= few and all(isinstance(v, int) for v in kinds):
        return sorted(kinds)
    return None


def _lines(axes, x, y, **style):
    """A line through the finite values, with dots where there are few."""
    axes.plot(x, [_finite(value, math.nan) for value in y],
              marker="o" if len(y) < 25 else "", markersize=3.5, **style)


def _short(name, longest=18):
    return name if len(name) <= longest else name[:longest - 1] + "…"


def _thinned(places, names, most=25):
    step = math.ceil(len(names) / most)
    return list(places)[::step], [str(name) for name in names][::step]


def _mosaic(kernel, scale):
    """RGBA picture of filters in a near-square grid, clear lines between them."""
    kh, kw, cin, cout = kernel.shape
    if cin != 3:
        kernel = kernel.mean(axis=2, keepdims=True).repeat(3, axis=2)
    columns = math.ceil(math.sqrt(cout))
    rows = math.ceil(cout / columns)
    height, width = ZOOM * kh + GAP, ZOOM * kw + GAP
    picture = np.zeros((rows, height, columns, width, 4))
    for i in range(cout):
        tile = picture[i // columns, :-GAP, i % columns, :-GAP]
        colours = 0.5 + 0.5 * kernel[..., i] / (scale or 1)
        tile[..., :3] = colours.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)
        tile[..., 3] = 1
    return picture.reshape(rows * height, columns * width, 4)[:-GAP, :-GAP]
