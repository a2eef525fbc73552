"""DepthwiseConv2D and SeparableConv2D: the formula in NumPy, parity, gradients, errors."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_ops import naive_conv2d
from twins import assert_empty_batch, assert_twins

from custom_layers import check_gradients
from custom_layers.depthwise import (
    DepthwiseConv2D,
    SeparableConv2D,
    depthwise_conv2d,
    separable_conv2d,
)
from custom_layers.examples import spread

SETTINGS = [
    {"strides": s, "padding": p, "dilation": d}
    for s, d in [((1, 1), (1, 1)), ((2, 2), (1, 1)), ((2, 3), (1, 1)), ((1, 1), (2, 1)),
                 ((2, 1), (1, 2))]
    for p in ["valid", "same", ((2, 1), (0, 3))]
]


def naive_depthwise(x, w, strides, padding, dilation):
    """A convolution in as many groups as maps."""
    (fh, fw, c, m), b = w.shape, np.zeros(w.shape[2] * w.shape[3])
    return naive_conv2d(x, w.reshape(fh, fw, 1, c * m), b, strides, padding, dilation, c)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_depthwise_conv2d(settings):
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(2, 7, 8, 3)), rng.normal(size=(3, 2, 3, 2)), rng.normal(size=6)
    expected = naive_depthwise(x, w, **settings) + b
    np.testing.assert_allclose(depthwise_conv2d(x, w, b, **settings), expected, atol=1e-12)
    xla = tf.function(lambda x: depthwise_conv2d(x, w, b, **settings), jit_compile=True)
    np.testing.assert_allclose(xla(x), expected, atol=1e-12)
    first = depthwise_conv2d(x.transpose(0, 3, 1, 2), w, b, data_format="channels_first",
                             **settings)
    np.testing.assert_allclose(np.transpose(first, (0, 2, 3, 1)), expected, atol=1e-12)


def test_separable_conv2d():
    rng = np.random.default_rng(0)
    x, w, v, b = (rng.normal(size=s) for s in [(2, 7, 8, 3), (3, 2, 3, 2), (1, 1, 6, 4), (4,)])
    settings = {"strides": (2, 2), "padding": "same"}
    expected = naive_depthwise(x, w, dilation=(1, 1), **settings) @ v[0, 0] + b
    np.testing.assert_allclose(separable_conv2d(x, w, v, b, **settings), expected, atol=1e-12)
    first = separable_conv2d(x.transpose(0, 3, 1, 2), w, v, b, data_format="channels_first",
                             **settings)
    np.testing.assert_allclose(np.transpose(first, (0, 2, 3, 1)), expected, atol=1e-12)


def test_a_large_kernel():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(1, 9, 9, 2)), rng.normal(size=(8, 7, 2, 1))
    settings = {"strides": (1, 1), "padding": "same", "dilation": (1, 1)}
    xla = tf.function(lambda x: depthwise_conv2d(x, w, **settings), jit_compile=True)
    np.testing.assert_allclose(xla(x), naive_depthwise(x, w, **settings), atol=1e-12)


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_backward_is_the_adjoint(jit, settings):
    """<f(x), dy> = <x, dx> = <w, dw>, for f is linear in x and in w."""

    @tf.function(jit_compile=jit)
    def both(x, w):
        y, backward = depthwise_conv2d.pair(x, w, **settings)
        dy = tf.random.stateless_normal(y.shape, (1, 2), dtype=tf.float64)
        dx, dw, db = backward(dy)
        assert db is None
        return y, dy, dx, dw

    rng = np.random.default_rng(0)
    x, w = tf.constant(rng.normal(size=(2, 7, 8, 3))), tf.constant(rng.normal(size=(3, 2, 3, 2)))
    y, dy, dx, dw = both(x, w)
    np.testing.assert_allclose(np.vdot(x, dx), np.vdot(y, dy), rtol=1e-12)
    np.testing.assert_allclose(np.vdot(w, dw), np.vdot(y, dy), rtol=1e-12)


@pytest.mark.parametrize("layer", [
    DepthwiseConv2D(3, strides=2, depth_multiplier=2, activation="tanh"),
    DepthwiseConv2D((3, 2), strides=(2, 1), dilation_rate=2, padding="same"),
    SeparableConv2D(4, 3, padding="same", activation="relu"),
    SeparableConv2D(2, 3, strides=(1, 2), data_format="channels_first"),
], ids=lambda layer: layer.name)
def test_gradients_of_both_orders(layer):
    report = check_gradients(layer, spread((2, 5, 6, 3)) / 4, second_order=True, directions=2,
                             elements=60)
    report.raise_if_failed()
    assert set(report.errors) == {"eager", "graph", "xla"}


@pytest.mark.parametrize("name", ["DepthwiseConv2D", "SeparableConv2D"])
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("arguments", [
    {"activation": "relu", "depth_multiplier": 2},
    {"padding": "same", "dilation_rate": (2, 1), "strides": 2},
    {"data_format": "channels_first", "strides": 2},
], ids=str)
def test_equals_keras(name, jit, arguments):
    arguments = {"kernel_size": 3, "bias_initializer": "random_normal", **arguments}
    if name == "SeparableConv2D":
        arguments["filters"] = 4
    ours = {"DepthwiseConv2D": DepthwiseConv2D, "SeparableConv2D": SeparableConv2D}[name]
    ours, stock = ours(**arguments), getattr(keras.layers, name)(**arguments)
    assert_twins(ours, stock, (2, 6, 7, 8), jit)


@pytest.mark.parametrize("settings", SETTINGS[::4], ids=str)
def test_an_empty_batch(settings):
    op = functools.partial(depthwise_conv2d, **settings)
    assert_empty_batch(op, tf.zeros((0, 7, 8, 3)), tf.ones((3, 2, 3, 2)), tf.zeros(6))


def test_what_is_wrong_is_said_by_keras():
    with pytest.raises(ValueError, match="depth_multiplier"):
        DepthwiseConv2D(3, depth_multiplier=0)
    with pytest.raises(ValueError, match="kernel_size=0"):
        SeparableConv2D(2, 0)
    with pytest.raises(ValueError, match="negative|zero|positive"):
        DepthwiseConv2D(5).build((None, 4, 4, 1))
    layer = SeparableConv2D(2, 3)
    layer.build((None, 5, 5, 3))
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 3"):
        layer(np.ones((1, 5, 5, 2)))
