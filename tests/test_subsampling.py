"""Subsampling against NumPy: LeNet's S2."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers.examples import spread
from custom_layers.subsampling import Subsampling2D, subsample

rng = np.random.default_rng(0)
BETA, B = rng.uniform(0.5, 1.5, 3), rng.normal(size=3)
SETTINGS = [
    {"pool_size": size, "strides": strides, "padding": padding}
    for size, strides in [((2, 2), (2, 2)), ((3, 2), (2, 1)), ((2, 2), (3, 3))]
    for padding in ["valid", "same"]
]


def naive(x, beta, b, pool_size, strides, padding):
    if padding == "same":
        pads = [max((-(-n // s) - 1) * s + k - n, 0)
                for n, k, s in zip(x.shape[1:3], pool_size, strides)]
        x = np.pad(x, ((0, 0), *((p // 2, p - p // 2) for p in pads), (0, 0)))
    (kh, kw), (sh, sw) = pool_size, strides
    return np.stack([
        np.stack([x[:, p:p + kh, q:q + kw].sum((1, 2)) for q in
                  range(0, x.shape[2] - kw + 1, sw)], 1)
        for p in range(0, x.shape[1] - kh + 1, sh)
    ], 1) * beta + b


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_subsample(settings, jit):
    x = spread((2, 7, 9, 3))
    op = tf.function(functools.partial(subsample, **settings), jit_compile=jit)
    expected = naive(x, BETA, B, **settings)
    np.testing.assert_allclose(op(x, BETA, B), expected, atol=1e-12)
    first = subsample(x.transpose(0, 3, 1, 2), BETA, B, data_format="channels_first", **settings)
    np.testing.assert_allclose(first, expected.transpose(0, 3, 1, 2), atol=1e-12)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_gradients(settings, data_format, gradient_check):
    layer = Subsampling2D(activation="tanh", data_format=data_format, **settings)
    report = gradient_check(layer, spread((2, 5, 6, 3) if data_format == "channels_last" else
                                          (2, 3, 5, 6)), directions=2, elements=64,
                            second_order=True)
    assert report.error <= 1e-6


def test_the_backward_upsamples_and_sums():
    x = tf.constant(spread((2, 4, 6, 3)))
    y, backward = subsample.pair(x, tf.constant(BETA), tf.constant(B))
    dy = np.random.default_rng(1).normal(size=y.shape)
    dx, dbeta, db = backward(tf.constant(dy))
    np.testing.assert_allclose(dx, (dy * BETA).repeat(2, 1).repeat(2, 2), rtol=1e-12)
    np.testing.assert_allclose(dbeta, (dy * naive(x.numpy(), 1, 0, (2, 2), (2, 2), "valid")).sum(
        (0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(db, dy.sum((0, 1, 2)), rtol=1e-12)


def test_keeps_the_sums_not_the_image():
    x = tf.constant(spread((2, 8, 8, 3)))
    _, backward = subsample.pair(x, tf.constant(BETA), tf.constant(B))
    kept, functions = [], [backward]
    while functions:
        for cell in functions.pop().__closure__ or ():
            value = cell.cell_contents
            kept += [value.shape] if tf.is_tensor(value) else []
            functions += [value] if getattr(value, "__closure__", None) else []
    assert (2, 4, 4, 3) in kept and (2, 8, 8, 3) not in kept


def test_starts_as_average_pooling_and_has_two_weights_a_map():
    layer, x = Subsampling2D((2, 3)), spread((2, 4, 6, 5), dtype="float32")
    np.testing.assert_allclose(layer(x), keras.layers.AveragePooling2D((2, 3))(x), atol=1e-6)
    weights = {w.name: w.shape for w in layer.trainable_variables}
    assert weights == {"beta": (5,), "bias": (5,)}


def test_lenets_s2_has_12_parameters():
    layer = Subsampling2D(2, activation="tanh")
    assert layer.compute_output_shape((None, 28, 28, 6)) == (None, 14, 14, 6)
    layer.build((None, 28, 28, 6))
    assert layer.count_params() == 12


def test_config_keeps_initialisers_and_activation(tmp_path):
    layer = Subsampling2D(2, activation="tanh", beta_initializer="ones", bias_regularizer="l2")
    assert Subsampling2D.from_config(layer.get_config()).get_config() == layer.get_config()
    model = keras.Sequential([keras.Input((4, 6, 3)), layer])
    x = spread((2, 4, 6, 3), dtype="float32")
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(x), model(x))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_sums_of_halves_are_taken_in_float32(dtype, jit):
    @tf.function(jit_compile=jit)
    def run(x, beta, b):
        y, backward = subsample.pair(x, beta, b)
        return y, *backward(tf.ones_like(y))

    x = tf.ones((1, 128, 128, 1), dtype)
    y, dx, dbeta, db = run(x, tf.ones(1, dtype), tf.zeros(1, dtype))
    assert {t.dtype.name for t in (y, dx, dbeta, db)} == {dtype}
    assert float(dbeta[0]) == 4 * 64 * 64 and float(db[0]) == 64 * 64


def test_unknown_number_of_channels():
    with pytest.raises(ValueError, match="Layer s2 has a weight for each channel.*Received"):
        Subsampling2D(name="s2")(keras.Input((4, 4, None)))


def test_empty_batch():
    y, backward = subsample.pair(tf.zeros((0, 4, 4, 3)), tf.ones(3), tf.ones(3))
    dx, dbeta, db = backward(tf.ones_like(y))
    assert y.shape == (0, 2, 2, 3) and dx.shape == (0, 4, 4, 3)
    np.testing.assert_array_equal([dbeta, db], np.zeros((2, 3)))
