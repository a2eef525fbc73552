"""Residual networks: ResNet-18 to -152 for ImageNet, ResNet-20 to -110 for CIFAR."""

import keras

from app.models.common import check_width, scaled, start_functional, weights
from custom_layers import (Add, AveragePooling2D, BatchNormalization, Conv2D, Dense,
                           GlobalAveragePooling2D, MaxPooling2D, ReLU, ZeroPadding2D)

# Blocks in each of the four stages; from 50 layers on a block is a bottleneck.
RESNET = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3),
          152: (3, 8, 36, 3)}
CIFAR_RESNET = (20, 32, 44, 56, 110)


def resnet(image_shape, classes, *, depth=50, width=1.0, weight_decay=0.0, statistics=None):
    """Four stages of residual blocks; shortcuts are the identity, or a 1x1 convolution.

    Source: He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, 2016, table 1;
    shortcuts B.
    """
    if depth not in RESNET:
        raise ValueError(f"`depth` must be one of {', '.join(map(str, RESNET))}. Received: {depth}")
    parts = ResidualParts(width, weight_decay)
    images, x = start_functional(image_shape, statistics)
    x = parts.conv(x, 64, 7, 2, "conv1", padding=3)
    x = MaxPooling2D(3, 2, padding="same", name="pool1")(ReLU(name="conv1_relu")(x))
    for stage, blocks in enumerate(RESNET[depth]):
        maps = 64 * 2**stage
        for i in range(blocks):
            strides = 2 if stage and not i else 1
            name = f"conv{stage + 2}_{i + 1}"
            if depth < 50:
                kernels, filters = (3, 3), (maps, maps)
            else:
                kernels, filters = (1, 3, 1), (maps, maps, 4 * maps)
            shortcut = x
            if strides > 1 or x.shape[-1] != scaled(filters[-1], width):
                shortcut = parts.conv(x, filters[-1], 1, strides, f"{name}_shortcut")
            x = parts.block(x, shortcut, filters, kernels, strides, name)
    return keras.Model(images, parts.logits(x, classes), name=f"resnet{depth}")


def cifar_resnet(image_shape, classes, *, depth=20, width=1.0, weight_decay=0.0, statistics=None):
    """Three stages of (depth - 2) / 6 blocks of 16, 32 and 64 maps; shortcuts padded with zeros.

    Source: He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, 2016, section 4.2;
    shortcuts A: every second pixel, maps of zeros beside. 8.75 % error on CIFAR-10 with 20 layers.
    """
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"`depth` must be 6 n + 2, as in {', '.join(map(str, CIFAR_RESNET))}. "
                         f"Received: {depth}")
    parts = ResidualParts(width, weight_decay)
    images, x = start_functional(image_shape, statistics)
    x = ReLU(name="conv1_relu")(parts.conv(x, 16, 3, 1, "conv1"))
    for stage, maps in enumerate((16, 32, 64)):
        for i in range((depth - 2) // 6):
            strides, shortcut = (2 if stage and not i else 1), x
            name = f"conv{stage + 2}_{i + 1}"
            if strides > 1:
                shortcut = AveragePooling2D(1, 2, name=f"{name}_every_second")(x)
                more = scaled(maps, width) - x.shape[-1]
                # The axis of the maps, taken for the width of a picture.
                shortcut = ZeroPadding2D(((0, 0), (more // 2, more - more // 2)),
                                         data_format="channels_first", name=f"{name}_zeros"
                                         )(shortcut)
            x = parts.block(x, shortcut, (maps, maps), (3, 3), strides, name)
    return keras.Model(images, parts.logits(x, classes), name=f"resnet{depth}")


class ResidualParts:
    """What residual networks are made of; all channels times `width`."""

    momentum = 0.99  # of the normalisation's averages

    def __init__(self, width, weight_decay):
        check_width(width)
        self.width, self.initial = width, weights(weight_decay)

    def conv(self, x, filters, kernel, strides, name, padding=None):
        """A convolution and its batch normalisation."""
        padding = kernel // 2 if padding is None else padding
        x = Conv2D(scaled(filters, self.width), kernel, strides, padding, use_bias=False,
                   name=name, **self.initial)(x)
        return BatchNormalization(momentum=self.momentum, name=f"{name}_bn")(x)

    def block(self, x, shortcut, filters, kernels, strides, name):
        """Convolutions with ReLU between them; the shortcut is added before the last ReLU."""
        for i, (n, kernel) in enumerate(zip(filters, kernels), 1):
            x = self.conv(x, n, kernel, strides if i == 1 else 1, f"{name}_{i}")
            if i < len(filters):
                x = ReLU(name=f"{name}_{i}_relu")(x)
        return ReLU(name=f"{name}_relu")(Add(name=f"{name}_add")([shortcut, x]))

    def logits(self, x, classes):
        x = GlobalAveragePooling2D(name="mean")(x)
        return Dense(classes, kernel_regularizer=self.initial["kernel_regularizer"],
                     name="logits")(x)
