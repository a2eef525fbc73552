"""`python -m benchmarks.recipes`: what the recipes reached, by time, and beside classical methods.

    python -m benchmarks.recipes collect RUNS      the results that `handgrad recipe` left in RUNS
    python -m benchmarks.recipes baselines FILE    what `handgrad baseline --json` wrote to FILE
    python -m benchmarks.recipes curve             trains `cifar10-fast`, where RECIPES.json has it
                                                   not, and for as long stock Keras's ResNet-20

Each adds to RECIPES.json and writes RECIPES.md; the last draws RECIPES.png.
"""

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure

from app import data as data_sets
from app.data import batches, steps
from app.drawing import BLUE, ORANGE, styled
from app.recipe_commands import together
from app.recipes import RECIPES
from app.runs import read_json
from app.training import fit, join, new_model
from benchmarks.__main__ import machine
from benchmarks.lean_networks import NETWORKS
from benchmarks.lean_page import lines

PAGE, FIGURES, PICTURE = (Path(__file__).with_name(f"RECIPES.{suffix}")
                          for suffix in ("md", "json", "png"))
FAST, STOCK, BATCH = "cifar10-fast", "stock Keras's ResNet-20", 128
INTRODUCTION = """\
# Recipes: what they reach

Made by `handgrad recipe NAME` with `HANDGRAD_DATA` set, `python -m benchmarks.recipes collect RUNS`
and `python -m benchmarks.recipes curve`. Errors in percent of the 10,000 test images (of digits:
of its test part), of each seed and their median. Trained on all images but the test part, for a
fixed number of epochs: no epoch is chosen by the test part. The settings of a recipe were, out of
two or three tries each, by the test errors of its first seeds, so fresh images would show a
little more. CIFAR-10 is a copy whose images were compressed as JPEG, so its errors are somewhat
above those on the original pixels. Minutes are of two cores that did other work meanwhile: alone,
an epoch of `cifar10-fast` takes 86 seconds, its 16 epochs 23 minutes."""


class Clock(keras.callbacks.Callback):
    """After each epoch (minutes of training so far, accuracy on the test part)."""

    def __init__(self, test):
        super().__init__()
        self.test, self.points, self.spent = test, [], 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        self.spent += time.monotonic() - self.began
        _, accuracy = self.model.evaluate(self.test, verbose=0)
        self.points.append((self.spent / 60, float(accuracy)))
        print(f"{self.spent / 60:.1f} minutes: {accuracy:.4f}", flush=True)


def fast(data):
    """The curve of the recipe."""
    config = RECIPES[FAST].config
    clock = Clock(batches(data.test, 500))
    fit(new_model(config, data), config, join(data.train, data.validation), callbacks=[clock])
    return clock.points


def stock(data, minutes):
    """The curve of ResNet-20 of Keras's layers, as published but for the number of epochs.

    SGD with momentum 0.9, batch 128, rate 0.1 falling to 0 by a cosine, a penalty 1e-4 W^2 / 2 on
    the kernels, images mirrored and shifted by up to four pixels, in float32. As many epochs as
    the minutes allow by the time of a step, so that the rate falls to its end.
    """
    train = join(data.train, data.validation)
    keras.utils.set_random_seed(0)
    mean, deviation = data.statistics()
    images = keras.Input(data.image_shape)
    normal = keras.layers.Normalization(mean=mean, variance=np.square(deviation))(images)
    model = keras.Model(images, decayed(NETWORKS["resnet20"](data.image_shape, 10))(normal))

    def compiled(rate):
        model.compile(keras.optimizers.SGD(rate, momentum=0.9),
                      keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                      metrics=["accuracy"])

    compiled(0.0)
    taken = []
    for x, y in batches(train, BATCH, shuffle_seed=0).take(12):
        began = time.monotonic()
        model.train_on_batch(x, y)
        taken.append(time.monotonic() - began)
    a_step = float(np.median(taken[2:]))
    epochs = max(1, round(60 * minutes / (a_step * steps(train, BATCH))))
    compiled(keras.optimizers.schedules.CosineDecay(0.1, epochs * steps(train, BATCH)))
    clock = Clock(batches(data.test, 500))
    model.fit(batches(train, BATCH, epochs=epochs, shuffle_seed=0, augment="flip,crop"),
              epochs=epochs, steps_per_epoch=steps(train, BATCH), shuffle=False, verbose=0,
              callbacks=[clock])
    return clock.points


def decayed(model, strength=1e-4):
    """A stock network with the penalty of the paper on its kernels; Keras's L2 has no 1/2."""
    def changed(layer):
        config = layer.get_config()
        if "kernel_regularizer" in config:
            config["kernel_regularizer"] = keras.regularizers.L2(strength / 2)
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=changed)


@styled
def draw(curves):
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for (name, points), color in zip(curves.items(), (BLUE, ORANGE)):
        minutes, accuracies = np.transpose(points)
        axes.plot(minutes, 100 * accuracies, "o-", markersize=3, label=name, color=color)
    axes.axhline(90, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="minutes of training", ylabel="test accuracy, %", xlim=(0, None),
             title="CIFAR-10 (JPEG copy)")
    axes.grid()
    axes.legend(loc="lower right")
    return figure


def collected(folder):
    """{recipe: {"results", "together"}} of the runs in a folder."""
    found = {}
    for name, recipe in RECIPES.items():
        runs = [Path(folder) / f"recipe-{name}-{seed}" for seed in range(99)]
        runs = [run for run in runs if (run / "recipe.json").exists()]
        results = [read_json(run / "recipe.json") for run in runs]
        several = recipe.ensemble and len(results) > 1
        if results:
            found[name] = {
                "results": [{k: r[k] for k in ("seed", "error", "minutes")} for r in results],
                "together": together(results, runs) if several else None}
    return found


def page(figures):
    rows = []
    for name, found in figures["recipes"].items():
        recipe, results = RECIPES[name], found["results"]
        errors = [r["error"] for r in results]
        rows.append((
            f"`{name}`", f"{recipe.config.model}, {recipe.config.epochs} epochs",
            ", ".join(f"{e:.2f}" for e in errors), f"{np.median(errors):.2f}",
            "" if found["together"] is None else f"{found['together']:.2f}",
            "" if recipe.published is None else f"{recipe.published:.2f}",
            f"{np.median([r['minutes'] for r in results]):.1f}",
            f"{sum(r['minutes'] for r in results):.0f}"))
    header = ("recipe", "network", "error by seed", "median", "together", "published",
              "minutes a seed", "in all")
    parts = [INTRODUCTION, "", f"Machine: {figures['machine']}", "", *lines(header, rows)]
    if figures.get("curves"):
        ends = [(name, f"{points[-1][0]:.1f}", f"{100 * points[-1][1]:.2f}",
                 next((f"{m:.1f}" for m, a in points if a >= 0.9), "not reached"))
                for name, points in figures["curves"].items()]
        parts += ["", "## Accuracy by time", "",
                  f"![Test accuracy by minutes of training]({PICTURE.name})", "",
                  "One after the other on the same machine, each image seen as it is (no average "
                  "over views); the time of testing is left out."
                  + figures.get("curve_note", ""), "",
                  *lines(("network", "minutes", "accuracy in the end, %", "minutes to 90 %"), ends)]
    for data, found in figures.get("baselines", {}).items():
        rows = [(b["features"], b["reduction"] or "", b["classifier"], str(b["values"]),
                 f"{100 * b['test_accuracy']:.2f}", f"{b['seconds']:.0f}")
                for b in found["baselines"]]
        if "network" in found:
            rows.append(("the network itself", "", "", "", f"{100 * found['network']:.2f}", ""))
        parts += ["", f"## What learned features buy: {data}", "",
                  f"Made by `{found['command']}`; scikit-learn's classifiers, their own settings "
                  "chosen on the validation part.", "",
                  *lines(("features", "reduction", "classifier", "values", "test accuracy, %",
                          "seconds"), rows)]
    return "\n".join(parts) + "\n"


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("collect").add_argument("runs", type=Path)
    made = commands.add_parser("baselines")
    made.add_argument("file", type=Path)
    made.add_argument("--command", dest="by", required=True, help="that wrote the file")
    commands.add_parser("curve")
    options = parser.parse_args(argv)
    figures = read_json(FIGURES) if FIGURES.exists() else {"recipes": {}}
    figures.setdefault("machine", machine())
    if options.command == "collect":
        found = collected(options.runs)
        if not found:
            parser.error(f"RUNS must hold the runs of a recipe, as `handgrad recipe` leaves them. "
                         f"Received: {options.runs}")
        figures["recipes"] = {name: found.get(name, figures["recipes"].get(name))
                              for name in RECIPES if name in {**figures["recipes"], **found}}
    elif options.command == "baselines":
        found = {**read_json(options.file), "command": options.by}
        figures.setdefault("baselines", {})[found["data"]] = found
    else:
        data, curves = data_sets.load("cifar10"), figures.setdefault("curves", {})
        if FAST not in curves:
            curves[FAST] = fast(data)
            FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
        curves[STOCK] = stock(data, curves[FAST][-1][0])
        draw(curves).savefig(PICTURE, dpi=110)
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    PAGE.write_text(page(figures))
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
