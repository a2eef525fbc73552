"""Search spaces: functions from hyper-parameters to a compiled model.

The defaults of each space are the plain model's, so that the first trial is what one would
have taken without a search (but for the weight decay: a log scale has no 0).
"""

import inspect

from app.compiling import compile_model
from app.errors import unknown
from app.models import MODELS, build
from app.schedules import SCHEDULES
from app.tasks import find_task, known


def mlp(hp):
    layers, hidden = hp.Int("layers", 1, 3, default=2), []
    for i, units in enumerate((50, 100, 50), 1):
        with hp.conditional_scope("layers", list(range(i, 4))):
            hidden.append(hp.Int(f"units{i}", 25, 400, sampling="log", default=units))
    return {"hidden": hidden[:layers], "dropout": _dropout(hp)}


def simple_conv_net(hp):
    return {
        "filters": hp.Int("filters", 8, 64, sampling="log", default=30),
        "kernel": hp.Choice("kernel", [3, 5], default=5),
        "units": hp.Int("units", 50, 400, sampling="log", default=100),
        "dropout": _dropout(hp),
    }


def lenet5(hp):
    first = hp.Int("filters", 6, 32, sampling="log", default=6)
    return {
        "filters": [first, round(first * 16 / 6)],
        "units": [hp.Int("units1", 60, 240, sampling="log", default=120),
                  hp.Int("units2", 42, 168, sampling="log", default=84)],
        "dropout": _dropout(hp),
    }


def pattern_net(hp):
    sizes = {
        "convolutions": hp.Int("convolutions", 1, 2, default=1),
        "stages": hp.Int("stages", 1, 3, default=2),
        "hidden": hp.Int("hidden", 0, 2, default=1),
        "filters": hp.Int("filters", 8, 32, sampling="log", default=16),
        "skip": hp.Boolean("skip", default=False),
    }
    with hp.conditional_scope("hidden", [1, 2]):
        inner = {"units": hp.Int("units", 32, 256, sampling="log", default=64),
                 "dropout": _dropout(hp)}
    return {**sizes, **inner} if sizes["hidden"] else sizes


def _dropout(hp, default=0.0):
    return hp.Float("dropout", 0.0, 0.5, default=default)


def scaled(network, task="classify"):
    """The space of a network that can be made wider or narrower."""
    plain = inspect.signature(network.function).parameters

    def space_of_width(hp):
        width = network.settings.get("width", 1.0)
        low, high = (width * factor for factor in known(task).widths)
        sizes = {"width": hp.Float("width", low, high, sampling="log", default=width)}
        if "dropout" in plain:
            sizes["dropout"] = _dropout(hp, plain["dropout"].default)
        return sizes

    return space_of_width


def craft(hp):
    """How a network is trained, beyond what every search tries."""
    return {
        "schedule": hp.Choice("schedule", list(SCHEDULES), default="cosine"),
        "warmup": hp.Choice("warmup", [0.0, 0.25, 0.5], default=0.0),
        "label_smoothing": hp.Choice("label_smoothing", [0.0, 0.05, 0.1, 0.2], default=0.0),
        "ema": hp.Choice("ema", [0.0, 0.9, 0.99, 0.999], default=0.0) or None,
        "augment": hp.Choice("augment", list(AUGMENTS), default="shift"),
    }


def widths(networks, task="classify"):
    """The spaces of all networks that can be made wider or narrower."""
    return {name: scaled(network, task) for name, network in networks.items()
            if "width" in inspect.signature(network.function).parameters}


BATCH_SIZES = (16, 32, 64, 128)
AUGMENTS = ("none", "shift", "shift,rotate,scale", "shift,rotate,scale,elastic", "flip,crop")
SPACES = {
    **widths(MODELS),
    "mlp": mlp,
    "simpleconvnet": simple_conv_net,
    "lenet5": lenet5,
    "patternnet": pattern_net,
}


def find_space(model, task="classify"):
    """The search space of a network."""
    spaces = SPACES if task == "classify" else widths(find_task(task).networks, task)
    if model not in spaces:
        raise unknown("search space", model, list(spaces))
    return spaces[model]


def choose(hp, model, images, with_craft=False, task="classify"):
    """Declares the whole space of `model` and returns the chosen settings of a run.

    {"sizes": {...}, "weight_decay", "learning_rate", "optimizer", "batch_size"}. The batch size
    is declared here too: one first declared while fitting has its default in every first trial.

    Args:
        images: how many there are to train on, the limit of the batch size.
        with_craft: whether `craft` is searched as well.
    """
    usual = known(task)
    batch_sizes = [size for size in BATCH_SIZES if size <= images] or [images]
    return {
        "sizes": find_space(model, task)(hp),
        "weight_decay": hp.Float("weight_decay", 1e-6, 1e-2, sampling="log", default=1e-6),
        "learning_rate": hp.Float("learning_rate", *usual.rates, sampling="log",
                                  default=usual.learning_rate),
        "optimizer": hp.Choice("optimizer", ["adam", "rmsprop", "nesterov"], default="adam"),
        "batch_size": hp.Choice("batch_size", batch_sizes,
                                default=min(usual.batch_size, batch_sizes[-1])),
        **(craft(hp) if with_craft else {}),
    }


def space(model, image_shape, classes, images, statistics=None, with_craft=False):
    """The hyper-model of a network: a function from hyper-parameters to a compiled model."""

    def hypermodel(hp):
        chosen = choose(hp, model, images, with_craft)
        network = build(model, image_shape, classes, statistics=statistics,
                        weight_decay=chosen["weight_decay"], **chosen["sizes"])
        return compile_model(network, optimizer=chosen["optimizer"],
                             learning_rate=chosen["learning_rate"])

    return hypermodel
