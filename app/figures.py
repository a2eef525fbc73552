"""Figures: each function returns a matplotlib `Figure`; `save` and `as_data_uri` write one."""

import math

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from app.drawing import BLUE, INK, ORANGE, as_data_uri, lines, save, short, styled
from app.gallery import GALLERY
from app.measures import ACCURACY, MEASURES, best_row

__all__ = ["GALLERY", "as_data_uri", "confusion_matrix", "filters", "learning_curves", "mistakes",
           "save"]
# Side of a weight, and of the line between filters, in a picture of filters (pixels).
ZOOM, GAP = 8, 5
MOST_FILTERS = 64


@styled
def learning_curves(history, measures=("loss", "accuracy"), decisive=ACCURACY):
    """Each measure by epoch, side by side; the best epoch is marked.

    history: a dict an epoch: epoch (from 0), loss, accuracy, and, where there was a validation
    part, val_loss and val_accuracy.
    decisive: the `app.measures.Measure` that the best epoch is the best by.
    """
    figure = Figure(figsize=(4.5 * len(measures), 3.2))
    epochs = [int(row["epoch"]) + 1 for row in history]
    best = best_row(history, decisive)
    for axes, name in zip(figure.subplots(1, len(measures), squeeze=False)[0], measures):
        if name in history[0]:
            lines(axes, epochs, [row[name] for row in history], label="training", color=BLUE)
        if best is not None:
            values = [row["val_" + name] for row in history]
            lines(axes, epochs, values, label="validation", color=ORANGE)
            axes.axvline(epochs[best], color=INK, alpha=0.4, linestyle=":", zorder=0)
            axes.plot(epochs[best], values[best], "o", color=ORANGE, markersize=8,
                      label=f"best epoch: {epochs[best]}")
        axes.set(title="loss (nats)" if name == "loss" else MEASURES[name].title, xlabel="epoch")
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
    names = [short(name) for name in class_names]
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
        axes.set_title(f"{short(true)}, taken for\n{short(predicted)} "
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
