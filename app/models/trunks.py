"""Networks as trunks of other tasks' networks: their feature maps, by stride."""

import inspect

import keras

from app.errors import UsageError
from app.models import build, find
from app.transfer import head_of

SMALL = "small"  # each task's own, for small images


def trunk_of(name, image_shape, *, weights=None, width=1.0, momentum=None, **settings):
    """The network called `name`, without its head.

    Args:
        weights: as in `app.models.applications`; None: drawn.
        width: the factor of its channels, where it has one.
        momentum: of its batch normalisations, where not their own.

    Raises:
        UsageError: for an unknown name, and where the network takes no weights.
    """
    check_weights(name, weights)
    if "width" in _settings(name):
        settings["width"] = width
    if weights:
        settings["weights"] = weights
    network = build(name, image_shape, 2, **settings)
    for layer in network.layers:
        if momentum is not None and hasattr(layer, "momentum"):
            layer.momentum = momentum
    return headless(network)


def headless(model):
    """A classifier cut before its head: images to what the head is given."""
    (images,) = model.inputs  # a Sequential model that was never called has no `input`
    return keras.Model(images, model.get_layer(head_of(model)[0]).input, name="trunk")


def check_weights(name, weights):
    """Raises UsageError where `weights` are given to a trunk that takes none, as "small" does."""
    if weights and (name == SMALL or "weights" not in _settings(name)):
        raise UsageError("--weights is for trunks of keras.applications, as in --trunk "
                         f"keras-resnet50. Received: --trunk {name}")


def _settings(name):
    return inspect.signature(find(name).function).parameters


def feature_maps(trunk):
    """{stride: the last map of this stride}, as far as maps have more than a pixel.

    Strides are powers of 2; the sides of a map are those of the images, divided and rounded up.

    Raises:
        ValueError: where the trunk's last map has no stride of 2 or more.
    """
    (height, width), stride, strides = trunk.input_shape[1:3], 1, {}
    while stride < min(height, width):
        strides[-(-height // stride), -(-width // stride)] = stride
        stride *= 2
    maps = [layer.output for layer in trunk.layers
            if len(layer.output.shape) == 4 and layer.output.shape[1:3] != (1, 1)]
    if strides.get(maps[-1].shape[1:3], 1) == 1:
        raise ValueError(f"The last map of the trunk has {maps[-1].shape[1:3]} pixels on images "
                         f"{trunk.input_shape[1:3]}. Expected: their sides divided by 2, 4, 8 ..., "
                         "rounded up, as of a convolutional network that pads")
    return {strides[x.shape[1:3]]: x for x in maps if x.shape[1:3] in strides}
