"""Lean training of whole networks: every gradient is stock Keras's, in float64 to 1e-10."""

import numpy as np
import pytest
from lean_twins import assert_same, precision, shaken

from benchmarks.lean_networks import NETWORKS
from custom_layers.lean import lean

SMALL = "lenet5", "simpleconvnet", "vgg_bn", "resnet20", "segnet_basic"
SHAPES = {"lenet5": (28, 28, 1), "simpleconvnet": (28, 28, 1), "segnet_basic": (16, 16, 3)}


def network(name):
    """(model, inputs)"""
    shape = SHAPES.get(name, (32, 32, 3))
    model = NETWORKS[name](shape, 10)
    return shaken(model), np.random.default_rng(0).normal(size=(4, *shape))


@pytest.mark.parametrize("name", [
    name if name in SMALL else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS])
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_a_network_learns_as_stock(name, mode):
    with precision("float64"):
        model, inputs = network(name)
        assert_same(model, lean(model), inputs, mode)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_compiled_by_xla_a_network_learns_as_stock(name):
    with precision("float64"):
        model, inputs = network(name)
        assert_same(model, lean(model), inputs, "xla")


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_in_float32_a_network_learns_as_stock(name):
    """The gradient to 1e-5 of its norm, or stock's own distance from float64 where that is more."""
    with precision("float64"):
        exact, inputs = network(name)
        weights = exact.get_weights()
