"""Lean training of whole networks: the benchmark's, small."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from lean_twins import assert_same, measured, precision, shaken

from benchmarks.lean_networks import NETWORKS
from custom_layers.lean import lean

SMALL = "lenet5", "simpleconvnet", "vgg_bn", "resnet20", "segnet_basic"
SHAPES = {"lenet5": (28, 28, 1), "simpleconvnet": (28, 28, 1), "segnet_basic": (16, 16, 3)}
EACH = pytest.mark.parametrize("name", [
    name if name in SMALL else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS])


def network(name, change=lambda model: model, batch=4, size=32):
    """(model, inputs)"""
    keras.utils.clear_session()  # the same names each time
    shape = SHAPES.get(name, (size, size, 3))
    model = shaken(change(NETWORKS[name](shape, 10)))
    images = np.random.default_rng(0).normal(size=(batch, *shape))
    if name == "efficientnetb0":  # it divides by 255: other images are all one colour to it
        images = 127.5 + 64 * images
    return model, images


@EACH
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_a_network_learns_as_stock(name, mode):
    """Every gradient and all statistics to 1e-10."""
    with precision("float64"):
        model, inputs = network(name)
        assert_same(model, lean(model), inputs, mode)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_compiled_by_xla_a_network_learns_as_stock(name):
    with precision("float64"):
        model, inputs = network(name)
        assert_same(model, lean(model), inputs, "xla")


def smooth(model):
    """The network with softplus for ReLU, means for maxima, and all of what dropout would drop.

    A deep network's ReLUs, a million of them, stand at their kink to the rounding of float32 here
    or there, where one of the two sides then has a gradient and the other has none: stock Keras
    itself is 1e-3 off its gradient in float64.
    """
    def changed(layer):
        config = layer.get_config()
        if isinstance(layer, layers.ReLU):
            return layers.Activation("softplus", name=layer.name)
        if isinstance(layer, layers.MaxPooling2D):
            return layers.AveragePooling2D(
                layer.pool_size, layer.strides, layer.padding, name=layer.name)
        if isinstance(layer, layers.Dropout):  # another dtype draws other numbers
            config["rate"] = 0.0
        if config.get("activation") == "relu":
            config["activation"] = "softplus"
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=changed)


@EACH
def test_in_float32_a_smooth_network_is_as_exact_as_stock(name):
    """Every gradient is that of float64 to 1e-5, beyond twice what stock Keras is off itself.

    EfficientNetB0 makes 2e-5 of the rounding of float32, stock Keras compiled by XLA as well.
    """
    size = 32 if name in SMALL else 64
    model, inputs = network(name, smooth, batch=8, size=size)
    with precision("float64"):
        exact, _ = network(name, smooth, batch=8, size=size)
        for ours, theirs in zip(exact.variables, model.variables, strict=True):
            ours.assign(theirs.numpy())
        exact = measured(exact, tf.constant(inputs))
    stock = measured(model, tf.constant(inputs))
    found = measured(lean(model), tf.constant(inputs), model)
    whole = np.linalg.norm([np.linalg.norm(exact[n]) for n in exact if n.startswith("gradient")])
    assert found.keys() == stock.keys() == exact.keys()
    for part, value in exact.items():
        allowed = (1e-5 * np.linalg.norm(value) + 2 * np.linalg.norm(stock[part] - value)
                   + 5e-6 * whole * part.startswith("gradient"))
        assert np.linalg.norm(found[part] - value) <= allowed, part
