"""Lean training of random networks: every gradient is stock Keras's, in float64 to 1e-10."""

import pytest
from lean_twins import assert_same, precision
from random_graphs import random_graph

from custom_layers.lean import lean


@pytest.mark.parametrize("seed", [
    seed if seed < 80 else pytest.param(seed, marks=pytest.mark.slow) for seed in range(400)])
def test_a_random_network_learns_as_stock(seed):
    """In graph mode beside stock in eager mode; some in eager mode and under XLA too."""
    with precision("float64"):
        model, inputs = random_graph(seed)
        view = lean(model)
        assert_same(model, view, inputs, "graph", stock_mode="eager")
        if seed % 5 == 0:
            assert_same(model, view, inputs, "eager")
            assert_same(model, view, inputs, "eager", training=False)
        if seed % 40 == 1:
            assert_same(model, view, inputs, "xla")
