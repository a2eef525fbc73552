"""Soft overlap of classes beside the cross entropy: `softmax_jaccard`, `SoftmaxJaccard`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers.examples import spread
from custom_layers.losses import SoftmaxCrossEntropy
from custom_layers.overlap import SoftmaxJaccard, softmax_jaccard

LABELS = np.array([[0, 1, 1], [3, 0, 3]])  # of classes 0 .. 3: nothing is a 2


def naive(z, labels):
    """The mean over the classes that are there, each by itself, of 1 - IoU of soft masks."""
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    p = p[(labels >= 0) & (labels < z.shape[-1])]
    labels = labels[(labels >= 0) & (labels < z.shape[-1])]
    distances = []
    for c in np.unique(labels):
        mask = labels == c
        union = np.where(mask, 1, p[:, c]).sum()
        distances.append(1 - p[mask, c].sum() / union)
    return np.mean(distances) if distances else 0.0


@pytest.mark.parametrize("void", [None, -1, 4, 255])
def test_the_loss_is_one_less_the_mean_overlap(void):
    z, labels = spread((2, 3, 4)), LABELS.copy()
    if void is not None:
        labels[0, 2] = labels[1, 0] = void
    np.testing.assert_allclose(softmax_jaccard(z, labels), naive(z, labels), rtol=1e-12)
    one_hot = tf.one_hot(labels, 4, dtype="float64")
    np.testing.assert_allclose(softmax_jaccard(z, one_hot), naive(z, labels), rtol=1e-12)


def test_gradients(gradient_check):
    z, t = spread((2, 3, 4)), np.abs(spread((2, 3, 4), seed=1))
    void = np.where(LABELS == 1, 255, LABELS)
    t[0, 1] = 0  # a pixel that counts for nothing
    gradient_check(lambda z: softmax_jaccard(z, void), [z], second_order=True, modes=("graph",))
    gradient_check(lambda z, t: softmax_jaccard(z, t), [z, t], skip=["t"], modes=("graph",))


def test_by_hand():
    """Two pixels, two classes: the first is right with 3/4, the second with 1/2."""
    z = np.log([[3.0, 1.0], [1.0, 1.0]])
    # Class 0: both 3/4, union 1 + 1/2. Class 1: both 1/2, union 1/4 + 1.
    assert float(softmax_jaccard(z, [0, 1])) == pytest.approx(1 - (0.5 + 0.4) / 2)
    # Where only the first counts, class 1 is not there.
    assert float(softmax_jaccard(z, [0, -1])) == pytest.approx(1 - 0.75)


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_its_ends(jit):
    """Right without doubt, wrong without doubt, and nothing to be right about."""
    @tf.function(jit_compile=jit)
    def run(z, t):
        loss, backward = softmax_jaccard.pair(z, t)
        return loss, backward(tf.ones_like(loss))[0]

    right = tf.one_hot(LABELS, 4, on_value=1e4, off_value=-1e4)
    for z, labels, expected in ((right, LABELS, 0), (-right, LABELS, 1),
                                (right, np.full_like(LABELS, -1), 0)):
        loss, dz = run(z, tf.constant(labels))
        assert float(loss) == expected
        np.testing.assert_array_equal(dz, np.zeros_like(z))


def test_it_is_added_to_the_cross_entropy():
    z = spread((2, 3, 4), dtype="float32")
    labels = np.where(LABELS == 1, 255, LABELS)
    for settings in ({}, {"class_weights": (1, 2, 3, 4)}):
        settings["ignore_class"] = 255
        both = SoftmaxJaccard(0.5, **settings)(labels, z)
        cross_entropy = SoftmaxCrossEntropy(**settings)(labels, z)
        assert float(both) == pytest.approx(float(cross_entropy) + 0.5 * naive(z, labels))
    assert float(SoftmaxJaccard(0)(LABELS, z)) == float(SoftmaxCrossEntropy()(LABELS, z))


def test_config_brings_it_back():
    loss = SoftmaxJaccard(0.3, ignore_class=255, class_weights=(1, 2))
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is SoftmaxJaccard and again.get_config() == loss.get_config()


def test_it_raises_the_overlap_of_a_rare_class():
    """One pixel in 32 is of class 1, and nothing tells it apart: cross entropy gives it up."""
    labels = np.zeros((1, 32), int)
    labels[0, :4] = (1, 0, 0, 0)
    x = np.zeros((1, 32, 1), "float32")
    x[0, :4] = 1  # the rare class is one of four pixels that look alike

    def fitted(loss):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((32, 1)), keras.layers.Dense(2)])
        model.compile(keras.optimizers.Adam(0.1), loss)
        model.fit(x.repeat(150, 0), labels.repeat(150, 0), batch_size=1, verbose=0)
        return model.predict(x, verbose=0).argmax(-1)[0]

    np.testing.assert_array_equal(fitted(SoftmaxCrossEntropy()), np.zeros(32))
    found = fitted(SoftmaxJaccard(10.0))
    np.testing.assert_array_equal(found, x[0, :, 0])
