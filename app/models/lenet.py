"""LeNet-5, as published in 1998 and as it is built today."""

import keras

from app.models.common import decay, start, weights
from custom_layers import (RBF, Conv2D, Dense, Dropout, Flatten, MaxPooling2D, Rescaling,
                           ScaledTanh, SparseConv2D, Subsampling2D, ZeroPadding2D, lenet_codes)
from custom_layers.sparse_convolution import LENET_C3


def lenet5_1998(image_shape, classes, *, dropout=0.0, weight_decay=0.0, statistics=None):
    """LeNet-5 as published: subsampling, C3's table, scaled tanh, an RBF output; 60,000 weights.

    Forward: C1 6@5x5, S2, C3 16@5x5 by the table, S4, C5 120@5x5, F6 84, and for each class the
    squared distance of F6 to its code, with its sign turned: the nearest code has the largest
    logit. The codes are fixed; those of ten classes are digits drawn on 7x12 pixels. To be trained
    with `MaximumAPosteriori(from_logits=True)`. 340,908 connections on 32x32x1.

    Smaller images are brought to 32x32 as in `lenet5`.

    Source: LeCun, Bottou, Bengio, Haffner, Gradient-Based Learning Applied to Document
    Recognition, 1998, section II-B. Departs from it: pixels are normalised by the mean and the
    deviation of the training images; weights start with the variance 1/n of LeCun, Bottou, Orr,
    Mueller, Efficient BackProp, 1998; for other than ten classes the codes are random signs.
    """
    def tanh(name):
        return ScaledTanh(name=f"{name}_tanh")

    initial = weights(weight_decay, "lecun_uniform")
    resize, pads = _to_32(image_shape)
    layers = [
        # Padded before the normalisation, so that the margin is of the colour of the paper.
        *start(image_shape, statistics, *resize, ZeroPadding2D(pads, name="pad")),
        Conv2D(6, 5, name="C1", **initial), tanh("C1"),
        Subsampling2D(name="S2"), tanh("S2"),
        SparseConv2D(LENET_C3, 5, name="C3", **initial), tanh("C3"),
        Subsampling2D(name="S4"), tanh("S4"),
        Conv2D(120, 5, name="C5", **initial), tanh("C5"),
        Flatten(name="flatten"),
        Dense(84, name="F6", **initial), tanh("F6"),
        *([Dropout(dropout, name="dropout")] if dropout else []),
        RBF(classes, codes=lenet_codes() if classes == 10 else None, name="distances"),
        Rescaling(-1.0, name="logits"),
    ]
    return keras.Sequential(layers, name="lenet5-1998")


def lenet5(image_shape, classes, *, filters=(6, 16), units=(120, 84), dropout=0.0,
           weight_decay=0.0, statistics=None):
    """LeNet-5 with ReLU, max pooling and softmax: 61,706 parameters on 32x32x1 and 28x28x1.

    Smaller images are brought to 32x32 inside the model: padded when at most four pixels are
    missing (as the paper does with MNIST), else resized (bilinear).

    Source: LeCun, Bottou, Bengio, Haffner, Gradient-Based Learning Applied to Document
    Recognition, 1998, section II-B. Departs from it: ReLU, max pooling, all maps connected in
    C3, softmax.
    """
    initial = {"activation": "relu", **weights(weight_decay)}
    resize, pads = _to_32(image_shape)
    layers = [
        *start(image_shape, statistics, *resize),
        Conv2D(filters[0], 5, padding=pads, name="C1", **initial),
        MaxPooling2D(2, name="S2"),
        Conv2D(filters[1], 5, name="C3", **initial),
        MaxPooling2D(2, name="S4"),
        Flatten(name="flatten"),
        Dense(units[0], name="C5", **initial),
        Dense(units[1], name="F6", **initial),
        *([Dropout(dropout, name="dropout")] if dropout else []),
        Dense(classes, kernel_regularizer=decay(weight_decay), name="logits"),
    ]
    return keras.Sequential(layers, name="lenet5")


def _to_32(image_shape):
    """(layers that resize smaller images to 32x32, rows and columns missing around the others)"""
    if min(image_shape[:2]) < 28:
        return [keras.layers.Resizing(32, 32, name="resize")], ((0, 0), (0, 0))
    missing = [max(32 - size, 0) for size in image_shape[:2]]
    return [], tuple((m // 2, m - m // 2) for m in missing)
