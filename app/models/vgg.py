"""VGG: stacks of 3x3 convolutions, configurations A to E."""

import keras

from app.models.common import check_size, check_width, scaled, start, weights
from custom_layers import (BatchNormalization, Conv2D, Dense, Dropout, Flatten, MaxPooling2D,
                           ReLU)

# A number is a 3x3 convolution with so many filters, (n, 1) a 1x1 one, "M" a 2x2 max pooling.
VGG = {
    "a": [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    "b": [64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    "c": [64, 64, "M", 128, 128, "M", 256, 256, (256, 1), "M",
          512, 512, (512, 1), "M", 512, 512, (512, 1), "M"],
    "d": [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"],
    "e": [64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M",
          512, 512, 512, 512, "M", 512, 512, 512, 512, "M"],
}


def vgg(image_shape, classes, *, configuration="d", batch_norm=False, width=1.0, units=4096,
        dropout=0.5, weight_decay=0.0, statistics=None):
    """3x3 convolutions in five stages, then three dense layers; D is known as VGG-16, E as VGG-19.

    With `batch_norm` each convolution is normalised before its ReLU, and has no bias.

    Source: Simonyan, Zisserman, Very Deep Convolutional Networks for Large-Scale Image
    Recognition, 2015, table 1 and section 2. Departs from it: He's initial values.
    """
    check_width(width)
    check_size(f"VGG {configuration.upper()}", image_shape, 32,
               "five 2x2 pools: 32, 16, 8, 4, 2, 1")
    initial, layers = weights(weight_decay), start(image_shape, statistics)
    for number, stage in enumerate(stages(configuration, batch_norm, width, weight_decay), 1):
        layers += [*stage, MaxPooling2D(2, name=f"pool{number}")]
    layers.append(Flatten(name="flatten"))
    for name in ("fc6", "fc7"):
        layers.append(Dense(scaled(units, width), "relu", name=name, **initial))
        layers += [Dropout(dropout, name=f"{name}_dropout")] if dropout else []
    layers.append(Dense(classes, kernel_regularizer=initial["kernel_regularizer"], name="logits"))
    return keras.Sequential(layers, name=f"vgg-{configuration}{'-bn' if batch_norm else ''}")


def stages(configuration="d", batch_norm=False, width=1.0, weight_decay=0.0):
    """The layers of each of the five stages, without the pooling that ends it."""
    initial, found = weights(weight_decay), [[]]
    for item in VGG[configuration]:
        if item == "M":
            found.append([])
            continue
        filters, kernel = item if isinstance(item, tuple) else (item, 3)
        number = sum(isinstance(layer, Conv2D) for layer in found[-1]) + 1
        name = f"conv{len(found)}_{number}"
        found[-1].append(Conv2D(scaled(filters, width), kernel, padding="same", name=name,
                                use_bias=not batch_norm, **initial))
        found[-1] += [BatchNormalization(name=f"{name}_bn")] if batch_norm else []
        found[-1].append(ReLU(name=f"{name}_relu"))
    return found[:-1]
