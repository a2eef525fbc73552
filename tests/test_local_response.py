"""Local response normalisation: the paper's formula in NumPy, and TensorFlow's kernel."""

import numpy as np
import pytest
import tensorflow as tf

from custom_layers.examples import spread
from custom_layers.local_response import (
    LocalResponseNormalization,
    local_response_normalization,
)

SETTINGS = [
    {}, {"k": 1.0, "n": 3, "alpha": 0.5, "beta": 0.6}, {"n": 1, "alpha": 0.1},
    {"n": 9, "alpha": 0.2, "beta": 0.5}, {"n": 99, "alpha": 0.2},
]
every_setting = pytest.mark.parametrize("settings", SETTINGS, ids=str)


def naive(a, k=2.0, n=5, alpha=1e-4, beta=0.75):
    """Krizhevsky et al. 2012, section 3.3, index by index. alpha is not divided by n."""
    b, maps = np.empty_like(a), a.shape[-1]
    for i in range(maps):
        total = 0
        for j in range(max(0, i - n // 2), min(maps - 1, i + n // 2) + 1):
            total = total + a[..., j] ** 2
        b[..., i] = a[..., i] / (k + alpha * total) ** beta
    return b


@every_setting
def test_is_the_papers_formula(settings):
    a = 3 * spread((2, 3, 4, 7))
    np.testing.assert_allclose(local_response_normalization(a, **settings), naive(a, **settings),
                               rtol=1e-12)
    first = local_response_normalization(a.transpose(0, 3, 1, 2), data_format="channels_first",
                                         **settings)
    np.testing.assert_allclose(np.transpose(first, (0, 2, 3, 1)), naive(a, **settings), rtol=1e-12)


@every_setting
def test_gradients_and_second_derivatives(settings, gradient_check):
    layer = LocalResponseNormalization(**settings)
    gradient_check(layer, spread((2, 2, 3, 7)), directions=2, elements=64, second_order=True)


@every_setting
def test_equals_the_kernel_of_tensorflow(settings):
    settings = {"k": 2.0, "n": 5, "alpha": 1e-4, "beta": 0.75} | settings
    a, db = (tf.constant(spread((2, 3, 4, 7), seed), tf.float32) for seed in (0, 1))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(a)
        ours = local_response_normalization(a, **settings)
        theirs = tf.nn.local_response_normalization(
            a, settings["n"] // 2, settings["k"], settings["alpha"], settings["beta"])
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(ours, a, db), tape.gradient(theirs, a, db),
                               rtol=1e-5, atol=1e-6)


def test_one_channel_alone_and_a_dense_input():
    """(N, C) works too; a lone active channel is divided by its own energy."""
    a = np.zeros((1, 7))
    a[0, 3] = 10.0
    b = local_response_normalization(a, alpha=1.0).numpy()
    np.testing.assert_allclose(b[0, 3], 10 / 102 ** 0.75)
    assert not b[0, :3].any() and not b[0, 4:].any()


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_half_precision_is_summed_in_float32(dtype):
    a = tf.fill((1, 1, 1, 5), tf.cast(300.0, dtype))  # 5 * 300^2 is beyond float16
    y, backward = local_response_normalization.pair(a)
    assert y.dtype == backward(a).dtype == dtype
    np.testing.assert_allclose(tf.cast(y, tf.float64)[0, 0, 0, 2], naive(np.full(5, 300.0))[2],
                               rtol=1e-2)
    assert np.isfinite(tf.cast(backward(a), tf.float32)).all()


@pytest.mark.parametrize("batch", [0, 1])
def test_empty_batch_and_batch_of_one(batch):
    layer = LocalResponseNormalization()
    run = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 3))])
    assert run(tf.ones((batch, 2, 2, 3))).shape == (batch, 2, 2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 4}, "`n` must be an odd number of channels >= 1. Received: n=4"),
        ({"n": 0}, "Received: n=0"),
        ({"k": 0}, "`k` must be > 0.*Received: k=0"),
        ({"alpha": -1}, "`alpha` must be >= 0. Received: alpha=-1"),
        ({"data_format": "NHWC"}, "Received: data_format=NHWC"),
    ],
)
def test_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        LocalResponseNormalization(**arguments)


@pytest.mark.parametrize(
    ("arguments", "shape", "message"),
    [
        ({}, (None, None), "known number of channels. Received: shape="),
        ({"data_format": "channels_first"}, (None, 3, 4), r"\(N, C, H, W\). Received: shape="),
        ({}, (None,), "needs an input of shape"),
    ],
)
def test_says_what_is_wrong_with_the_input(arguments, shape, message):
    with pytest.raises(ValueError, match=message):
        LocalResponseNormalization(**arguments).build(shape)
