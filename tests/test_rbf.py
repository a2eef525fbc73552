"""Radial basis functions, LeNet-5's codes and the loss that goes with them."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers.examples import spread
from custom_layers.rbf import RBF, MaximumAPosteriori, lenet_codes, maximum_a_posteriori, rbf


def naive_rbf(x, w):
    y = np.zeros((len(x), len(w)))
    for n, i, j in itertools.product(range(len(x)), range(len(w)), range(x.shape[1])):
        y[n, i] += (x[n, j] - w[i, j]) ** 2
    return y


def naive_map(y, t, j):
    """Equation 9, one sample at a time, with labels."""
    return np.array([row[label] + np.log(np.exp(-j) + np.exp(-row).sum())
                     for row, label in zip(y, t)])


def test_rbf():
    x, w = spread((3, 5)), spread((4, 5), seed=1)
    np.testing.assert_allclose(rbf(x, w), naive_rbf(x, w), rtol=1e-12)
    np.testing.assert_allclose(rbf(x[None], w)[0], naive_rbf(x, w), rtol=1e-12)
    y, backward = rbf.pair(tf.constant(x), tf.constant(w))
    dy = spread(y.shape, seed=2)
    dx, dw = backward(tf.constant(dy))
    difference = x[:, None] - w
    np.testing.assert_allclose(dx, 2 * (dy[..., None] * difference).sum(1), rtol=1e-10)
    np.testing.assert_allclose(dw, -2 * (dy[..., None] * difference).sum(0), rtol=1e-10)


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 5)], ids=str)
def test_rbf_is_proven(shape, gradient_check):
    report = gradient_check(rbf, [spread(shape), spread((4, 5), seed=1)], second_order=True)
    assert report.error <= 1e-6 and not report.kinks


def test_a_code_is_at_distance_zero_from_itself():
    codes = lenet_codes()
    expected = [[4 * np.sum(a != b) for b in codes] for a in codes]
    np.testing.assert_array_equal(rbf(codes, codes), expected)
    x = np.random.default_rng(0).normal(size=(50, 84)).astype("float32")
    assert np.all(np.array(rbf(x, x)) >= 0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_summed_in_float32(dtype):
    x, w = tf.cast(spread((4, 84)), dtype), tf.cast(lenet_codes(), dtype)
    y = rbf(x, w)
    exact = naive_rbf(tf.cast(x, tf.float64).numpy(), lenet_codes())
    assert y.dtype == dtype
    np.testing.assert_allclose(tf.cast(y, tf.float32), exact,
                               rtol=1e-3 if dtype == "float16" else 8e-3)


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("shape", [(0, 84), (1, 84), (2, 0, 84), (2, 3, 84)], ids=str)
def test_any_batch(shape, jit):
    layer = RBF(10, codes=lenet_codes(), fixed=False)
    layer.build((None,) * (len(shape) - 1) + (84,))

    @tf.function(input_signature=[tf.TensorSpec((None,) * (len(shape) - 1) + (84,))],
                 jit_compile=jit)
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return [y, *tape.gradient(y, [x, layer.weight.value])]

    y, dx, dw = run(tf.zeros(shape))
    assert y.shape == layer.compute_output_shape(shape) and dx.shape == shape
    assert np.isfinite(dw).all()


def test_lenet_codes():
    codes = lenet_codes()
    assert codes.shape == (10, 84)
    assert set(np.unique(codes)) == {-1.0, 1.0}
    differ = np.sum(codes[:, None] != codes, -1)[~np.eye(10, dtype=bool)]
    assert differ.min() >= 14
    one = codes[1].reshape(12, 7) > 0
    assert one[:, 3].all() and one[-1].sum() == 5  # a stem that stands on a serif


def test_codes_are_fixed_or_trained():
    fixed, drawn = RBF(10, codes=lenet_codes()), RBF(10, fixed=False)
    for layer in (fixed, drawn):
        layer.build((None, 84))
    assert not fixed.trainable_weights and len(drawn.trainable_weights) == 1
    np.testing.assert_array_equal(fixed.weight, lenet_codes())
    assert set(np.unique(drawn.weight)) == {-1.0, 1.0}


def test_config_and_file_bring_the_codes_back(tmp_path):
    for layer in (RBF(3, codes=spread((3, 4))), RBF(3, codes_initializer="ones", fixed=False)):
        again = RBF.from_config(layer.get_config())
        assert again.get_config() == layer.get_config()
        model = keras.Sequential([keras.Input((4,)), layer])
        layer.weight.assign(spread((3, 4), seed=5))
        model.save(tmp_path / "m.keras")
        loaded = keras.models.load_model(tmp_path / "m.keras")
        np.testing.assert_array_equal(loaded.layers[-1].weight, layer.weight)
        assert loaded.layers[-1].get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 0}, "a positive integer. Received: units=0"),
        ({"units": 2.0}, "Received: units=2.0"),
        ({"units": 3, "codes": np.ones((2, 4))}, r"each of the 3 units.*shape \(2, 4\)"),
        ({"units": 3, "codes": [1, 2, 3]}, r"Received: codes of shape \(3,\)"),
    ],
)
def test_rbf_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        RBF(**arguments)


def test_rbf_says_which_input_does_not_fit():
    with pytest.raises(ValueError, match=r"size of a code, 84. Received: input_shape=\(None, 80\)"):
        RBF(10, codes=lenet_codes()).build((None, 80))
    with pytest.raises(ValueError, match="Received: input_shape"):
        RBF(10).build((None, None))
    layer = RBF(10, codes=lenet_codes())
    layer.build((None, 84))
    with pytest.raises(ValueError, match="axis -1"):
        layer(tf.zeros((2, 80)))


@pytest.mark.parametrize("j", [0.1, 3.0, 30.0])
def test_maximum_a_posteriori(j):
    y, t = np.abs(spread((6, 4))) * 3, np.array([0, 1, 2, 3, 0, 1])
    one_hot = np.eye(4)[t]
    expected = naive_map(y, t, j)
    np.testing.assert_allclose(maximum_a_posteriori(y, t, j=j), expected, rtol=1e-12)
    np.testing.assert_allclose(maximum_a_posteriori(y, one_hot, j=j), expected, rtol=1e-12)
    # The paper's reading of it: the posterior of the right class beside a rubbish class.
    e = np.exp(-np.concatenate([y, np.full((6, 1), j)], 1))
    np.testing.assert_allclose(expected, -np.log(e[range(6), t] / e.sum(1)), rtol=1e-10)
    _, backward = maximum_a_posteriori.pair(tf.constant(y), tf.constant(t), j=j)
    dy, dt = backward(tf.ones(6, tf.float64))
    np.testing.assert_allclose(dy, one_hot - e[:, :4] / e.sum(1, keepdims=True), atol=1e-12)
    assert dt is None


@pytest.mark.parametrize("labels", [True, False], ids=["labels", "one-hot"])
def test_maximum_a_posteriori_is_proven(labels, gradient_check):
    t = np.array([0, 1, 2, 3]) if labels else np.abs(spread((4, 5), seed=1))

    def op(y, t):
        return maximum_a_posteriori(y, t, j=1.5)

    assert gradient_check(op, [spread((4, 5)), t], second_order=True).error <= 1e-6


def test_maximum_a_posteriori_does_not_overflow():
    y = tf.constant([[1e4, 0.0], [-1e4, 1e4], [1e4, 1e4]])
    loss, backward = maximum_a_posteriori.pair(y, tf.constant([0, 0, 0]), j=2.0)
    np.testing.assert_allclose(loss, [1e4 + np.log1p(np.exp(-2)), 0, 1e4 - 2], rtol=1e-6)
    assert np.isfinite(backward(tf.ones(3))[0]).all()


def test_the_rubbish_class_ends_the_push():
    """A wrong class is pushed up while it competes, no longer when it is far beyond j."""
    y, t = tf.constant([[0.0, 1.0, 50.0]]), tf.constant([0])
    near, far = np.array(maximum_a_posteriori.pair(y, t, j=5.0)[1](tf.ones(1))[0])[0, 1:]
    assert near < -0.1 and -1e-10 < far <= 0


def test_loss_of_logits_is_that_of_penalties():
    y, t = np.abs(spread((4, 5))).astype("float32"), np.array([0, 1, 4, 2])
    loss = MaximumAPosteriori(j=2.0)
    np.testing.assert_allclose(loss(t, y), naive_map(y, t, 2.0).mean(), rtol=1e-6)
    np.testing.assert_allclose(MaximumAPosteriori(j=2.0, from_logits=True)(t, -y), loss(t, y))
    again = MaximumAPosteriori.from_config(loss.get_config())
    assert again.get_config() == loss.get_config()
    with pytest.raises(ValueError, match="greater than 0. Received: j=0"):
        MaximumAPosteriori(j=0)


def test_a_network_learns_codes():
    """Ten points on a circle to ten digits: the nearest code is the right one."""
    angle = np.arange(10) * 0.628
    x, t = np.stack([np.cos(angle), np.sin(angle)], 1).astype("float32"), np.arange(10)
    model = keras.Sequential([
        keras.Input((2,)),
        keras.layers.Dense(40, activation="tanh"),
        keras.layers.Dense(84, activation="tanh"),
        RBF(10, codes=lenet_codes()),
    ])
    model.compile(keras.optimizers.Adam(0.03), MaximumAPosteriori())
    model.fit(x, t, batch_size=10, epochs=60, verbose=0)
    np.testing.assert_array_equal(np.argmin(model.predict(x, verbose=0), 1), t)
