"""Conv2DTranspose and BilinearUpsampling: the formula in NumPy, parity, gradients, errors."""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from twins import assert_empty_batch, assert_twins

from custom_layers import check_gradients
from custom_layers.convolution import conv2d
from custom_layers.examples import spread
from custom_layers.transposed_convolution import (
    BilinearUpsampling,
    Conv2DTranspose,
    conv2d_transpose,
)

SETTINGS = [
    {"strides": s, "padding": p, "dilation": d, "output_padding": o}
    for s, d in [((1, 1), (1, 1)), ((2, 3), (1, 1)), ((4, 4), (1, 1)), ((1, 1), (2, 3))]
    for p in ["valid", "same"]
    for o in [None] + [(s[0] - 1, s[1] - 1)] * (max(s) > 1)
]


def naive_conv2d_transpose(x, w, b, strides, padding, dilation, output_padding):
    """Each x paints w, scaled by x, onto a canvas; the image is a part of the canvas."""
    n, filters, size, before = len(x), w.shape[2], [], []
    for extent, k, s, d, p in zip(x.shape[1:3], w.shape[:2], strides, dilation,
                                  output_padding or (None, None)):
        reach = d * (k - 1) + 1
        if padding == "valid":
            size.append((extent - 1) * s + max(reach, s) if p is None
                        else (extent - 1) * s + reach + p)
            before.append(0)
        else:
            size.append(extent * s if p is None else (extent - 1) * s + reach % 2 + p)
            before.append(max((extent - 1) * s + reach - size[-1], 0) // 2)
    canvas = np.zeros((n, size[0] + 40, size[1] + 40, filters))
    for r, t, i, j in itertools.product(*map(range, (*x.shape[1:3], *w.shape[:2]))):
        row, column = r * strides[0] + i * dilation[0], t * strides[1] + j * dilation[1]
        canvas[:, row, column] += x[:, r, t] @ w[i, j].T
    top, left = before
    return canvas[:, top:top + size[0], left:left + size[1]] + b


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("kernel", [(3, 2), (1, 5)], ids=str)
def test_conv2d_transpose(settings, kernel):
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(2, 4, 5, 3)), rng.normal(size=(*kernel, 2, 3)), rng.normal(size=2)
    expected = naive_conv2d_transpose(x, w, b, **settings)
    np.testing.assert_allclose(conv2d_transpose(x, w, b, **settings), expected, atol=1e-12)
    first = conv2d_transpose(x.transpose(0, 3, 1, 2), w, b, data_format="channels_first",
                             **settings)
    np.testing.assert_allclose(np.transpose(first, (0, 2, 3, 1)), expected, atol=1e-12)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_it_is_the_adjoint_of_conv2d_and_its_backward_is_its_own(settings):
    """<T(x), z> = <x, conv2d(z)>, with z of T(x)'s shape; <T(x), dy> = <x, dx> = <w, dw>."""
    rng = np.random.default_rng(0)
    x, w = tf.constant(rng.normal(size=(2, 4, 5, 3))), tf.constant(rng.normal(size=(3, 2, 2, 3)))
    y, backward = conv2d_transpose.pair(x, w, **settings)
    z = tf.constant(rng.normal(size=y.shape))
    convolved = conv2d(z, w, **{k: v for k, v in settings.items() if k != "output_padding"})
    assert convolved.shape == x.shape
    dx, dw, _ = backward(z)
    for product in (np.vdot(x, convolved), np.vdot(x, dx), np.vdot(w, dw)):
        np.testing.assert_allclose(product, np.vdot(y, z), rtol=1e-12)


@pytest.mark.parametrize("layer", [
    Conv2DTranspose(2, 3, strides=2, padding="same", activation="tanh"),
    Conv2DTranspose(2, (3, 2), strides=(3, 2), output_padding=(2, 0)),
    Conv2DTranspose(2, 3, dilation_rate=2, use_bias=False),
    Conv2DTranspose(2, 2, strides=3, data_format="channels_first"),
], ids=lambda layer: layer.name)
def test_gradients_of_both_orders(layer):
    report = check_gradients(layer, spread((2, 3, 4, 3)) / 4, second_order=True, directions=2,
                             elements=60)
    report.raise_if_failed()
    assert set(report.errors) == {"eager", "graph", "xla"}


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("arguments", [
    {"kernel_size": 3, "strides": 2, "padding": "same", "activation": "relu"},
    {"kernel_size": (3, 4), "strides": (2, 3), "padding": "same", "output_padding": (0, 2)},
    {"kernel_size": 2, "strides": 3},
    {"kernel_size": 3, "strides": 2, "output_padding": 1, "use_bias": False},
], ids=str)
def test_equals_keras(jit, arguments):
    arguments = {"filters": 4, "bias_initializer": "random_normal", **arguments}
    ours, stock = Conv2DTranspose(**arguments), keras.layers.Conv2DTranspose(**arguments)
    assert_twins(ours, stock, (2, 6, 7, 3), jit)


@pytest.mark.parametrize("settings", SETTINGS[::3], ids=str)
def test_an_empty_batch(settings):
    op = functools.partial(conv2d_transpose, **settings)
    assert_empty_batch(op, tf.zeros((0, 4, 5, 3)), tf.ones((3, 2, 2, 3)), tf.zeros(2))


@pytest.mark.parametrize(("factor", "line"), [
    (2, [0.25, 0.75, 0.75, 0.25]),
    (3, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]),
])
def test_bilinear_upsampling_values(factor, line):
    kernel = BilinearUpsampling()((len(line), len(line), 2, 2), "float32")
    np.testing.assert_allclose(kernel[:, :, 0, 0], np.outer(line, line), rtol=1e-6)
    np.testing.assert_array_equal(kernel[:, :, 0, 0], kernel[:, :, 1, 1])
    assert not np.any(kernel[:, :, 0, 1]) and not np.any(kernel[:, :, 1, 0])


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_bilinear_upsampling_interpolates(factor):
    """Inside the image it is Keras's bilinear upsampling; each map by itself."""
    layer = Conv2DTranspose(3, 2 * factor - factor % 2, strides=factor, padding="same",
                            use_bias=False, kernel_initializer=BilinearUpsampling())
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype("float32")
    y = layer(x)
    expected = keras.layers.UpSampling2D(factor, interpolation="bilinear")(x)
    assert y.shape == expected.shape
    inside = slice(factor, -factor)
    np.testing.assert_allclose(y[:, inside, inside], expected[:, inside, inside], atol=1e-5)


def test_bilinear_upsampling_comes_back_from_its_config():
    layer = Conv2DTranspose(2, 4, strides=2, kernel_initializer=BilinearUpsampling())
    config = keras.layers.serialize(layer)
    assert config["config"]["kernel_initializer"]["registered_name"] == (
        "custom_layers>BilinearUpsampling")
    again = keras.layers.deserialize(config)
    assert isinstance(again.kernel_initializer, BilinearUpsampling)


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match=r"maps, maps.*Received: shape=\(4, 4, 2, 3\)"):
        BilinearUpsampling()((4, 4, 2, 3))
    with pytest.raises(ValueError, match=r"Received: output_padding=\(0, 0\), kernel_size=\(3, 2"):
        Conv2DTranspose(2, (3, 2), strides=2, padding="same", output_padding=0)
    with pytest.raises(ValueError, match="strictly less than"):
        Conv2DTranspose(2, 3, strides=2, output_padding=2)
    with pytest.raises(ValueError, match=r"Received: strides=\(2, 2\), dilation=\(1, 2\)"):
        conv2d_transpose(tf.ones((1, 4, 4, 1)), tf.ones((2, 2, 1, 1)), strides=(2, 2),
                         dilation=(1, 2))
    layer = Conv2DTranspose(2, 3)
    layer.build((None, 5, 5, 3))
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 3"):
        layer(np.ones((1, 5, 5, 2)))
