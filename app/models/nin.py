"""Network in Network: 1x1 convolutions after each convolution, no dense layer."""

import keras

from app.models.common import check_width, scaled, start, weights
from custom_layers import (AveragePooling2D, Conv2D, Dropout, GlobalAveragePooling2D,
                           MaxPooling2D)


def nin(image_shape, classes, *, width=1.0, dropout=0.5, weight_decay=0.0, statistics=None):
    """Three stages of a convolution and two 1x1 ones; the mean of a map is the logit of a class.

    Source: Lin, Chen, Yan, Network In Network, 2014, section 3 and figure 2; the sizes for
    CIFAR-10 are those of the authors' published configuration. Departs from it: He's initial
    values.
    """
    check_width(width)
    initial = {"padding": "same", "activation": "relu", **weights(weight_decay)}

    def stage(i, filters, kernel, first, second):
        names = f"conv{i}", f"cccp{2 * i - 1}", f"cccp{2 * i}"
        return [Conv2D(n, k, name=name, **initial)
                for n, k, name in zip((filters, first, second), (kernel, 1, 1), names)]

    def maps(n):
        return scaled(n, width)

    between = [[Dropout(dropout, name=f"dropout{i}")] if dropout else [] for i in (1, 2)]
    layers = [
        *start(image_shape, statistics),
        *stage(1, maps(192), 5, maps(160), maps(96)),
        MaxPooling2D(3, 2, padding="same", name="pool1"), *between[0],
        *stage(2, maps(192), 5, maps(192), maps(192)),
        AveragePooling2D(3, 2, padding="same", name="pool2"), *between[1],
        *stage(3, maps(192), 3, maps(192), classes),
        GlobalAveragePooling2D(name="logits"),
    ]
    return keras.Sequential(layers, name="nin")
