"""FCN: a classification network made fully convolutional, its scores enlarged to the image."""

import keras

from app.models.common import check_width, decay, scaled, start_functional, weights
from app.models.vgg import stages
from app.segmentation.sizes import cropped
from custom_layers import (Add, BilinearUpsampling, Conv2D, Conv2DTranspose, Dropout, MaxPooling2D,
                           ReLU)


def fcn(image_shape, classes, *, stride=8, width=1.0, dropout=0.5, weight_decay=0.0,
        statistics=None):
    """VGG-16, its dense layers as convolutions, and scores of stride 32, 16 or 8 upsampled.

    Scores of pool4 (stride 16) and pool3 (stride 8) are added to those of the last layer. What
    enlarges starts as bilinear interpolation, and is learned.

    Source: Long, Shelhamer, Darrell, Fully Convolutional Networks for Semantic Segmentation, CVPR
    2015, section 4. Departs from it: zeros are padded at each layer in place of 100 pixels at the
    first; poolings round up, and what is too large is cropped at its right and lower edge.
    """
    check_width(width)
    if stride not in (32, 16, 8):
        raise ValueError(f"`stride` must be 32, 16 or 8. Received: {stride}")
    initial = weights(weight_decay)
    images, x = start_functional(image_shape, statistics)
    pools = []
    for number, stage in enumerate(stages("d", width=width, weight_decay=weight_decay), 1):
        for layer in stage:
            x = layer(x)
        x = MaxPooling2D(2, padding="same", name=f"pool{number}")(x)
        pools.append(x)
    for name, kernel in (("fc6", 7), ("fc7", 1)):
        x = Conv2D(scaled(4096, width), kernel, padding="same", name=name, **initial)(x)
        x = Dropout(dropout, name=f"{name}_dropout")(ReLU(name=f"{name}_relu")(x))

    def score(x, name):
        # Zeros, so that a stride that is added begins as the coarser one.
        return Conv2D(classes, 1, name=name, kernel_initializer="zeros",
                      kernel_regularizer=decay(weight_decay))(x)

    def upsample(x, factor, name):
        return Conv2DTranspose(classes, 2 * factor, factor, padding="same", use_bias=False,
                               kernel_initializer=BilinearUpsampling(), name=name)(x)

    x = score(x, "score_fc7")
    for number, pool in zip((4, 3), (pools[3], pools[2])):
        if stride > 2 ** number:
            break
        x = cropped(upsample(x, 2, f"upsample_to_pool{number}"), pool.shape[1:3])
        x = Add(name=f"fuse_pool{number}")([x, score(pool, f"score_pool{number}")])
    logits = cropped(upsample(x, stride, "upsample"), image_shape[:2], name="logits")
    return keras.Model(images, logits, name=f"fcn-{stride}s")
