"""What a trained trunk is worth: half of the classes learned from few images, with and without."""

import keras
import numpy as np
from matplotlib.figure import Figure

from app.compiling import compile_model
from app.drawing import BLUE, GREEN, ORANGE, styled
from app.errors import UsageError
from app.models import build
from app.transfer import head_of, transfer

NETWORK, SEEDS, COUNTS = "lenet5", 3, (10, 30, 100)
EPOCHS_OF_TRUNK, STEPS = 4, 400
RATE, HEAD_RATE = 1e-3, 3e-3
# Of the trunk's four layers so many stay as they are; None: no trunk.
WAYS = {"from scratch": None, "fine-tuned": 0, "convolutions frozen": 2}


def compare(data):
    """(rows, figure): accuracy on the second half of the classes, by images a class.

    The trunk has learned the first half, from all their training images.
    """
    half = len(data.class_names) // 2
    if half < 2:
        raise UsageError("The study needs at least 4 classes: 2 to learn from, 2 to learn. "
                         f"Received: {len(data.class_names)}")
    first, second = [(_of(data.train, classes), _of(data.validation, classes))
                     for classes in (range(half), range(half, len(data.class_names)))]
    trunk = _network(data, half, seed=0)
    trunk.fit(*first[0], batch_size=32, epochs=EPOCHS_OF_TRUNK, verbose=0)
    found = {way: [] for way in WAYS}
    for count in COUNTS:
        for way, frozen in WAYS.items():
            found[way].append([
                _accuracy(data, second, count, seed, None if frozen is None else trunk, frozen)
                for seed in range(SEEDS)])
    rows = [{"images a class": str(count),
             **{way: float(np.mean(found[way][i])) for way in WAYS},
             "fine-tuned less from scratch": float(
                 np.mean(found["fine-tuned"][i]) - np.mean(found["from scratch"][i]))}
            for i, count in enumerate(COUNTS)]
    return rows, _draw(found, len(data.class_names) - half, half)


def _of(split, classes):
    """(images in [0, 1], labels from 0) of some classes that follow each other."""
    chosen = np.isin(split.labels, classes)
    return split.images[chosen].astype("float32") / 255, split.labels[chosen] - classes[0]


def _network(data, classes, seed, trunk=None, frozen=0):
    keras.utils.set_random_seed(seed)
    model = build(NETWORK, data.image_shape, classes, statistics=data.statistics())
    if trunk is not None:
        transfer(model, trunk, freeze=frozen)
    return compile_model(model, learning_rate=RATE, head=head_of(model),
                         head_learning_rate=None if trunk is None else HEAD_RATE)


def _accuracy(data, parts, count, seed, trunk, frozen):
    """On the validation images, of a network trained on so many images a class."""
    (x, y), validation = parts
    classes = int(y.max()) + 1
    rng = np.random.default_rng(seed)
    chosen = np.concatenate([rng.permutation(np.flatnonzero(y == c))[:count]
                             for c in range(classes)])
    model = _network(data, classes, seed, trunk, frozen)
    model.fit(x[chosen], y[chosen], batch_size=32, verbose=0,
              epochs=max(1, round(STEPS * 32 / len(chosen))))
    return float(model.evaluate(*validation, verbose=0)[1])


@styled
def _draw(found, learned, before):
    """The error by images a class: each seed a point, the mean a line."""
    figure = Figure(figsize=(6.5, 4))
    axes = figure.subplots()
    for color, (way, accuracies) in zip((ORANGE, BLUE, GREEN), found.items()):
        errors = 100 * (1 - np.array(accuracies))
        axes.plot(COUNTS, errors.mean(1), color=color, linewidth=2, label=way)
        axes.plot(COUNTS, errors, "o", color=color, markersize=3)
    axes.set(title=f"{learned} classes, by a trunk that has learned {before} others", xscale="log",
             xlabel="images a class", ylabel="validation error, %", ylim=(0, None),
             xticks=COUNTS, xticklabels=COUNTS)
    axes.minorticks_off()
    axes.legend()
    axes.grid()
    return figure
