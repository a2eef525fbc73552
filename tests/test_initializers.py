"""Initial values."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers.initializers import SCHEMES, Dirac, RandomSigns, initial_values


@pytest.mark.parametrize(
    ("scheme", "deviation"),
    [("zeros", 0), ("normal", 0.01), ("xavier", np.sqrt(1 / 400)), ("he", np.sqrt(2 / 400))],
)
def test_initial_values_have_the_deviation_of_their_formula(scheme, deviation):
    values = np.array(initial_values(scheme, seed=1)((400, 300)))
    np.testing.assert_allclose(values.std(), deviation, rtol=0.01)
    assert abs(values.mean()) <= 0.01 * deviation
    np.testing.assert_array_equal(values, initial_values(scheme, seed=1)((400, 300)))


def test_they_are_those_of_keras():
    names = {s: type(initial_values(s)).__name__ for s in SCHEMES}
    assert names == {"zeros": "Zeros", "normal": "RandomNormal", "xavier": "LecunNormal",
                     "he": "HeNormal"}
    with pytest.raises(ValueError, match="one of zeros, normal, xavier, he. Received: scheme='n'"):
        initial_values("n")


def test_zeros_keep_all_units_alike():
    x = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
    model = keras.Sequential([
        keras.Input((3,)),
        keras.layers.Dense(4, activation="sigmoid", kernel_initializer=initial_values("zeros")),
        keras.layers.Dense(1, kernel_initializer=initial_values("zeros")),
    ])
    model.compile(keras.optimizers.SGD(0.5), "mse")
    model.fit(x, x[:, :1], epochs=5, verbose=0)
    kernel = model.layers[0].kernel.numpy()
    assert np.abs(kernel).max() > 0
    np.testing.assert_array_equal(kernel, kernel[:, :1] * np.ones(4))


def test_random_signs():
    signs = np.array(RandomSigns(seed=1)((100, 84)))
    assert set(np.unique(signs)) == {-1.0, 1.0} and abs(signs.mean()) < 0.05
    assert RandomSigns(seed=1)((2, 3), dtype="float16").dtype == "float16"
    again = keras.initializers.deserialize(keras.initializers.serialize(RandomSigns(seed=1)))
    assert type(again) is RandomSigns
    np.testing.assert_array_equal(again((100, 84)), signs)


@pytest.mark.parametrize("inputs, filters", [(3, 3), (2, 5), (5, 2)])
def test_dirac_hands_its_input_on(inputs, filters):
    x = np.random.default_rng(0).normal(size=(2, 6, 5, inputs)).astype("float32")
    for size in ((2, 4), (3, 3)):
        kernel = Dirac(seed=1)((*size, inputs, filters))
        y, same = tf.nn.conv2d(x, kernel, 1, "SAME").numpy(), min(inputs, filters)
        np.testing.assert_array_equal(y[..., :same], x[..., :same])
    beyond = np.array(kernel)[..., same:]
    assert np.all(np.abs(beyond) < (9 * inputs)**-0.5)
    assert filters <= inputs or np.std(beyond) == pytest.approx((27 * inputs)**-0.5, rel=0.2)


def test_dirac_is_saved_and_takes_a_dtype():
    again = keras.initializers.deserialize(keras.initializers.serialize(Dirac(seed=1)))
    a, b = (make((1, 3, 2, 4), dtype="float64") for make in (again, Dirac(seed=1)))
    assert a.dtype == "float64"
    np.testing.assert_array_equal(a, b)
