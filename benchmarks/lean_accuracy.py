"""`python -m benchmarks.lean_accuracy`: what training with int8 costs in accuracy.

Every network is trained from several seeds, as stock and through `lean(save="int8")`: from the
same initial weights, on the same batches. What is done is kept at once, and not done again.
"""

import argparse
import json
import sys
from itertools import product
from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure

from app.drawing import BLUE, ORANGE, styled
from app.sources import read
from benchmarks.__main__ import machine
from benchmarks.lean_networks import NETWORKS
from benchmarks.lean_page import lines
from custom_layers.lean import lean

PAGE, FIGURES, PICTURE = (Path(__file__).with_name(f"LEAN_ACCURACY.{suffix}")
                          for suffix in ("md", "json", "png"))
SEEDS, BATCH, BAR = range(5), 128, 0.2
# Data, images of the training part, factor by which images are reduced, epochs, learning rate.
TASKS = {
    "lenet5": ("mnist", 60_000, 1, 4, 0.02),
    "resnet20": ("cifar10", 20_000, 2, 6, 0.1),
}
MODES = {"stock": {"color": ORANGE, "label": "stock Keras"},
         "int8": {"color": BLUE, "label": 'lean, save="int8"'}}


def data(name, count, factor):
    """(training images, labels), (test images, labels): float32 in [0, 1], means of squares."""
    source = read(name)
    for part, size in (("train", count), ("test", None)):
        found = source.parts[part]
        chosen = np.random.default_rng(0).permutation(len(found.images))[:size]
        images = found.images[chosen].astype("float32") / 255
        n, h, w, c = images.shape
        small = images.reshape(n, h // factor, factor, w // factor, factor, c).mean((2, 4))
        yield small, found.labels[chosen]


def train(network, mode, seed):
    """The test accuracy after each epoch of SGD with momentum, the rate falling to 0 by a cosine.

    Images are mirrored at random where they are photos; means and deviations are those of the
    training images.
    """
    name, count, factor, epochs, rate = TASKS[network]
    (x, y), test = data(name, count, factor)
    keras.utils.set_random_seed(seed)
    model = NETWORKS[network](x.shape[1:], 10)
    schedule = keras.optimizers.schedules.CosineDecay(rate, epochs * -(-len(x) // BATCH))
    trained = model if mode == "stock" else lean(model, save=mode, seed=seed)
    trained.compile(
        keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True, weight_decay=5e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    mean, deviation = x.mean((0, 1, 2)), x.std((0, 1, 2))
    x, test_x = (x - mean) / deviation, (test[0] - mean) / deviation
    rng, accuracies = np.random.default_rng(seed), []
    for epoch in range(epochs):
        mirrored = rng.random(len(x)) < (0.5 if name == "cifar10" else 0)
        batch = np.where(mirrored[:, None, None, None], x[:, :, ::-1], x)
        trained.fit(batch, y, BATCH, verbose=0)
        accuracies.append(float(model.evaluate(test_x, test[1], 1000, verbose=0)[1]))
    return accuracies


def summary(runs):
    """{network: {mode: (seeds, epochs) accuracies in %}} of the seeds that both modes have."""
    found = {}
    for network in TASKS:
        of = {mode: runs.get(f"{network} {mode}", {}) for mode in MODES}
        seeds = sorted(set.intersection(*map(set, of.values())), key=int)
        if seeds:
            found[network] = {mode: 100 * np.array([of[mode][s] for s in seeds]) for mode in MODES}
    return found


def page(figures):
    """The page of the results."""
    rows, curves = [], []
    for network, of in summary(figures["runs"]).items():
        name, count, factor, *_ = TASKS[network]
        stock, int8 = of["stock"], of["int8"]
        last = int8[:, -1] - stock[:, -1]
        error = last.std(ddof=1) / np.sqrt(len(last)) if len(last) > 1 else float("nan")
        reduced = f", images at 1/{factor}" if factor > 1 else ""
        rows.append((network, f"{name}, {count:,} training images{reduced}", str(len(last)),
                     *(f"{a[:, -1].mean():.2f} ({a[:, -1].std():.2f})" for a in (stock, int8)),
                     f"{last.mean():+.2f}", f"{error:.2f}"))
        curves += [(network, mode, *(f"{m:.2f}" for m in a.mean(0))) for mode, a in of.items()]
    width = max(map(len, curves))
    header = ("network", "mode", *(f"epoch {i}" for i in range(1, width - 1)))
    return "\n".join([
        "# Accuracy of training with int8", "",
        "Made by `HANDGRAD_DATA=... python -m benchmarks.lean_accuracy`. Stock Keras and "
        '`lean(model, save="int8")` from the same initial weights on the same batches, in float32; '
        f"SGD with Nesterov momentum 0.9, weight decay 5e-4, batch {BATCH}, a cosine to 0. "
        "Accuracies in percent of the 10,000 test images: mean over the seeds and, in brackets, "
        "standard deviation.", "", f"Machine: {figures['machine']}", "",
        f"![Test accuracy by epoch]({PICTURE.name})", "",
        *lines(("network", "data", "seeds", "stock", "int8", "difference of the means",
                "its standard error"), rows), "",
        "Means by epoch:", "",
        *lines(header, [row + ("",) * (width - len(row)) for row in curves])]) + "\n"


@styled
def draw(found):
    """Every run as a thin line, the mean of its mode as a thick one."""
    figure = Figure(figsize=(4.5 * len(found), 3.5), layout="constrained")
    for axes, (network, of) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items()):
        for mode, accuracies in of.items():
            epochs = np.arange(1, accuracies.shape[1] + 1)
            axes.plot(epochs, accuracies.T, linewidth=0.6, alpha=0.5, color=MODES[mode]["color"])
            axes.plot(epochs, accuracies.mean(0), linewidth=2, **MODES[mode])
        axes.set(title=network, xlabel="epoch", ylabel="test accuracy, %", xticks=epochs)
        axes.grid()
        axes.legend(loc="lower right")
    return figure


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lean_accuracy", description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(TASKS))
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many")
    options = parser.parse_args(argv)
    for name in options.networks:
        if name not in TASKS:
            parser.error(f"no such network; there are {', '.join(TASKS)}. Received: {name}")
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {"runs": {}}
    figures["machine"] = machine()
    networks = options.networks or list(TASKS)
    for network, seed, mode in product(networks, range(options.seeds), MODES):
        done = figures["runs"].setdefault(f"{network} {mode}", {})
        if str(seed) not in done:
            done[str(seed)] = train(network, mode, seed)
            FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
        print(network, mode, seed, *(f"{a:.4f}" for a in done[str(seed)]), file=sys.stderr)
    PAGE.write_text(page(figures))
    draw(summary(figures["runs"])).savefig(PICTURE, dpi=110)
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
