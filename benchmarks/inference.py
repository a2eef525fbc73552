"""Latency of exports beside Keras's own: `python -m benchmarks.inference [write]`.

The same network, exported by stock `model.export` and by `handgrad export` as a SavedModel, an
ONNX file and a LiteRT file, predicts the same images. All are called in turn in one process.
`write` keeps the figures in INFERENCE.md and INFERENCE.json.
"""

import argparse
import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import median

import keras
import numpy as np
import tensorflow as tf

from app.export import export
from app.formats import predictor
from app.models import build
from benchmarks.__main__ import machine
from benchmarks.timing import compare

PAGE = Path(__file__).with_name("INFERENCE.md")
SHAPE, CLASSES = (32, 32, 3), 10
NETWORKS = {
    "resnet20": ("resnet20", {}),
    "vgg-a-bn, a quarter as wide": ("vgg-a-bn", {"width": 0.25, "units": 128}),
}
BATCHES, BAR, TOLERANCE = (1, 64), 0.85, 1e-5
FORMATS = ("savedmodel", "onnx", "litert")
HEADER = ("network", "batch", "stock ms", "ours ms", "/ stock",
          "ONNX Runtime ms", "/ stock", "LiteRT ms", "/ stock", "difference")
ABOUT = f"""\
# Latency of exports

Written by `python -m benchmarks.inference write`. `stock` is `model.export` of Keras, to which a
softmax was added; `ours` is `handgrad export`: batch normalisation folded, weights constant;
ONNX Runtime and LiteRT run `--format onnx` and `--format litert`. Batch normalisation has random
statistics. Times are medians of calls made in turn in one process, each from an array to an
array; ratios are medians of the ratios of calls made one after the other. Threads are each
runtime's default: all cores for TensorFlow and ONNX Runtime, one for LiteRT. The bar is {BAR} of
stock for ours. The difference is the largest of any probability from stock's, at most
{TOLERANCE:g}."""


def network(name, settings):
    """A model from images to probabilities as Keras exports it, and the same to logits."""
    keras.utils.set_random_seed(0)
    model, random = build(name, SHAPE, CLASSES, **settings), np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            for variable in layer.weights:
                variable.assign(random.uniform(0.5, 1.5, variable.shape))
    # Logits of about 1: a saturated softmax would hide differences.
    head, logits = model.layers[-1], model(random.random((8, *SHAPE), "float32"), training=False)
    head.kernel.assign(head.kernel / np.std(logits))
    stock = keras.Sequential([keras.Input(SHAPE), model, keras.layers.Softmax()])
    return stock, model


def predictors(name, settings, folder, images):
    """Functions from images to probabilities by what ran them."""
    stock, model = network(name, settings)
    stock.export(str(folder / "stock"), verbose=False)
    loaded = tf.saved_model.load(str(folder / "stock"))
    found = {"stock": lambda x: loaded.serve(x).numpy()}
    given = dict(name=name, class_names=[str(i) for i in range(CLASSES)], to=folder, card={},
                 sample_images=images[:8])
    for format in FORMATS:
        path = export(model, format=format, **given)
        if format == "savedmodel":
            ours = tf.saved_model.load(str(path))
            found["ours"] = lambda x: ours.signatures["serving_default"](
                images=tf.constant(x))["probabilities"].numpy()
        else:
            found[format] = predictor(path)
    return found


def measure(seconds):
    """One dict of figures a network and batch size."""
    for title, (name, settings) in NETWORKS.items():
        with tempfile.TemporaryDirectory() as folder:
            images = np.random.default_rng(1).random((max(BATCHES), *SHAPE), np.float32)
            found = predictors(name, settings, Path(folder), images)
            for batch in BATCHES:
                x = images[:batch]
                results = [run(x) for run in found.values()]
                difference = max(float(np.abs(r - results[0]).max()) for r in results)
                if not difference <= TOLERANCE:
                    raise ValueError(f"{title}: all must give the same probabilities to "
                                     f"{TOLERANCE:g}. Received: a difference of {difference:.2g}")
                times = compare({key: lambda run=run: run(x) for key, run in found.items()},
                                rounds=1001, seconds=seconds)
                yield {"network": title, "batch": batch, "difference": difference,
                       "ms": {key: median(t) * 1e3 for key, t in times.items()},
                       "ratio": {key: median(a / b for a, b in zip(t, times["stock"]))
                                 for key, t in times.items()}}


def row(figures):
    """A line of the table."""
    ms, ratio = figures["ms"], figures["ratio"]
    cells = [figures["network"], str(figures["batch"]), f"{ms['stock']:.2f}"]
    for key in ("ours", "onnx", "litert"):
        cells += [f"{ms[key]:.2f}", f"{ratio[key]:.2f}"]
    return "| " + " | ".join([*cells, f"{figures['difference']:.0e}"]) + " |"


def page(where, rows):
    """The figures as Markdown."""
    missed = [f"{one['network']} at batch {one['batch']}" for one in rows
              if one["ratio"]["ours"] > BAR]
    return "\n".join([
        ABOUT, "", f"Machine: {where}", "", "| " + " | ".join(HEADER) + " |",
        "|" + "---|" * len(HEADER), *map(row, rows), "",
        f"The bar is missed by {', '.join(missed)}." if missed else "The bar is met everywhere.",
        ""])


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["show", "write"], nargs="?", default="show")
    parser.add_argument("--seconds", type=float, default=10.0, help="of timing a row")
    given = parser.parse_args()
    where = f"{machine()}, onnxruntime {version('onnxruntime')}"
    rows = list(measure(given.seconds))
    print(page(where, rows))
    if given.command == "write":
        PAGE.write_text(page(where, rows))
        kept = {"machine": where, "rows": rows}
        PAGE.with_suffix(".json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
