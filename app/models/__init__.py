"""Networks: functions from sizes to a `keras.Model` that gives logits."""

from app.errors import UsageError, unknown
from app.models.convnets import deep_conv_net, lenet5, simple_conv_net
from app.models.mlp import mlp
from app.models.patternnet import pattern_net
from app.models.perceptron import perceptron

MODELS = {
    "perceptron": perceptron,
    "mlp": mlp,
    "simpleconvnet": simple_conv_net,
    "lenet5": lenet5,
    "deepconvnet": deep_conv_net,
    "patternnet": pattern_net,
}

# The input that the catalogue's parameter counts are stated for.
CATALOGUE_INPUT = (28, 28, 1)
CATALOGUE_CLASSES = 10


def find(name):
    """The model function called `name`."""
    if name not in MODELS:
        raise unknown("model", name, list(MODELS))
    return MODELS[name]


def build(name, image_shape, classes, **settings):
    """The network `name` for images of a shape, or a UsageError that says why not."""
    try:
        return find(name)(image_shape, classes, **settings)
    except ValueError as error:
        raise UsageError(str(error)) from error
