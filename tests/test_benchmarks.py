"""The benchmarks measure what they say: the same network, stock beside ours."""

import keras
import numpy as np
import pytest

import custom_layers
from app.models import build
from benchmarks import layers, steps
from benchmarks.timing import compare


@pytest.mark.parametrize("name", steps.NETWORKS)
def test_the_peer_is_the_same_network_of_stock_layers(name):
    ours = build(name, (28, 28, 1), 10)
    stock = keras.models.clone_model(ours, clone_function=steps.stock_layer)
    assert not {type(layer) for layer in stock.layers} & steps.OURS
    stock.set_weights(ours.get_weights())
    images = np.random.default_rng(0).random((3, 28, 28, 1), "float32")
    np.testing.assert_allclose(ours(images), stock(images), rtol=1e-5, atol=1e-5)


def test_every_layer_with_a_twin_is_measured():
    twins = {n for n in custom_layers.__all__ if hasattr(keras.layers, n)}
    twins -= {"Embedding"}  # reads integers: `measure` takes gradients by its input
    assert {name for name, *_ in layers.LAYERS} == twins


def test_compare_calls_in_turn():
    calls = []
    times = compare({n: lambda n=n: calls.append(n) for n in "ab"}, rounds=20, seconds=0.0)
    assert set(times) == {"a", "b"} and all(t >= 0 for t in times.values())
    assert calls[:4] == ["a", "a", "b", "b"]
    assert calls[4:8] == ["a", "b", "b", "a"]


def test_a_measurement_gives_both_sides():
    for ours, stock in layers.measure("ReLU", {}, (4, 4), jit=False).values():
        assert ours > 0 and stock > 0
