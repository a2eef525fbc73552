"""PatternNet: the common pattern of convolutional networks, its sizes left open for a search."""

import keras

from app.models.common import check_size, decay, start_functional
from custom_layers import Conv2D, Dense, Dropout, Flatten, MaxPooling2D


def pattern_net(image_shape, classes, *, convolutions=1, stages=2, hidden=1, filters=16, units=64,
                pool=True, skip=False, dropout=0.0, weight_decay=0.0, statistics=None):
    """INPUT, [[CONV, RELU] * convolutions, POOL?] * stages, [FC, RELU] * hidden, FC.

    The filters (3x3) double with each stage. With `skip` a 1x1 convolution of the stage's input
    is added to its output before the pool, so the network branches (a functional model).

    Source: Karpathy et al., CS231n Convolutional Neural Networks for Visual Recognition.
    """
    minimum = 2**stages if pool else 1
    check_size("PatternNet", image_shape, minimum, f"{stages} stages that halve the size")
    penalty = decay(weight_decay)

    def conv(maps, kernel, name, activation="relu"):
        return Conv2D(maps, kernel, padding="same", activation=activation,
                      kernel_initializer="he_normal", kernel_regularizer=penalty, name=name)

    images, x = start_functional(image_shape, statistics)
    for stage in range(1, stages + 1):
        maps, before = filters * 2 ** (stage - 1), x
        for i in range(1, convolutions + 1):
            x = conv(maps, 3, f"conv{stage}_{i}")(x)
        if skip:
            shortcut = conv(maps, 1, f"skip{stage}", activation=None)(before)
            x = keras.layers.Add(name=f"add{stage}")([x, shortcut])
        if pool:
            x = MaxPooling2D(2, name=f"pool{stage}")(x)
    x = Flatten(name="flatten")(x)
    for i in range(1, hidden + 1):
        x = Dense(units, "relu", kernel_initializer="he_normal", kernel_regularizer=penalty,
                  name=f"hidden{i}")(x)
        if dropout:
            x = Dropout(dropout, name=f"dropout{i}")(x)
    logits = Dense(classes, kernel_regularizer=penalty, name="logits")(x)
    return keras.Model(images, logits, name="patternnet")
