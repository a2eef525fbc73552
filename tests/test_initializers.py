"""Initial values."""

import keras
import numpy as np
import pytest

from custom_layers.initializers import SCHEMES, RandomSigns, initial_values


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
