"""Training on two devices with `tf.distribute.MirroredStrategy`, as `fit` does it."""

import contextlib

import keras
import numpy as np
import tensorflow as tf

from custom_layers import (
    BatchNormalization,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Flatten,
    LayerNormalization,
    MaxPooling2D,
    SoftmaxCrossEntropy,
)
from custom_layers.examples import spread


def fitted(count, normalization, strategy=None):
    """Losses and weights of a small network after two epochs on `count` images, four a batch."""
    with strategy.scope() if strategy else contextlib.nullcontext():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([
            keras.Input((8, 8, 2)),
            Conv2D(4, 3, activation="relu"),
            MaxPooling2D(),
            Conv2DTranspose(3, 2, activation="relu"),
            DepthwiseConv2D(2),
            normalization(),
            Flatten(),
            Dense(3),
        ])
        model.compile(keras.optimizers.SGD(0.1), SoftmaxCrossEntropy(), jit_compile=False)
    images, labels = spread((count, 8, 8, 2), dtype="float32"), np.arange(count) % 3
    history = model.fit(images, labels, batch_size=4, epochs=2, shuffle=False, verbose=0)
    return history.history["loss"], model.get_weights()


def mirrored():
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def test_two_devices_train_as_one():
    losses, weights = fitted(8, LayerNormalization)
    mirrored_losses, mirrored_weights = fitted(8, LayerNormalization, mirrored())
    np.testing.assert_allclose(losses, mirrored_losses, rtol=1e-6)
    for a, b in zip(weights, mirrored_weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_device_may_get_nothing_of_the_last_batch():
    """Of nine images, four a batch; stock layers fail here, or their statistics become NaN."""
    losses, weights = fitted(9, BatchNormalization, mirrored())
    assert np.isfinite(losses).all()
    assert all(np.isfinite(w).all() for w in weights)
