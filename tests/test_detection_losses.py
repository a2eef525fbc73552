"""Smooth L1 and focal loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers.detection_losses import (
    SigmoidFocalCrossEntropy,
    SmoothL1,
    sigmoid_focal_cross_entropy,
    smooth_l1,
)
from custom_layers.examples import spread
from custom_layers.losses import sigmoid_cross_entropy

HARD = (np.arange(20).reshape(4, 5) % 3 == 0).astype("float64")


def naive_smooth_l1(e, delta):
    return np.where(np.abs(e) < delta, e**2 / (2 * delta), np.abs(e) - delta / 2)


def naive_focal(z, t, alpha, gamma):
    """The paper's own letters: p_t and alpha_t of a hard target."""
    p = 1 / (1 + np.exp(-z))
    p_t = np.where(t == 1, p, 1 - p)
    alpha_t = 1 if alpha is None else np.where(t == 1, alpha, 1 - alpha)
    return -alpha_t * (1 - p_t) ** gamma * np.log(p_t)


@pytest.mark.parametrize("delta", [0.5, 1.0, 3.0])
def test_smooth_l1(delta, gradient_check):
    y, t = spread((4, 5)), spread((4, 5), seed=1)
    np.testing.assert_allclose(smooth_l1(y, t, delta=delta), naive_smooth_l1(y - t, delta),
                               rtol=1e-12)
    stock = keras.losses.Huber(delta, reduction="none")(t.astype("float32"), y)
    ours = SmoothL1(delta, reduction="none")(t, y)
    np.testing.assert_allclose(ours * delta / 5, stock, rtol=1e-5)
    gradient_check(lambda y, t: smooth_l1(y, t, delta=delta), [y, t], second_order=True)


def test_smooth_l1_meets_itself_smoothly():
    e = tf.constant([-1.0, 1.0, 0.0, 1e30, -1e30])
    loss, backward = smooth_l1.pair(e, tf.zeros(5))
    np.testing.assert_array_equal(loss, np.float32([0.5, 0.5, 0, 1e30, 1e30]))
    np.testing.assert_array_equal(backward(tf.ones(5))[0], [-1, 1, 0, 1, -1])


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2.0, 5])
@pytest.mark.parametrize("alpha", [None, 0.25, 0.9])
def test_focal(alpha, gamma, gradient_check):
    z = spread((4, 5)) * 2
    settings = {"alpha": alpha, "gamma": gamma}
    np.testing.assert_allclose(sigmoid_focal_cross_entropy(z, HARD, **settings),
                               naive_focal(z, HARD, alpha, gamma), rtol=1e-10)
    soft = np.abs(spread((4, 5), seed=1)) / 2
    for t in (HARD, soft):
        gradient_check(lambda z, t: sigmoid_focal_cross_entropy(z, t, **settings), [z, t],
                       second_order=True, modes=("graph", "xla"))


def test_without_its_factors_it_is_the_cross_entropy():
    z = spread((4, 5))
    np.testing.assert_array_equal(sigmoid_focal_cross_entropy(z, HARD, alpha=None, gamma=0),
                                  sigmoid_cross_entropy(z, HARD))


@pytest.mark.parametrize("gamma", [0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_focal_is_finite_everywhere(gamma, jit):
    z = tf.constant([-1e4, -90.0, -20, 0.0, 20, 90.0, 1e4] * 3)
    t = tf.constant([0.0] * 7 + [1.0] * 7 + [0.5] * 7)

    @tf.function(jit_compile=jit)
    def run(z, t):
        loss, backward = sigmoid_focal_cross_entropy.pair(z, t, gamma=gamma)
        return loss, *backward(tf.ones_like(loss))

    loss, dz, dt = run(z, t)
    assert np.isfinite(loss).all() and np.isfinite(dz).all() and np.isfinite(dt).all()
    # Sure and wrong: the loss of the logit itself. Sure and right: nothing.
    np.testing.assert_allclose([loss[6], loss[7]], [0.75e4, 0.25e4], rtol=1e-6)
    np.testing.assert_allclose([loss[0], loss[13]], [0, 0], atol=1e-30)


def test_small_losses_keep_their_digits():
    """At p = 1 - 2e-9 float32 rounds 1 - p to 0; the loss is right to its last digits."""
    z = np.array([20.0, -20.0])
    t = np.array([1.0, 0.0])
    q = 1 / (1 + np.exp(20.0))
    expected = q**2 * -np.log1p(-q)
    loss = sigmoid_focal_cross_entropy(z.astype("float32"), t.astype("float32"), alpha=None)
    np.testing.assert_allclose(loss, [expected] * 2, rtol=1e-5)


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_focal_is_the_loss_of_keras(alpha, soft):
    z = tf.constant(spread((4, 5), dtype="float32"))
    t = (np.abs(spread((4, 5), seed=1)) / 2 if soft else HARD).astype("float32")
    stock = keras.losses.BinaryFocalCrossentropy(
        apply_class_balancing=alpha is not None, alpha=alpha or 0.25, from_logits=True)
    weights = np.arange(4, dtype="float32")
    for sample_weight in (None, weights):
        results = []
        for loss in (SigmoidFocalCrossEntropy(alpha=alpha), stock):
            with tf.GradientTape() as tape:
                tape.watch(z)
                value = loss(t, z, sample_weight)
            results.append((value, tape.gradient(value, z)))
        for ours, theirs in zip(*results):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_targets_of_one_output():
    z, t = spread((4, 1), dtype="float32"), np.array([0, 1, 1, 0])
    ours = SigmoidFocalCrossEntropy()
    np.testing.assert_allclose(ours(t, z), ours(t[:, None], z))
    np.testing.assert_allclose(SmoothL1()(t, z), naive_smooth_l1(z[:, 0] - t, 1).mean(), rtol=1e-6)
    with pytest.raises(ValueError, match="Received: y_true.shape"):
        SmoothL1()(np.zeros((4, 4)), z)


@pytest.mark.parametrize("loss", [SmoothL1(delta=0.5, reduction="sum"),
                                  SigmoidFocalCrossEntropy(alpha=None, gamma=1.5)],
                         ids=lambda loss: type(loss).__name__)
def test_config_brings_the_loss_back(loss):
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss) and again.get_config() == loss.get_config()


@pytest.mark.parametrize(
    ("loss", "arguments", "message"),
    [
        (SmoothL1, {"delta": 0}, "greater than 0. Received: delta=0"),
        (SigmoidFocalCrossEntropy, {"alpha": 2}, r"\[0, 1\] or None. Received: alpha=2"),
        (SigmoidFocalCrossEntropy, {"gamma": -1}, "at least 0. Received: gamma=-1"),
    ],
)
def test_losses_say_what_is_wrong(loss, arguments, message):
    with pytest.raises(ValueError, match=message):
        loss(**arguments)
