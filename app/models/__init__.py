"""Networks: functions from sizes to a `keras.Model` that gives logits."""

import inspect
from dataclasses import dataclass, field
from functools import partial
from typing import Callable

import keras

from app.errors import UsageError, unknown
from app.models.airbench import airbench
from app.models.alexnet import alexnet, zfnet
from app.models.applications import APPLICATIONS, application
from app.models.convnets import deep_conv_net, simple_conv_net
from app.models.googlenet import googlenet
from app.models.lenet import lenet5, lenet5_1998
from app.models.mlp import mlp
from app.models.nin import nin
from app.models.patternnet import pattern_net
from app.models.perceptron import perceptron
from app.models.resnet import CIFAR_RESNET, RESNET, cifar_resnet, resnet
from app.models.vgg import VGG, vgg
from custom_layers import MaximumAPosteriori, SoftmaxCrossEntropy


@dataclass(frozen=True)
class Network:
    """A network of a family, and the sizes that its published parameter count is stated for.

    Attributes:
        function: the family, from image shape, classes and settings to a model.
        settings: those that make this network of it.
        image_shape, classes: what the catalogue's count is stated for.
        loss: from settings such as `label_smoothing` to the loss that it is trained with.
    """

    function: Callable
    settings: dict = field(default_factory=dict)
    image_shape: tuple = (28, 28, 1)
    classes: int = 10
    loss: Callable = SoftmaxCrossEntropy

    def __call__(self, image_shape, classes, **sizes):
        return self.function(image_shape, classes, **{**self.settings, **sizes})

    @property
    def what(self):
        """A line on the family."""
        of = self.function if self.function.__doc__ else type(self.function.__self__)
        return inspect.getdoc(of).splitlines()[0]


def imagenet(function, side=224, **settings):
    return Network(function, settings, (side, side, 3), 1000)


MODELS = {
    "perceptron": Network(perceptron),
    "mlp": Network(mlp),
    "simpleconvnet": Network(simple_conv_net),
    "lenet5-1998": Network(lenet5_1998, image_shape=(32, 32, 1),
                           loss=partial(MaximumAPosteriori, from_logits=True)),
    "lenet5": Network(lenet5),
    "deepconvnet": Network(deep_conv_net),
    "patternnet": Network(pattern_net),
    "alexnet": imagenet(alexnet, 227),
    "alexnet-one-tower": imagenet(alexnet, towers=1),
    "zfnet": imagenet(zfnet),
    "airbench": Network(airbench, image_shape=(32, 32, 3)),
    "nin": Network(nin, image_shape=(32, 32, 3)),
    **{f"vgg-{letter}": imagenet(vgg, configuration=letter) for letter in VGG},
    **{f"vgg-{letter}-bn": imagenet(vgg, configuration=letter, batch_norm=True) for letter in VGG},
    "googlenet": imagenet(googlenet),
    "googlenet-auxiliary": imagenet(googlenet, auxiliary=True),
    **{f"resnet{depth}": imagenet(resnet, depth=depth) for depth in RESNET},
    **{f"resnet{depth}": Network(cifar_resnet, {"depth": depth}, (32, 32, 3))
       for depth in CIFAR_RESNET},
    **{f"keras-{trunk}": imagenet(application, 299 if trunk == "inceptionv3" else 224, trunk=trunk)
       for trunk in APPLICATIONS},
}

# The losses of a model with several outputs: the logits, then those of auxiliary classifiers.
OUTPUT_WEIGHTS = (1.0, 0.3, 0.3)


def find(name, networks=MODELS):
    """The network called `name`."""
    if name not in networks:
        raise unknown("model", name, list(networks))
    return networks[name]


def build(name, image_shape, classes, networks=MODELS, **settings):
    """The network `name` for images of a shape, or a UsageError that says why not."""
    network = find(name, networks)
    if classes < 2 and networks is MODELS:
        raise UsageError(f"A classifier needs at least 2 classes. Received: {classes}")
    known = inspect.signature(network.function).parameters
    for setting in settings:
        if setting not in known:
            has = [p.name for p in known.values() if p.kind is p.KEYWORD_ONLY]
            raise UsageError(f"The network '{name}' has no setting '{setting}'. "
                             f"It has: {', '.join(has)}")
    try:
        return network(image_shape, classes, **settings)
    except ValueError as error:
        raise UsageError(str(error)) from error


def served(model):
    """The model from images to logits alone, without auxiliary classifiers."""
    if len(model.outputs) == 1:
        return model
    return keras.Model(model.input, model.outputs[0], name=model.name)
