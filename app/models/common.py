"""What every network begins with, how its weights start and decay, and how small it may be fed."""

import keras

from app import whitening
from custom_layers import GroupNormalization, WeightDecay


def start(image_shape, statistics, *before):
    """The input (images in [0, 1], NHWC), the layers `before`, the normalisation.

    The normalisation is a layer, so that an exported model takes the images as they are: by the
    `statistics` (mean, std), or where that is "zca" or "pca" a whitening of whole images, which
    comes first and remains to be fitted (`app.whitening`).
    """
    images = keras.Input(image_shape, name="images")
    if isinstance(statistics, str):
        return [images, *whitening.layers(statistics, image_shape), *before]
    layers = [images, *before]
    if statistics is not None:
        mean, std = statistics
        variance = [max(float(s), 1e-3) ** 2 for s in std]
        mean = [float(m) for m in mean]
        layers.append(keras.layers.Normalization(mean=mean, variance=variance, name="normalize"))
    return layers


def start_functional(image_shape, statistics, by_image=False):
    """(input, its normalisation) for a network that branches.

    `by_image`: each channel of each image is brought to mean 0 and variance 1 of its own, so that
    dusk is as bright as noon.
    """
    images, *normalize = start(image_shape, statistics)
    x = images
    for layer in normalize:
        x = layer(x)
    if by_image:
        x = GroupNormalization(-1, center=False, scale=False, name="by_image")(x)
    return images, x


def weights(weight_decay, initializer="he_normal"):
    """How the weights of a layer start, and the penalty 1/2 lambda W^2 on them, or none."""
    return {"kernel_initializer": initializer, "kernel_regularizer": decay(weight_decay)}


def decay(weight_decay):
    """The penalty 1/2 lambda W^2, or none."""
    return WeightDecay(weight_decay) if weight_decay else None


def scaled(channels, width):
    """So many channels times `width`, at least one."""
    return max(1, round(channels * width))


def check_width(width):
    if not 0 < width < float("inf"):
        raise ValueError(f"`width`, the factor of all channels, must be above 0. Received: {width}")


def check_size(name, image_shape, minimum, arithmetic):
    """Raises ValueError where an image is too small for the network."""
    if min(image_shape[:2]) < minimum:
        raise ValueError(
            f"{name} needs images of at least {minimum}x{minimum} pixels ({arithmetic}). "
            f"Received: {image_shape[0]}x{image_shape[1]}. Enlarge them with --image-size {minimum}"
        )


def smallest(windows):
    """The smallest side that leaves one pixel after windows of (kernel, stride, padding)."""
    side = 1
    for kernel, stride, padding in reversed(windows):
        side = max(1, (side - 1) * stride + kernel - 2 * padding)
    return side
