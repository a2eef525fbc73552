"""Small convolutional networks: SimpleConvNet, DeepConvNet."""

import keras

from app.models.common import check_size, decay, start
from custom_layers import Conv2D, Dense, Dropout, Flatten, MaxPooling2D


def simple_conv_net(image_shape, classes, *, filters=30, kernel=5, units=100, dropout=0.0,
                    weight_decay=0.0, statistics=None):
    """conv - relu - pool - dense - relu - dense: 433,890 parameters on 28x28x1.

    Source: Saitoh, Deep Learning from Scratch, 2016, section 7.5.
    """
    check_size("SimpleConvNet", image_shape, kernel + 1, f"{kernel}x{kernel} kernel, then 2x2 pool")
    penalty = decay(weight_decay)
    layers = [
        *start(image_shape, statistics),
        Conv2D(filters, kernel, activation="relu", kernel_initializer="he_normal",
               kernel_regularizer=penalty, name="conv1"),
        MaxPooling2D(2, name="pool1"),
        Flatten(name="flatten"),
        Dense(units, "relu", kernel_initializer="he_normal", kernel_regularizer=penalty,
              name="hidden"),
        *([Dropout(dropout, name="dropout")] if dropout else []),
        Dense(classes, kernel_regularizer=penalty, name="logits"),
    ]
    return keras.Sequential(layers, name="simpleconvnet")


def deep_conv_net(image_shape, classes, *, filters=(16, 16, 32, 32, 64, 64), units=50,
                  dropout=0.5, weight_decay=0.0, statistics=None):
    """Six 3x3 convolutions in three stages, dropout before and after the last layer.

    Source: Saitoh, Deep Learning from Scratch, 2016, section 8.1: 99.38 % on MNIST.
    """
    check_size("DeepConvNet", image_shape, 4,
               "2x2 pool, the 4th convolution adds 2 pixels, two more 2x2 pools: 4, 2, 4, 2, 1")
    penalty = decay(weight_decay)
    layers = start(image_shape, statistics)
    for i, maps in enumerate(filters, 1):
        layers.append(
            Conv2D(maps, 3, padding=2 if i == 4 else 1, activation="relu",
                   kernel_initializer="he_normal", kernel_regularizer=penalty, name=f"conv{i}")
        )
        if i % 2 == 0:
            layers.append(MaxPooling2D(2, name=f"pool{i // 2}"))
    layers += [
        Flatten(name="flatten"),
        Dense(units, "relu", kernel_initializer="he_normal", kernel_regularizer=penalty,
              name="hidden"),
        Dropout(dropout, name="dropout1"),
        Dense(classes, kernel_regularizer=penalty, name="logits"),
        Dropout(dropout, name="dropout2"),
    ]
    return keras.Sequential(layers, name="deepconvnet")
