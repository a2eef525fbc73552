"""UpSampling2D: the formula in NumPy, parity, exact adjoints, gradients, errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers import check_gradients
from custom_layers.examples import spread
from custom_layers.upsampling import UpSampling2D, upsample2d

SMOOTH = ["bilinear", "bicubic", "lanczos3", "lanczos5"]
ALL = ["nearest", *SMOOTH]
SIZES = [(2, 2), (3, 4), (1, 5)]
MODES = ["eager", "graph", "xla"]


def kernel(interpolation, d):
    d = abs(d)
    if interpolation == "bilinear":
        return max(0, 1 - d)
    if interpolation == "bicubic":  # Keys, a = -1/2
        if d >= 2:
            return 0
        return 1.5 * d**3 - 2.5 * d**2 + 1 if d < 1 else -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    radius = int(interpolation[-1])
    if d >= radius:
        return 0
    return 1 if d == 0 else (
        radius * np.sin(np.pi * d) * np.sin(np.pi * d / radius) / (np.pi * d) ** 2)


def naive_matrix(interpolation, extent, factor):
    matrix = np.zeros((extent * factor, extent))
    for p in range(extent * factor):
        place = (p + 0.5) / factor - 0.5
        if interpolation == "bicubic":
            place = np.round(place * 1024) / 1024
        for h in range(extent):
            if interpolation == "nearest":
                matrix[p, h] = h == p // factor
            else:
                matrix[p, h] = kernel(interpolation, place - h)
    return matrix / matrix.sum(1, keepdims=True)


def in_mode(mode, function):
    return {"eager": function, "graph": tf.function(function),
            "xla": tf.function(function, jit_compile=True)}[mode]


def both(x, dy, **settings):
    y, backward = upsample2d.pair(x, **settings)
    return y, backward(dy)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("interpolation", ALL)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_formula_and_exact_adjoint(mode, interpolation, size):
    """Y = R X C^t and dX = R^t dY C, with the matrices of the docstring's formula."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 7, 4, 3))
    dy = rng.normal(size=(2, 7 * size[0], 4 * size[1], 3))
    rows, columns = (naive_matrix(interpolation, n, f) for n, f in zip((7, 4), size))
    expected = np.einsum("ph,nhwc,qw->npqc", rows, x, columns)
    adjoint = np.einsum("ph,npqc,qw->nhwc", rows, dy, columns)
    settings = {"size": size, "interpolation": interpolation}
    run = in_mode(mode, lambda x, dy: both(x, dy, **settings))
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-5)):
        y, dx = run(tf.constant(x, dtype), tf.constant(dy, dtype))
        assert y.dtype == dx.dtype == dtype
        np.testing.assert_allclose(y, expected, atol=tolerance)
        np.testing.assert_allclose(dx, adjoint, atol=tolerance * np.prod(size))


@pytest.mark.parametrize("mode", ["graph", "xla"])
@pytest.mark.parametrize("interpolation", ALL)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_equals_keras(mode, interpolation, data_format):
    arguments = dict(size=(3, 2), interpolation=interpolation, data_format=data_format)
    ours, stock = UpSampling2D(**arguments), keras.layers.UpSampling2D(**arguments)
    x = tf.constant(spread((2, 5, 6, 4)), tf.float32)
    dy = spread(stock.compute_output_shape(x.shape), seed=1, dtype="float32")

    def gradients(layer, x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return y, tape.gradient(y, x, dy)

    # Keras has bicubic and Lanczos outside of XLA only.
    theirs = in_mode("graph", gradients)(stock, x, dy)
    for a, b in zip(in_mode(mode, gradients)(ours, x, dy), theirs):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_gradients_of_both_orders(interpolation):
    layer = UpSampling2D((2, 3), interpolation=interpolation)
    report = check_gradients(layer, spread((2, 3, 4, 2)), second_order=True, directions=2,
                             elements=60)
    report.raise_if_failed()
    assert set(report.errors) == {"eager", "graph", "xla"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("interpolation", ALL)
def test_second_derivative_in_float32(mode, interpolation):
    """The derivative of the backward pass is the forward pass: so also with the kernels of
    float32, of which TensorFlow knows no derivative."""
    settings = {"interpolation": interpolation, "size": (2, 3)}
    x = tf.constant(spread((2, 3, 4, 2)), tf.float32)

    def second(v, u):
        with tf.GradientTape() as outer:
            outer.watch(u)
            with tf.GradientTape() as inner:
                inner.watch(v)
                y = upsample2d(v, **settings)
            dx = inner.gradient(y, v, u)
        return outer.gradient(dx, u, v)

    u = tf.constant(spread((2, 6, 12, 2)), tf.float32)
    np.testing.assert_allclose(in_mode(mode, second)(x, u), upsample2d(x, **settings), atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("interpolation", ALL)
def test_half_precision_is_computed_in_float32(dtype, interpolation):
    x = tf.cast(spread((2, 5, 6, 3)), dtype)
    dy = tf.cast(spread((2, 20, 24, 3), seed=1), dtype)
    settings = {"size": (4, 4), "interpolation": interpolation}
    wide = both(tf.cast(x, tf.float32), tf.cast(dy, tf.float32), **settings)
    for half, exact in zip(both(x, dy, **settings), wide):
        np.testing.assert_array_equal(half, tf.cast(exact, dtype))


@pytest.mark.parametrize("interpolation", ALL)
@pytest.mark.parametrize("batch", [0, 1, 2])
def test_unknown_sizes_and_an_empty_batch(interpolation, batch):
    spec = [tf.TensorSpec((None, None, None, 3))] * 2
    settings = {"size": (2, 3), "interpolation": interpolation}
    run = tf.function(lambda x, dy: both(x, dy, **settings), spec)
    x, dy = tf.constant(spread((2, 4, 5, 3), dtype="float32")), tf.ones((2, 8, 15, 3))
    for a, b in zip(run(x[:batch], dy[:batch]), both(x, dy, **settings)):
        np.testing.assert_allclose(a, b[:batch], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("interpolation", ALL)
def test_a_constant_image_stays_constant(interpolation):
    y = upsample2d(tf.fill((1, 3, 1, 1), 7.0), size=(5, 2), interpolation=interpolation)
    np.testing.assert_allclose(y, np.full((1, 15, 2, 1), 7.0), rtol=1e-6)


def test_whole_numbers():
    x = np.arange(12).reshape(1, 3, 4, 1)
    for interpolation in ALL:
        stock = keras.layers.UpSampling2D(interpolation=interpolation)(x)
        ours = UpSampling2D(interpolation=interpolation)(x)
        assert ours.dtype == stock.dtype
        np.testing.assert_array_equal(ours, stock)


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="one of nearest, bilinear.*Received: interpolation=area"):
        UpSampling2D(interpolation="area")
    with pytest.raises(ValueError, match="size"):
        UpSampling2D(size=0)
    with pytest.raises(ValueError, match="expected ndim=4, found ndim=3"):
        UpSampling2D()(np.ones((2, 3, 3)))
