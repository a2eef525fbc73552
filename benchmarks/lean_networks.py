"""The networks of the lean benchmark, of stock Keras layers, each giving logits."""

import keras
from keras import applications
from keras.layers import (Add, BatchNormalization, Conv2D, Dense, GlobalAveragePooling2D,
                          MaxPooling2D, ReLU, UpSampling2D)

from app.models import build as build_ours
from benchmarks.steps import stock_layer


def ours(name):
    """One of our own models, its layers replaced by Keras's of the same name."""
    def network(shape, classes):
        model = build_ours(name, shape, classes)
        return keras.models.clone_model(model, clone_function=stock_layer)

    return network


def conv(x, filters, kernel=3, strides=1):
    return Conv2D(filters, kernel, strides, "same", use_bias=False)(x)


def vgg_bn(shape, classes, *, widths=(32, 64, 128), depth=4):
    """A stem, then units of BN, ReLU and convolution; the image is halved between the widths."""
    inputs = keras.Input(shape)
    x = conv(inputs, widths[0])
    for stage, width in enumerate(widths):
        if stage:
            x = MaxPooling2D()(x)
        for _ in range(depth):
            x = conv(ReLU()(BatchNormalization()(x)), width)
    return keras.Model(inputs, Dense(classes)(GlobalAveragePooling2D()(x)))


def resnet20(shape, classes):
    """Three stages of three basic blocks, a 1x1 convolution for shortcut where the shape changes.

    Source: He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, 2016, section 4.2.
    Departs from it: shortcuts B (projections, with batch normalisation) instead of A.
    """
    inputs = keras.Input(shape)
    x = ReLU()(BatchNormalization()(conv(inputs, 16)))
    for stage, width in enumerate((16, 32, 64)):
        for block in range(3):
            strides = 2 if stage and not block else 1
            y = ReLU()(BatchNormalization()(conv(x, width, strides=strides)))
            y = BatchNormalization()(conv(y, width))
            if strides > 1:
                x = BatchNormalization()(conv(x, width, 1, strides))
            x = ReLU()(Add()([x, y]))
    return keras.Model(inputs, Dense(classes)(GlobalAveragePooling2D()(x)))


def segnet_basic(shape, classes, *, filters=64, kernel=7):
    """Four times convolution, BN, ReLU, pooling; four times upsampling, convolution, BN; a 1x1.

    Source: Badrinarayanan, Kendall, Cipolla, SegNet, 2017, section 3 (SegNet-Basic). Departs from
    it: upsampling repeats pixels instead of using the winners; no local contrast normalisation.
    """
    x = inputs = keras.Input(shape)
    for _ in range(4):
        x = MaxPooling2D()(ReLU()(BatchNormalization()(conv(x, filters, kernel))))
    for _ in range(4):
        x = BatchNormalization()(conv(UpSampling2D()(x), filters, kernel))
    return keras.Model(inputs, Conv2D(classes, 1)(x))


def application(function):
    """A network of keras.applications with random weights."""
    def network(shape, classes):
        return function(weights=None, input_shape=shape, classes=classes,
                        classifier_activation=None)

    return network


def vgg16(shape, classes):
    """The convolutions of VGG16 with one dense layer on their mean.

    The paper's three dense layers hold 89 % of the weights and hardly an activation: with them the
    figures would be those of the weights' gradients.
    """
    inputs = keras.Input(shape)
    features = applications.VGG16(weights=None, include_top=False, input_tensor=inputs).output
    return keras.Model(inputs, Dense(classes)(GlobalAveragePooling2D()(features)))


NETWORKS = {
    "lenet5": ours("lenet5"),
    "simpleconvnet": ours("simpleconvnet"),
    "vgg_bn": vgg_bn,
    "resnet20": resnet20,
    "resnet50": application(applications.ResNet50),
    "densenet121": application(applications.DenseNet121),
    "mobilenetv2": application(applications.MobileNetV2),
    "efficientnetb0": application(applications.EfficientNetB0),
    "vgg16": vgg16,
    "segnet_basic": segnet_basic,
}
