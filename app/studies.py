"""Studies: what initial values, normalisation, weight decay and dropout do, in numbers.

Each is a function of a `Data`; it trains what it compares, and returns a `Study` with a figure.
"""

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from app.drawing import BLUE, GREEN, ORANGE, RED, VIOLET, plain_numbers, styled
from app.gallery import optimisers
from app.models.mlp import mlp
from app.transfer_study import compare
from custom_layers import Rprop, SoftmaxCrossEntropy

COLORS = (BLUE, ORANGE, GREEN, RED, VIOLET, "#7a8794")
FEW = 300  # images, of which a large network remembers each
DEPTH, UNITS = 6, 100
INITIAL = {
    "N(0, 1)": keras.initializers.RandomNormal(0.0, 1.0),
    "N(0, 0.01^2)": keras.initializers.RandomNormal(0.0, 0.01),
    "Xavier": "lecun_normal",  # sqrt(1 / n)
    "He": "he_normal",  # sqrt(2 / n)
}


@dataclass(frozen=True)
class Study:
    """What a study found: a dict of plain values a line, and figures."""

    rows: list
    figures: list


def init(data):
    """How large gradients are, layer by layer, by initial values, for sigmoid and for ReLU."""
    x, y = _arrays(data.train, 500)
    rows = []
    for activation in ("sigmoid", "relu"):
        for name, initial in INITIAL.items():
            model = _network(data, activation=activation, initial=initial, depth=DEPTH - 1)
            norms, spread = _norms(model, x, y)
            rows.append({"activation": activation, "initial values": name,
                         **{f"layer {i}": norm for i, norm in enumerate(norms, 1)},
                         "deviation of the last activations": spread})
    return Study(rows, [_draw_norms(rows)])


def bn(data):
    """Training with and without batch normalisation, by the size of the initial values."""
    runs = {}
    for scale in (1.0, 0.1, 0.01):
        for normalised in (True, False):
            model = _network(data, initial=keras.initializers.RandomNormal(0.0, scale),
                             batch_norm=normalised)
            label = f"N(0, {scale:g}^2){', BN' if normalised else ''}"
            runs[label] = _train(model, data, epochs=20, optimizer=keras.optimizers.SGD(0.05))
    return _compared(runs, "batch normalisation", "accuracy")


def decay(data):
    """Training and validation accuracy with 300 samples, without and with weight decay."""
    return _compared({
        "none": _train(_network(data), data),
        "weight decay 0.1": _train(_network(data, weight_decay=0.1), data),
        "weight decay 0.01": _train(_network(data, weight_decay=0.01), data),
    }, "weight decay, 300 samples")


def dropout(data):
    """Training and validation accuracy with 300 samples, without and with dropout."""
    return _compared({
        "none": _train(_network(data), data),
        "dropout 0.2": _train(_network(data, dropout=0.2), data),
        "dropout 0.4": _train(_network(data, dropout=0.4), data),
    }, "dropout, 300 samples")


def overfit(data):
    """What helps a network that has 300 samples only: each remedy alone, and together."""
    x, _ = _arrays(data.train, FEW)
    shifted = keras.Sequential([keras.Input(x.shape[1:]),
                                keras.layers.RandomTranslation(0.1, 0.1, "constant", seed=0)])
    remedies = {
        "none": {}, "weight decay 0.01": {"weight_decay": 0.01}, "dropout 0.2": {"dropout": 0.2},
        "batch normalisation": {"batch_norm": True}, "shifted images": {"augment": shifted},
        "all but decay": {"dropout": 0.2, "batch_norm": True, "augment": shifted},
    }
    runs = {}
    for name, settings in remedies.items():
        settings = dict(settings)
        augment = settings.pop("augment", None)
        runs[name] = _train(_network(data, **settings), data, augment=augment)
    return _compared(runs, "remedies, 300 samples")


def optimizers(data):
    """Training loss of one network by optimiser, and the paths on x^2 / 20 + y^2."""
    kinds = {
        "SGD": keras.optimizers.SGD(0.05), "momentum": keras.optimizers.SGD(0.05, momentum=0.9),
        "AdaGrad": keras.optimizers.Adagrad(0.05), "RMSprop": keras.optimizers.RMSprop(1e-3),
        "Adam": keras.optimizers.Adam(1e-3), "Rprop, full batch": Rprop(1e-3),
    }
    runs = {}
    for name, optimizer in kinds.items():
        batch = None if isinstance(optimizer, Rprop) else 32
        runs[name] = _train(_network(data), data, optimizer=optimizer, epochs=20, few=1000,
                            batch=batch)
    found = _compared(runs, "optimisers", "loss")
    return Study(found.rows, [*found.figures, optimisers()])


def transfer(data):
    """Half of the classes learned from few images, by a trunk trained on the others or without.

    The figure and the numbers are of `app.transfer_study`.
    """
    rows, figure = compare(data)
    return Study(rows, [figure])


STUDIES = {"init": init, "bn": bn, "decay": decay, "dropout": dropout, "optimizers": optimizers,
           "overfit": overfit, "transfer": transfer}


def _arrays(split, count):
    return split.images[:count].astype("float32") / 255, split.labels[:count]


def _network(data, *, activation="relu", initial="he_normal", depth=DEPTH, **settings):
    """An MLP of equal layers, its first weights the same for all that are compared."""
    keras.utils.set_random_seed(0)
    return mlp(data.image_shape, len(data.class_names), hidden=(UNITS,) * depth,
               activation=activation, initializer=initial, statistics=data.statistics(), **settings)


def _norms(model, x, y):
    """The norm of the gradient of each layer's kernel, and how far the last activations spread."""
    inner = keras.Model(model.inputs, [model.outputs[0], model.layers[-2].output])
    kernels = [w.value for w in model.trainable_weights if w.name == "kernel"]
    with tf.GradientTape() as tape:
        logits, last = inner([x])
        loss = SoftmaxCrossEntropy()(y, logits)
    norms = [float(tf.norm(g)) for g in tape.gradient(loss, kernels)]
    return norms, float(tf.math.reduce_std(last))


def _train(model, data, *, epochs=60, optimizer=None, few=FEW, batch=32, augment=None):
    """Loss and accuracy by epoch, on the few training images and on the validation part."""
    x, y = _arrays(data.train, few)
    model.compile(optimizer or keras.optimizers.Adam(1e-3), SoftmaxCrossEntropy(),
                  metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")])
    train = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed=0)
    train = train.batch(batch or len(x))
    if augment is not None:
        train = train.map(lambda image, label: (augment(image, training=True), label))
    return model.fit(train, epochs=epochs, verbose=0, shuffle=False,  # it is shuffled already
                     validation_data=_arrays(data.validation, 2000)).history


def _compared(runs, title, measure="accuracy"):
    rows = [{"": name, "training accuracy": history["accuracy"][-1],
             "validation accuracy": history["val_accuracy"][-1],
             "training loss": history["loss"][-1]} for name, history in runs.items()]
    return Study(rows, [_draw_curves(runs, title, measure)])


@styled
def _draw_curves(runs, title, measure):
    """A measure by epoch: dashed on the training images, a line on the validation part."""
    figure = Figure(figsize=(7.5, 4))
    axes = figure.subplots()
    for color, (name, history) in zip(COLORS, runs.items()):
        epochs = range(1, len(history[measure]) + 1)
        axes.plot(epochs, history[measure], "--", color=color, linewidth=1.2)
        axes.plot(epochs, history[f"val_{measure}"], color=color, linewidth=2, label=name)
    axes.set(title=f"{title}: {measure} (dashed: training)", xlabel="epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    if measure == "loss":
        axes.set_yscale("log")
        plain_numbers(axes.yaxis)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    axes.grid()
    return figure


@styled
def _draw_norms(rows):
    """The norm of the gradient by layer, a line for each kind of initial values."""
    kinds = list(dict.fromkeys(row["activation"] for row in rows))
    figure = Figure(figsize=(9, 3.6))
    for axes, kind in zip(figure.subplots(1, len(kinds), sharey=True), kinds):
        for color, row in zip(COLORS, (row for row in rows if row["activation"] == kind)):
            norms = [value for name, value in row.items() if name.startswith("layer")]
            axes.plot(range(1, len(norms) + 1), np.maximum(norms, 1e-12), "o-", color=color,
                      label=row["initial values"])
        axes.set(title=kind, xlabel="layer", yscale="log")
        plain_numbers(axes.yaxis)
        axes.grid()
    figure.axes[0].set_ylabel("norm of the gradient of its weights")
    figure.axes[0].legend()
    return figure
