"""What every network begins with and how its weights decay."""

import keras

from custom_layers import WeightDecay


def start(image_shape, statistics):
    """The input (images in [0, 1], NHWC) and, with `statistics` (mean, std), their normalisation.

    The normalisation is a layer, so that an exported model takes the images as they are.
    """
    layers = [keras.Input(image_shape, name="images")]
    if statistics is not None:
        mean, std = statistics
        variance = [max(float(s), 1e-3) ** 2 for s in std]
        mean = [float(m) for m in mean]
        layers.append(keras.layers.Normalization(mean=mean, variance=variance, name="normalize"))
    return layers


def decay(weight_decay):
    """The penalty 1/2 lambda W^2, or none."""
    return WeightDecay(weight_decay) if weight_decay else None


def check_size(name, image_shape, minimum, arithmetic):
    """Raises ValueError where an image is too small for the network."""
    if min(image_shape[:2]) < minimum:
        raise ValueError(
            f"{name} needs images of at least {minimum}x{minimum} pixels ({arithmetic}). "
            f"Received: {image_shape[0]}x{image_shape[1]}. Enlarge them with --image-size {minimum}"
        )
