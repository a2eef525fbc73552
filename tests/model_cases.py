"""The networks that the tests build: narrow, on the smallest images that they take."""

import inspect

import pytest

from app.models import MODELS, build

# The smallest square images that a network takes.
SMALLEST = {"simpleconvnet": 6, "deepconvnet": 4, "patternnet": 4, "alexnet": 67,
            "alexnet-one-tower": 63, "zfnet": 53, "airbench": 9, "googlenet-auxiliary": 65,
            **{name: 32 for name in MODELS if name.startswith(("vgg", "keras-"))},
            "keras-inceptionv3": 75}


# One of each kind of block; the others differ by how many there are of them.
KINDS = ("perceptron", "mlp", "simpleconvnet", "deepconvnet", "patternnet", "lenet5-1998",
         "lenet5", "airbench", "alexnet", "alexnet-one-tower", "zfnet", "nin", "vgg-a", "vgg-c-bn",
         "googlenet-auxiliary", "resnet18", "resnet50", "resnet20")


def fast(names):
    """All networks, those that are not named as slow tests."""
    return [name if name in names else pytest.param(name, marks=pytest.mark.slow)
            for name in MODELS]


ALL = fast(KINDS)


def small(name, channels=3, wide=3, **settings):
    """A narrow network on the smallest images that it takes, a little wider than high."""
    parameters = inspect.signature(MODELS[name].function).parameters
    narrow = {"width": 1 / 4 if "googlenet" in name else 1 / 16} if "width" in parameters else {}
    side = SMALLEST.get(name, 12)
    return build(name, (side, side + wide, channels), 4, **{**narrow, **settings})
