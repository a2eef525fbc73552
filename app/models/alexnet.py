"""AlexNet in two towers and in one, and ZFNet, its successor: five convolutions, three dense."""

import keras

from app.models.common import check_size, check_width, scaled, smallest, start, weights
from custom_layers import (Conv2D, Dense, Dropout, Flatten, LocalResponseNormalization,
                           MaxPooling2D)

# The windows on an image's way to the dense layers: (kernel, stride, padding).
POOL = (3, 2, 0)
SAME = [(5, 1, 2), POOL, (3, 1, 1), (3, 1, 1), (3, 1, 1), POOL]
TWO_TOWERS = [(11, 4, 0), POOL, *SAME]
ONE_TOWER = [(11, 4, 2), POOL, *SAME]


def alexnet(image_shape, classes, *, towers=2, width=1.0, units=4096, dropout=0.5,
            weight_decay=0.0, statistics=None):
    """Five convolutions, overlapping pooling, three dense layers with dropout.

    With two towers (227x227 pixels) the second, fourth and fifth convolution see half of the maps
    each, by groups, and responses are normalised; with one (224x224) neither.

    Source: Krizhevsky, Sutskever, Hinton, ImageNet Classification with Deep Convolutional Neural
    Networks, 2012, section 3; one tower: Krizhevsky, One weird trick for parallelizing
    convolutional neural networks, 2014. Departs from them: He's initial values.
    """
    two = towers == 2
    if towers not in (1, 2):
        raise ValueError(f"`towers` must be 1 or 2. Received: towers={towers}")
    check_width(width)
    windows = TWO_TOWERS if two else ONE_TOWER
    check_size("AlexNet", image_shape, smallest(windows),
               "an 11x11 convolution in steps of 4, three 3x3 pools in steps of 2")
    maps = (96, 256, 384, 384, 256) if two else (64, 192, 384, 256, 256)
    groups = (1, 2, 1, 2, 2) if two else (1,) * 5
    initial = weights(weight_decay)

    def conv(i, kernel, strides=1, padding=0):
        filters = groups[i - 1] * scaled(maps[i - 1] / groups[i - 1], width)
        layer = Conv2D(filters, kernel, strides, padding, groups=groups[i - 1], activation="relu",
                       name=f"conv{i}", **initial)
        normalised = [LocalResponseNormalization(name=f"norm{i}")] if two and i < 3 else []
        pooled = [MaxPooling2D(3, 2, name=f"pool{i}")] if i in (1, 2, 5) else []
        return [layer, *normalised, *pooled]

    layers = [
        *start(image_shape, statistics),
        *conv(1, 11, 4, windows[0][2]), *conv(2, 5, padding=2),
        *(layer for i in (3, 4, 5) for layer in conv(i, 3, padding=1)),
        *_dense(classes, scaled(units, width), dropout, initial),
    ]
    return keras.Sequential(layers, name="alexnet" if two else "alexnet-one-tower")


def zfnet(image_shape, classes, *, width=1.0, units=4096, dropout=0.5, weight_decay=0.0,
          statistics=None):
    """AlexNet with smaller first windows (7x7 in steps of 2), all maps connected.

    Source: Zeiler, Fergus, Visualizing and Understanding Convolutional Networks, 2014, figure 3.
    Departs from it: He's initial values; filters are not renormalised; contrast is normalised
    across maps, as in AlexNet.
    """
    check_width(width)
    check_size("ZFNet", image_shape, 53,
               "convolutions and pools in steps of 2: 53, 25, 13, 5, 3, 1")
    initial = weights(weight_decay)

    def conv(i, filters, kernel=3, strides=1, padding=1):
        return Conv2D(scaled(filters, width), kernel, strides, padding, activation="relu",
                      name=f"conv{i}", **initial)

    layers = [
        *start(image_shape, statistics),
        conv(1, 96, 7, 2, 1),
        MaxPooling2D(3, 2, padding="same", name="pool1"), LocalResponseNormalization(name="norm1"),
        conv(2, 256, 5, 2, 0),
        MaxPooling2D(3, 2, padding="same", name="pool2"), LocalResponseNormalization(name="norm2"),
        conv(3, 384), conv(4, 384), conv(5, 256),
        MaxPooling2D(3, 2, name="pool5"),
        *_dense(classes, scaled(units, width), dropout, initial),
    ]
    return keras.Sequential(layers, name="zfnet")


def _dense(classes, units, dropout, initial):
    """fc6, fc7 and the logits, dropout before each dense layer but the last."""
    layers = [Flatten(name="flatten")]
    for name in ("fc6", "fc7"):
        layers += [Dropout(dropout, name=f"{name}_dropout")] if dropout else []
        layers.append(Dense(units, "relu", name=name, **initial))
    return [*layers, Dense(classes, kernel_regularizer=initial["kernel_regularizer"],
                           name="logits")]
