"""A small U-shaped network: what is fine comes from the encoder, what is coarse from below."""

import math

import keras

from app.models.common import check_width, scaled, start_functional, weights
from app.segmentation.sizes import cropped, enlarged
from custom_layers import (BatchNormalization, Concatenate, Conv2D, MaxPooling2D, ReLU,
                           SpatialDropout2D, UpSampling2D)


def unet(image_shape, classes, *, levels=3, filters=16, most=None, finest=2, width=1.0,
         stem=1, dropout=0.0, by_image=False, weight_decay=0.0, statistics=None):
    """Two 3x3 convolutions a level, halved `levels` times, and the same on the way up.

    Each level has twice the filters of the one above, but no more than `most`; the finest, where
    a convolution costs most, has `finest` convolutions on each way. With a `stem` of 2 or 4 the
    network sees the image by a convolution of this stride, and its logits are enlarged by as much:
    for large images. With `by_image` each image is normalised by its own mean and deviation: for
    photos, whose light differs.

    Source: Ronneberger, Fischer, Brox, U-Net, MICCAI 2015, figure 1. Departs from it: batch
    normalisation, zeros padded at each layer, bilinear upsampling in place of transposed
    convolutions, and as many filters as a CPU can bear.
    """
    check_width(width)
    initial = weights(weight_decay)

    def convolution(x, maps, name, kernel=3, strides=1):
        x = Conv2D(maps, kernel, strides, padding="same", use_bias=False, name=name, **initial)(x)
        # Keras's 0.99 lags behind a training of a few hundred steps.
        x = BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
        return ReLU(name=f"{name}_relu")(x)

    def block(x, level, name):
        maps = scaled(min(filters * 2**level, most or math.inf), width)
        for i in range(finest if level == 0 else 2):
            x = convolution(x, maps, f"{name}_conv{i + 1}")
        return x

    images, x = start_functional(image_shape, statistics, by_image)
    if stem > 1:
        x = convolution(x, scaled(filters, width), "stem", 2 * stem - 1, stem)
    fine = []
    for level in range(levels):
        fine.append(block(x, level, f"down{level}"))
        x = MaxPooling2D(2, padding="same", name=f"pool{level}")(fine[-1])
    x = block(x, levels, "bottom")
    if dropout:
        x = SpatialDropout2D(dropout, name="dropout")(x)
    for level, skip in reversed(list(enumerate(fine))):
        x = UpSampling2D(2, interpolation="bilinear", name=f"upsample{level}")(x)
        x = Concatenate(name=f"join{level}")([cropped(x, skip.shape[1:3]), skip])
        x = block(x, level, f"up{level}")
    x = Conv2D(classes, 1, name="scores", **initial)(x)
    return keras.Model(images, enlarged(x, stem, image_shape[:2]), name="unet")
