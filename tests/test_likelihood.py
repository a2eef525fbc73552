"""Cross entropy of probabilities and negative log likelihood."""

import numpy as np
import pytest
import tensorflow as tf

from custom_layers.examples import spread
from custom_layers.likelihood import (
    CrossEntropy,
    NegativeLogLikelihood,
    cross_entropy,
    negative_log_likelihood,
)
from custom_layers.losses import softmax_cross_entropy

LABELS = np.array([0, 4, 2, 2])


def probabilities(shape=(4, 5)):
    e = np.exp(spread(shape))
    return e / e.sum(-1, keepdims=True)


def test_cross_entropy():
    y, t = probabilities(), np.random.default_rng(0).dirichlet(np.ones(5), 4)
    np.testing.assert_allclose(cross_entropy(y, t), -(t * np.log(y + 1e-7)).sum(-1), rtol=1e-12)
    expected = [-np.log(row[label] + 1e-3) for row, label in zip(y, LABELS)]
    np.testing.assert_allclose(cross_entropy(y, LABELS, delta=1e-3), expected, rtol=1e-12)


def test_negative_log_likelihood():
    log_y, t = np.log(probabilities()), np.random.default_rng(0).dirichlet(np.ones(5), 4)
    np.testing.assert_allclose(negative_log_likelihood(log_y, t), -(t * log_y).sum(-1))
    expected = [-row[label] for row, label in zip(log_y, LABELS)]
    np.testing.assert_allclose(negative_log_likelihood(log_y, LABELS), expected)


@pytest.mark.parametrize("targets", ["labels", "one-hot", "pixels"])
@pytest.mark.parametrize("op", [cross_entropy, negative_log_likelihood])
def test_gradients_are_proven(op, targets, gradient_check):
    y = probabilities()
    t = LABELS if targets == "labels" else np.abs(spread((4, 5), seed=1))
    if targets == "pixels":
        y, t = probabilities((2, 3, 4, 5)), np.arange(24).reshape(2, 3, 4) % 5
    assert gradient_check(op, [y, t], second_order=True).error <= 1e-6


def test_log_zero_is_guarded():
    y = tf.constant([[0.0, 1.0], [1.0, 0.0]])
    loss, backward = cross_entropy.pair(y, tf.constant([0, 0]))
    np.testing.assert_allclose(loss, [-np.log(1e-7), 0], atol=2e-7)
    np.testing.assert_allclose(backward(tf.ones(2))[0], [[-1e7, 0], [-1, 0]], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_keeps_the_guard(dtype):
    y = tf.constant([[0.0, 1.0]], dtype)
    for t in (tf.constant([0]), tf.constant([[1.0, 0.0]], dtype)):
        loss, backward = cross_entropy.pair(y, t)
        assert loss.dtype == dtype
        np.testing.assert_allclose(tf.cast(loss, tf.float32), [16.118], rtol=5e-3)
        assert backward(tf.ones(1, dtype))[0].dtype == dtype


@pytest.mark.parametrize("op", [cross_entropy, negative_log_likelihood])
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("batch", [0, 1])
def test_any_batch(op, jit, batch):
    @tf.function(jit_compile=jit, input_signature=[tf.TensorSpec((None, 3)),
                                                   tf.TensorSpec((None,), tf.int32)])
    def run(y, t):
        with tf.GradientTape() as tape:
            tape.watch(y)
            loss = op(y, t)
        return loss, tape.gradient(loss, y)

    loss, dy = run(tf.fill((batch, 3), 0.5), tf.zeros(batch, tf.int32))
    assert loss.shape == (batch,) and dy.shape == (batch, 3)


def test_the_losses_agree_with_softmax_cross_entropy():
    z = spread((4, 5))
    y, expected = probabilities(), np.mean(softmax_cross_entropy(z, LABELS))
    for loss in (CrossEntropy(delta=0), NegativeLogLikelihood(delta=0)):
        np.testing.assert_allclose(loss(LABELS, y), expected, rtol=1e-6)
    of_logs = NegativeLogLikelihood(from_logs=True)
    np.testing.assert_allclose(of_logs(LABELS, np.log(y)), expected, rtol=1e-6)
    weights = np.array([1.0, 0.0, 2.0, 0.5])
    np.testing.assert_allclose(of_logs(LABELS, np.log(y), weights),
                               np.mean(weights * softmax_cross_entropy(z, LABELS)), rtol=1e-6)
