"""L2 and Gaussian pooling against NumPy; zeros, sigma, sizes, errors."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from custom_layers.examples import spread
from custom_layers.smooth_pooling import (
    GaussianPooling2D,
    L2Pooling2D,
    gaussian_pool,
    l2_pool,
    window_sum,
)

SETTINGS = [
    {"pool_size": size, "strides": strides, "padding": padding}
    for size, strides in [((2, 2), (2, 2)), ((3, 3), (2, 2)), ((3, 2), (2, 1)), ((2, 2), (3, 3))]
    for padding in ["valid", "same"]
]
every_setting = pytest.mark.parametrize("settings", SETTINGS, ids=str)
modes = pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])


def naive_windows(x, pool_size, strides, padding):
    """(p, q), the window's part of the image, and the positions (i, j) in it, for each window."""
    sizes = x.shape[1:3]
    if padding == "same":
        outputs = [-(-n // s) for n, s in zip(sizes, strides)]
        before = [max((o - 1) * s + k - n, 0) // 2
                  for o, s, k, n in zip(outputs, strides, pool_size, sizes)]
    else:
        outputs = [(n - k) // s + 1 for n, k, s in zip(sizes, pool_size, strides)]
        before = (0, 0)
    for p, q in itertools.product(*map(range, outputs)):
        top, left = p * strides[0] - before[0], q * strides[1] - before[1]
        i, j = (np.array([a for a in range(k) if 0 <= start + a < n])
                for k, start, n in zip(pool_size, (top, left), sizes))
        yield (p, q), x[:, (top + i)[:, None], left + j], (i[:, None], j)


@modes
@every_setting
def test_l2(settings, jit):
    x = spread((2, 7, 9, 3))
    y = tf.function(lambda x: l2_pool(x, **settings), jit_compile=jit)(x).numpy()
    for (p, q), window, _ in naive_windows(x, **settings):
        np.testing.assert_allclose(y[:, p, q], np.sqrt((window**2).sum((1, 2))), rtol=1e-12)


@modes
@pytest.mark.parametrize("sigma", [None, 0.7, (0.6, 2.0)])
@every_setting
def test_gaussian(settings, sigma, jit):
    x, (kh, kw) = spread((2, 7, 9, 3)), settings["pool_size"]
    op = tf.function(lambda x: gaussian_pool(x, sigma=sigma, **settings), jit_compile=jit)
    y = op(x).numpy()
    sh, sw = (kh / 4, kw / 4) if sigma is None else np.broadcast_to(sigma, 2)
    for (p, q), window, (i, j) in naive_windows(x, **settings):
        w = np.exp(-((i - (kh - 1) / 2) ** 2 / (2 * sh**2) + (j - (kw - 1) / 2) ** 2 / (2 * sw**2)))
        expected = (w[:, :, None] * window).sum((1, 2)) / w.sum()
        np.testing.assert_allclose(y[:, p, q], expected, rtol=1e-12, atol=1e-12)


@every_setting
@pytest.mark.parametrize("layer", [L2Pooling2D, GaussianPooling2D])
def test_gradients(layer, settings, gradient_check):
    report = gradient_check(layer(**settings), spread((2, 5, 6, 2)), directions=2, elements=64,
                            second_order=True)
    assert report.error <= 1e-6


@pytest.mark.parametrize("layer", [L2Pooling2D, GaussianPooling2D])
@pytest.mark.parametrize("arguments", [{}, {"padding": "same", "strides": (2, 1)}], ids=str)
def test_channels_first(layer, arguments, gradient_check):
    x = spread((2, 7, 9, 3))
    y = layer(**arguments)(x)
    first = layer(data_format="channels_first", **arguments)
    np.testing.assert_array_equal(tf.transpose(first(x.transpose(0, 3, 1, 2)), (0, 2, 3, 1)), y)
    assert first.compute_output_shape((2, 3, 7, 9)) == (2, 3, *y.shape[1:3])
    gradient_check(first, x.transpose(0, 3, 1, 2), directions=2, elements=32)


@modes
@pytest.mark.parametrize("weights", [([1.0, 1.0], [1.0, 1.0]), ([0.2, 0.5, 0.3], [0.4, 0.6])],
                         ids=["even", "uneven"])
@pytest.mark.parametrize("strides", [(2, 2), (1, 2)])
def test_the_backward_of_the_window_sum_is_its_adjoint(weights, strides, jit):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(2, 6, 7, 3)))

    @tf.function(jit_compile=jit)
    def products(x):
        y, backward = window_sum(x, *weights, strides, "same")
        dy = tf.sin(tf.reshape(tf.range(tf.size(y), dtype=y.dtype), tf.shape(y)))
        return tf.reduce_sum(y * dy), tf.reduce_sum(x * backward(dy))

    np.testing.assert_allclose(*products(x), rtol=1e-12)


def test_the_root_has_a_finite_gradient_at_zero():
    x = tf.constant([[[[0.0], [0.0], [3.0]], [[0.0], [0.0], [4.0]]]])
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = l2_pool(x, strides=(1, 1))
        dx = tape.gradient(y, x)
        penalty = tf.reduce_sum(dx * dx)
    np.testing.assert_array_equal(y[0, :, :, 0], [[0, 5]])
    np.testing.assert_allclose(dx[0, :, :, 0], [[0, 0, 0.6], [0, 0, 0.8]], rtol=1e-6)
    assert np.isfinite(outer.gradient(penalty, x)).all()


def test_l2_of_halves_does_not_overflow():
    y, backward = l2_pool.pair(tf.fill((1, 2, 2, 1), tf.constant(1000, tf.float16)))
    assert y.dtype == tf.float16 and float(y[0, 0, 0, 0]) == 2000
    np.testing.assert_array_equal(backward(tf.ones_like(y)), tf.fill((1, 2, 2, 1), 0.5))


def test_a_gaussian_of_constants_is_constant_up_to_the_border():
    y = gaussian_pool(tf.ones((1, 7, 7, 1)), pool_size=(5, 5), strides=(1, 1), padding="same")
    np.testing.assert_allclose(y, np.ones((1, 7, 7, 1)), rtol=1e-6)


def test_the_gaussian_of_two_by_two_is_the_average():
    x = spread((1, 6, 6, 2))
    np.testing.assert_allclose(gaussian_pool(x, pool_size=(2, 2)),
                               tf.nn.avg_pool2d(x, 2, 2, "VALID"), rtol=1e-12)


@pytest.mark.parametrize("layer", [L2Pooling2D, GaussianPooling2D])
@pytest.mark.parametrize("batch", [0, 1])
def test_unknown_sizes_and_empty_batches(layer, batch):
    layer = layer(3, 2, "same")

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))])
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return y, tape.gradient(y, x)

    x = tf.constant(spread((batch, 7, 9, 3)), tf.float32)
    y, dx = run(x)
    assert y.shape == (batch, 4, 5, 3) and dx.shape == x.shape
    np.testing.assert_allclose(y, layer(x), rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pool_size": 0}, "`pool_size` must be .*Received: pool_size=0"),
        ({"pool_size": (2, 2, 2)}, r"Received: pool_size=\(2, 2, 2\)"),
        ({"strides": -1}, "Received: strides=-1"),
        ({"padding": "full"}, "Received: padding=full"),
        ({"data_format": "NHWC"}, "Received: data_format=NHWC"),
        ({"sigma": 0}, "Received: sigma=0"),
        ({"sigma": (1, 2, 3)}, "Received: sigma="),
    ],
)
def test_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianPooling2D(**arguments)


@pytest.mark.parametrize("layer", [L2Pooling2D, GaussianPooling2D])
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_a_window_larger_than_the_image(layer, mode):
    layer = layer(4, name="it")
    run = layer if mode == "eager" else tf.function(layer)
    with pytest.raises(ValueError, match=r"window of layer it does not fit.*pool_size=\(4, 4\)"):
        run(tf.ones((1, 3, 5, 2)))
    with pytest.raises(ValueError, match="expected ndim=4"):
        run(tf.ones((1, 5, 2)))
