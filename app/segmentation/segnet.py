"""SegNet: an encoder, and a decoder that puts each maximum back to where it was taken from."""

import keras
import tensorflow as tf

from app.models.common import check_width, scaled, start_functional, weights
from app.models.vgg import VGG
from app.segmentation.sizes import enlarged
from custom_layers import (AveragePooling2D, BatchNormalization, Conv2D, MaxPoolingWithIndices2D,
                           MaxUnpooling2D, ReLU)

# Filters of the convolutions of each stage.
_VGG16 = [[]]
for _item in VGG["d"]:
    _VGG16 = [*_VGG16, []] if _item == "M" else [*_VGG16[:-1], [*_VGG16[-1], _item]]
_VGG16 = _VGG16[:-1]


def segnet(image_shape, classes, *, width=1.0, weight_decay=0.0, statistics=None):
    """VGG-16's thirteen convolutions, and their mirror image behind unpooling by indices.

    Source: Badrinarayanan, Kendall, Cipolla, SegNet, TPAMI 2017, section 3.
    """
    parts = _Parts(3, width, weight_decay)
    images, x = start_functional(image_shape, statistics)
    x, pooled = parts.encoder(x, _VGG16)
    # A stage's mirror ends with the filters that the stage before it has.
    mirrored = [[*stage[1:], before[-1]] for before, stage in zip(_VGG16, _VGG16[1:])]
    x = parts.decoder(x, pooled, [_VGG16[0][1:], *mirrored])
    logits = Conv2D(classes, 3, padding="same", name="logits", **weights(weight_decay))(x)
    return keras.Model(images, logits, name="segnet")


def segnet_basic(image_shape, classes, *, width=1.0, reduction=1, by_image=False,
                 weight_decay=0.0, statistics=None):
    """Four 7x7 convolutions of 64 filters, and four behind unpooling by indices, without ReLU.

    With a `reduction` of 2 the network sees images of half of the sides, each pixel the mean of
    2x2, and its logits are enlarged by as much: a quarter of the arithmetic. Where no GPU is there
    when it is built, all convolutions but the first go by frequencies, in less than half of the
    time; so they do wherever it is loaded.

    Source: Badrinarayanan, Kendall, Cipolla, SegNet, TPAMI 2017, section 4.1. Departs from it:
    images are normalised by mean and deviation in place of their local contrast; those of all
    images, or with `by_image` each image's own.
    """
    parts = _Parts(7, width, weight_decay)
    images, x = start_functional(image_shape, statistics, by_image)
    if reduction > 1:
        x = AveragePooling2D(reduction, padding="same", name="reduce")(x)
    x, pooled = parts.encoder(x, [[64]] * 4)
    x = parts.decoder(x, pooled, [[64]] * 4, relu=False)
    x = Conv2D(classes, 1, name="scores", **weights(weight_decay))(x)
    return keras.Model(images, enlarged(x, reduction, image_shape[:2]), name="segnet-basic")


class _Parts:
    """What both networks are made of."""

    def __init__(self, kernel, width, weight_decay):
        check_width(width)
        self.kernel, self.width, self.initial = kernel, width, weights(weight_decay)

    def encoder(self, x, stages):
        """(x, [(size before, indices) of each pooling])"""
        pooled = []
        for number, stage in enumerate(stages, 1):
            for i, filters in enumerate(stage, 1):
                x = self.convolution(x, filters, f"conv{number}_{i}")
            size = x.shape[1:3]
            x, indices = MaxPoolingWithIndices2D(2, padding="same", name=f"pool{number}")(x)
            pooled.append((size, indices))
        return x, pooled

    def decoder(self, x, pooled, stages, relu=True):
        for number in range(len(stages), 0, -1):
            size, indices = pooled[number - 1]
            x = MaxUnpooling2D(2, padding="same", name=f"unpool{number}")(
                x, indices, output_size=size)
            for i, filters in enumerate(stages[number - 1], 1):
                x = self.convolution(x, filters, f"deconv{number}_{i}", relu)
        return x

    def convolution(self, x, filters, name, relu=True):
        x = Conv2D(scaled(filters, self.width), self.kernel, padding="same", name=name,
                   algorithm=_algorithm(self.kernel, x.shape[-1]), **self.initial)(x)
        x = BatchNormalization(name=f"{name}_bn")(x)
        return ReLU(name=f"{name}_relu")(x) if relu else x


def _algorithm(kernel, channels):
    """The quickest for kernels of 3x3 or 7x7 on large maps (benchmarks/RESULTS.md)."""
    large = kernel > 3 and channels > 3
    return "fft" if large and not tf.config.list_physical_devices("GPU") else "native"
