"""The benchmarks measure what they say: the same network, stock beside ours."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import custom_layers
from app.models import build
from benchmarks import layers, steps
from benchmarks.memory import kept_bytes, shown
from benchmarks.timing import columns, compare


@pytest.mark.parametrize("name", steps.NETWORKS)
def test_the_peer_is_the_same_network_of_stock_layers(name):
    ours = build(name, (28, 28, 1), 10)
    stock = keras.models.clone_model(ours, clone_function=steps.stock_layer)
    assert not {type(layer) for layer in stock.layers} & steps.OURS
    stock.set_weights(ours.get_weights())
    images = np.random.default_rng(0).random((3, 28, 28, 1), "float32")
    np.testing.assert_allclose(ours(images), stock(images), rtol=1e-5, atol=1e-5)


def test_every_layer_is_measured():
    classes = {n for n in custom_layers.__all__ if isinstance(getattr(custom_layers, n), type)
               and issubclass(getattr(custom_layers, n), keras.layers.Layer)}
    twins = {n for n in classes if hasattr(keras.layers, n)}
    assert {name for name, *_ in layers.LAYERS} == twins
    assert {name for name, *_ in layers.WITHOUT_TWIN} == classes - twins


def test_compare_calls_in_turn():
    calls = []
    times = compare({n: lambda n=n: calls.append(n) for n in "ab"}, rounds=20, seconds=0.0)
    assert set(times) == {"a", "b"} and len(times["a"]) == len(times["b"]) == 9
    assert calls[:4] == ["a", "a", "b", "b"]
    assert calls[4:8] == ["a", "b", "b", "a"]


def test_ratios_are_taken_round_by_round():
    times = {"ours": [1e-3, 2e-3, 9e-3], "stock": [2e-3, 4e-3, 3e-3]}
    assert columns(times) == ("2.00", "3.00", "0.50")


@pytest.mark.parametrize("name", ["ReLU", "Embedding", "Add"])
def test_a_measurement_gives_both_sides(name):
    arguments = {"input_dim": 5, "output_dim": 2} if name == "Embedding" else {}
    shape = ((4, 4), (4, 4)) if name == "Add" else (4, 4)
    times, kept = layers.measure(name, arguments, shape, jit=False)
    assert all(t > 0 for sides in times.values() for side in sides.values() for t in side)
    assert set(kept) == {"ours", "stock"}


def kept(layer, shape, jit=False):
    layer.build(shape)
    return kept_bytes(layer, (tf.ones(shape),), jit)


def test_bytes_kept_are_those_that_the_backward_reads():
    shape, size = (2, 8, 6, 4), 4 * 2 * 8 * 6 * 4
    assert kept(custom_layers.ReLU(), shape) == size  # its output
    assert kept(keras.layers.Dense(3), (5, 7)) == 4 * 5 * 7  # its input; weights do not count
    assert kept(custom_layers.Flatten(), shape) == 0
    assert kept(custom_layers.Dropout(0.5), shape) < 64  # a seed
    assert kept(keras.layers.Dropout(0.5), shape) >= size // 4  # a mask
    # One byte a window: a sixteenth of the input.
    assert kept(custom_layers.MaxPooling2D(algorithm="winners"), shape) == size // 16
    assert kept(custom_layers.MaxPooling2D(), shape, jit=True) == size // 16
    # A loop's lists count: Keras's keeps more than gates and states of each step.
    lists = kept(keras.layers.LSTM(3), (2, 5, 4))
    assert lists > 5 * 2 * 3 * 4 * 6
    assert kept(keras.layers.LSTM(3), (2, 5, 4), jit=True) is None


def test_sizes_are_shown_in_their_unit():
    assert [shown(n) for n in (None, 12, 4_500, 12_340_000)] == ["-", "12 B", "4.5 kB", "12.3 MB"]
