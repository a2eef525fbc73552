"""GoogLeNet: inception modules, with auxiliary classifiers in training."""

import keras

from app.models.common import check_size, check_width, scaled, start_functional, weights
from custom_layers import (AveragePooling2D, Concatenate, Conv2D, Dense, Dropout, Flatten,
                           GlobalAveragePooling2D, LocalResponseNormalization, MaxPooling2D)

# Filters: 1x1; 3x3 reduction, 3x3; 5x5 reduction, 5x5; projection of the pool. "M": max pooling.
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64), "pool3": "M",
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64), "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128), "pool4": "M",
    "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
}
AUXILIARY = ("4a", "4d")  # the modules that an auxiliary classifier follows


def googlenet(image_shape, classes, *, auxiliary=False, width=1.0, dropout=0.4, weight_decay=0.0,
              statistics=None):
    """Nine modules of 1x1, 3x3 and 5x5 convolutions and a pool side by side; a mean; one dense.

    With `auxiliary` there are three outputs, the logits first, then those of two classifiers in
    the middle. Their losses weigh 0.3 (`app.models.OUTPUT_WEIGHTS`); `app.models.served` leaves
    them out.

    Source: Szegedy et al., Going Deeper with Convolutions, 2015, table 1 and section 5. Departs
    from it: He's initial values.
    """
    check_width(width)
    if auxiliary:
        check_size("GoogLeNet with auxiliary classifiers", image_shape, 65,
                   "halved four times, 5x5 pixels are left for their 5x5 pool")
    initial = weights(weight_decay)

    def conv(x, filters, kernel, name, strides=1, padding="same"):
        return Conv2D(scaled(filters, width), kernel, strides, padding, activation="relu",
                      name=name, **initial)(x)

    def pool(x, name, strides=2):
        return MaxPooling2D(3, strides, padding="same", name=name)(x)

    def inception(x, sizes, name):
        one, reduce3, three, reduce5, five, projection = sizes
        return Concatenate(name=f"inception_{name}")([
            conv(x, one, 1, f"{name}_1x1"),
            conv(conv(x, reduce3, 1, f"{name}_3x3_reduce"), three, 3, f"{name}_3x3"),
            conv(conv(x, reduce5, 1, f"{name}_5x5_reduce"), five, 5, f"{name}_5x5"),
            conv(pool(x, f"{name}_pool", 1), projection, 1, f"{name}_pool_proj"),
        ])

    def classifier(x, units, rate, name):
        if rate:
            x = Dropout(rate, name=f"{name}_dropout")(x)
        return Dense(units, kernel_regularizer=initial["kernel_regularizer"], name=name)(x)

    def auxiliary_classifier(x, name):
        x = conv(AveragePooling2D(5, 3, name=f"{name}_pool")(x), 128, 1, f"{name}_conv")
        x = Dense(scaled(1024, width), "relu", name=f"{name}_fc", **initial)(Flatten()(x))
        return classifier(x, classes, 0.7 if dropout else 0, name)

    images, x = start_functional(image_shape, statistics)
    x = pool(conv(x, 64, 7, "conv1", 2, 3), "pool1")
    x = LocalResponseNormalization(name="norm1")(x)
    x = conv(conv(x, 64, 1, "conv2_reduce"), 192, 3, "conv2")
    x = pool(LocalResponseNormalization(name="norm2")(x), "pool2")
    outputs = []
    for name, sizes in INCEPTION.items():
        x = pool(x, name) if sizes == "M" else inception(x, sizes, name)
        if auxiliary and name in AUXILIARY:
            outputs.append(auxiliary_classifier(x, f"auxiliary{len(outputs) + 1}"))
    logits = classifier(GlobalAveragePooling2D(name="mean")(x), classes, dropout, "logits")
    return keras.Model(images, [logits, *outputs] if auxiliary else logits,
                       name=f"googlenet{'-auxiliary' if auxiliary else ''}")
