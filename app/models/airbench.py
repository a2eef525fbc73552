"""The small network of the fastest trainings on CIFAR-10."""

import keras

from app.models.common import check_size, check_width, decay, scaled, start, weights
from custom_layers import (GELU, BatchNormalization, Conv2D, Dense, Dirac, GlobalMaxPooling2D,
                           MaxPooling2D, Rescaling)


def airbench(image_shape, classes, *, widths=(64, 256, 256), width=1.0, weight_decay=0.0,
             statistics=None):
    """A whitening of 2x2 pixels that is not trained, and three blocks of two convolutions.

    Forward: the whitening's filters are the principal components of the training images' patches,
    each with both signs, over the deviation along them (`app.whitening.fit`). A block is
    conv3x3, max pooling, BN, GELU, conv3x3, BN, GELU. The largest of what is left of each map, a
    dense layer, a ninth of its result.

    The convolutions start as the identity on their first maps (`Dirac`); BN has no scale.

    Source: Jordan, 94 % on CIFAR-10 in 3.29 Seconds on a Single GPU, 2024, section 3 and listing
    4. Departs from it: the whitening has no bias, BN's moments are Keras's.
    """
    check_width(width)
    check_size("airbench", image_shape, 9, "2x2 windows, then three poolings by 2")
    patch = 2 * 2 * image_shape[2]
    layers = [
        *start(image_shape, statistics),
        Conv2D(2 * patch, 2, use_bias=False, trainable=False, name="whiten"),
        GELU(name="whiten_gelu"),
    ]
    initial = {**weights(weight_decay), "kernel_initializer": Dirac()}
    for block, maps in enumerate(widths, 1):
        for i in (1, 2):
            name = f"conv{block}_{i}"
            layers += [
                Conv2D(scaled(maps, width), 3, padding="same", use_bias=False, name=name,
                       **initial),
                *([MaxPooling2D(2, name=f"pool{block}")] if i == 1 else []),
                BatchNormalization(scale=False, momentum=0.6, name=f"{name}_bn"),
                GELU(name=f"{name}_gelu"),
            ]
    layers += [
        GlobalMaxPooling2D(name="largest"),
        Dense(classes, use_bias=False, kernel_regularizer=decay(weight_decay), name="weights"),
        Rescaling(1 / 9, name="logits"),
    ]
    return keras.Sequential(layers, name="airbench")
