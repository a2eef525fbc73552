"""The losses as Keras uses them: targets of one output, smoothing, ignored labels, `fit`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers.examples import spread
from custom_layers.losses import HalfSquares, SigmoidCrossEntropy, SoftmaxCrossEntropy

LABELS = np.array([0, 4, 2, 2, 1, 3])


def logits(shape=(6, 5)):
    return spread(shape, dtype="float32")


def test_smoothed_loss_is_that_of_keras():
    one_hot = np.eye(5, dtype="float32")[LABELS]
    stock = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)
    ours = SoftmaxCrossEntropy(label_smoothing=0.2)
    for targets in (one_hot, LABELS, LABELS[:, None]):
        np.testing.assert_allclose(ours(targets, logits()), stock(one_hot, logits()), rtol=1e-6)


@pytest.mark.parametrize("ignored", [-1, 2, 255])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_ignored_pixels_are_those_of_keras(ignored, weighted, jit):
    z = tf.constant(logits((2, 3, 4, 5)))
    labels = np.random.default_rng(0).integers(0, 5, (2, 3, 4))
    labels[0, :2, 1:] = ignored
    weights = np.abs(logits((2, 3, 4))) if weighted else None

    def run(z, loss):
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = loss(labels, z, weights)
        return value, tape.gradient(value, z)

    settings = {"ignore_class": ignored}
    stock = keras.losses.SparseCategoricalCrossentropy(from_logits=True, **settings)
    ours, theirs = (tf.function(run, jit_compile=jit)(z, loss)
                    for loss in (SoftmaxCrossEntropy(**settings), stock))
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [(6,), (6, 1)], ids=str)
@pytest.mark.parametrize(("ours", "stock"), [
    (SigmoidCrossEntropy(), keras.losses.BinaryCrossentropy(from_logits=True)),
    (HalfSquares(), lambda t, z: keras.losses.MeanSquaredError()(t, z) / 2),
], ids=["sigmoid", "squares"])
def test_labels_of_one_output(ours, stock, shape):
    """Labels (N,) of outputs (N, 1): broadcast, each sample would meet all labels."""
    t, z = (LABELS % 2).reshape(shape), logits((6, 1))
    np.testing.assert_allclose(ours(t, z), stock(t.reshape(6, 1), z), rtol=1e-6)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", ours)
    model.fit(np.ones((6, 3)), t, verbose=0)
    with pytest.raises(ValueError, match="the shape of the outputs. Received: y_true.shape"):
        ours(np.zeros((6, 6)), z)


def test_config_brings_the_loss_back():
    loss = SoftmaxCrossEntropy(label_smoothing=0.1, ignore_class=255, reduction="sum", name="it")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is SoftmaxCrossEntropy and again.get_config() == loss.get_config()
    before = {"name": "saved", "reduction": "sum"}  # a file from before there were settings
    assert SoftmaxCrossEntropy.from_config(before).label_smoothing == 0.0
