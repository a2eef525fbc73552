"""DCGAN: a generator and a discriminator without pooling, without hidden dense layers."""

import keras

from app.models.common import check_width, scaled
from custom_layers import (BatchNormalization, Conv2D, Conv2DTranspose, Flatten, LeakyReLU, ReLU,
                           Rescaling, Reshape, Tanh)

BASE = 64  # filters of the discriminator's first convolution
SMALLEST, LARGEST = 4, 7  # the side that all doublings start from
KERNEL, STRIDE = 4, 2


def generator(image_shape, *, noise=100, width=1.0):
    """The generator: noise (N, noise) -> images in [0, 1]; 3,576,704 parameters at 64x64x3.

    A transposed convolution makes 4x4 maps of the noise (7x7 for 28x28, 5x5 for 40x40 ...), each
    further one, 4x4 with stride 2, doubles their side and halves their number, down to 64; batch
    normalisation and ReLU after all but the last, which is tanh, here brought to [0, 1].

    Args:
        width: the factor of all channels.

    Source: Radford, Metz, Chintala, Unsupervised Representation Learning with Deep Convolutional
    Generative Adversarial Networks, ICLR 2016, section 3. Departs from it as its PyTorch example
    does: half the channels, kernels of 4x4, which cover every pixel alike under stride 2, and no
    biases, before batch normalisation and at the end.
    """
    check_width(width)
    side, doublings = _plan(image_shape)
    filters = [scaled(BASE * 2**i, width) for i in reversed(range(doublings))]
    layers = [keras.Input((noise,), name="noise"), Reshape((1, 1, noise), name="project_reshape"),
              Conv2DTranspose(filters[0], side, name="project", **_initial()),
              BatchNormalization(name="project_bn", **_moving()), ReLU(name="project_relu")]
    for i, maps in enumerate(filters[1:], 1):
        layers += [Conv2DTranspose(maps, KERNEL, STRIDE, "same", name=f"up{i}", **_initial()),
                   BatchNormalization(name=f"up{i}_bn", **_moving()), ReLU(name=f"up{i}_relu")]
    layers += [
        Conv2DTranspose(image_shape[2], KERNEL, STRIDE, "same", name="pixels", **_initial()),
        Tanh(name="tanh"), Rescaling(0.5, 0.5, name="images")]
    return keras.Sequential(layers, name="generator")


def discriminator(image_shape, *, width=1.0):
    """The discriminator: images in [0, 1] -> logits (N, 1); 2,765,568 parameters at 64x64x3.

    The generator's mirror image: 4x4 convolutions with stride 2, 64 filters and then twice as many
    each time, batch normalisation after all but the first, leaky ReLU with slope 0.2, and one
    convolution over the last maps for the logit that an image is real. Source as `generator`.
    """
    check_width(width)
    side, doublings = _plan(image_shape)
    layers = [keras.Input(image_shape, name="images"), Rescaling(2.0, -1.0, name="signed")]
    for i in range(doublings):
        layers += [Conv2D(scaled(BASE * 2**i, width), KERNEL, STRIDE, "same", name=f"down{i + 1}",
                          **_initial())]
        if i:
            layers.append(BatchNormalization(name=f"down{i + 1}_bn", **_moving()))
        layers.append(LeakyReLU(0.2, name=f"down{i + 1}_relu"))
    layers += [Conv2D(1, side, name="judge", **_initial()), Flatten(name="logits")]
    return keras.Sequential(layers, name="discriminator")


def _initial():
    return {"kernel_initializer": keras.initializers.RandomNormal(stddev=0.02), "use_bias": False}


def _moving():
    """Statistics that keep up with a generator that moves: Keras's default lags 100 steps."""
    return {"momentum": 0.9, "epsilon": 1e-5}


def _plan(image_shape):
    """((rows, columns) of the first maps, how often they are doubled up to the image's sides)"""
    side, doublings = tuple(image_shape[:2]), 0
    while max(side) > LARGEST and not any(s % 2 for s in side):
        side, doublings = tuple(s // 2 for s in side), doublings + 1
    if not doublings or min(side) < SMALLEST or max(side) > LARGEST:
        raise ValueError(
            f"A DCGAN's images must have sides of {SMALLEST} to {LARGEST} pixels doubled one or "
            f"more times: 8, 16, 28, 32, 64 ... Received: {image_shape[0]}x{image_shape[1]}. "
            "Change them with --image-size 32")
    return side, doublings
