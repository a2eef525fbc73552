"""Layer and group normalisation: the formulas in NumPy, Keras's layers beside ours."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers.examples import spread
from custom_layers.group_norms import (
    GroupNormalization,
    LayerNormalization,
    group_normalization,
    layer_normalization,
)

LAYER = [
    ((4, 6), {}), ((3, 4, 5), {"axis": 1}), ((3, 4, 2, 5), {"axis": [1, 2, 3], "center": False}),
    ((3, 4, 2, 5), {"axis": [-1, 1], "scale": False}), ((3, 4, 2, 5), {"axis": (-3, -2)}),
    ((3, 5), {"scale": False, "center": False}),
]
GROUP = [
    ((3, 4, 5, 6), {"groups": 3}), ((3, 6, 4, 5), {"groups": 2, "axis": 1}),
    ((3, 4, 6, 5), {"groups": 2, "axis": -2, "center": False}), ((3, 8), {"groups": 2}),
    ((2, 5, 4), {"groups": -1, "scale": False}), ((1, 3, 4), {"groups": 1}),
]
EVERY = [(LayerNormalization, *c) for c in LAYER] + [(GroupNormalization, *c) for c in GROUP]
every = pytest.mark.parametrize(("layer", "shape", "arguments"), EVERY, ids=str)


def weighted(layer, shape):
    """The layer built, its weights neither ones nor zeros."""
    layer.build(shape)
    for weight in layer.weights:
        weight.assign(spread(weight.shape, dtype="float32"))
    return layer


def gradients(layer, x, dy):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    return [y, *tape.gradient(y, [x, *(v.value for v in layer.trainable_variables)], dy)]


@pytest.mark.parametrize("axes", [(-1,), (1,), (1, 3), (-1, -2, -3), (0, 2)], ids=str)
@pytest.mark.parametrize("rms_scaling", [False, True])
def test_layer_normalization(axes, rms_scaling):
    x = np.random.default_rng(0).normal(3, 2, (3, 4, 2, 5))
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    sizes = tuple(n for i, n in enumerate(x.shape) if i in {a % 4 for a in axes})
    gamma, beta = spread(sizes), spread(sizes, seed=1)
    shape = [n if i in {a % 4 for a in axes} else 1 for i, n in enumerate(x.shape)]
    centred = x if rms_scaling else x - mean
    expected = gamma.reshape(shape) * centred / np.sqrt(variance + 1e-2) + beta.reshape(shape)
    y = layer_normalization(x, gamma, beta, axes=axes, epsilon=1e-2, rms_scaling=rms_scaling)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("axis", [3, 1, -2])
def test_group_normalization(axis):
    x = np.random.default_rng(0).normal(3, 2, (3, 6, 6, 6))
    gamma, beta = spread((6,)), spread((6,), seed=1)
    expected, last = np.empty_like(x), np.moveaxis(x, axis, 3)
    for n in range(3):
        for first in (0, 2, 4):
            group = last[n, :, :, first:first + 2]
            h = (group - group.mean()) / np.sqrt(group.var() + 1e-2)
            y = gamma[first:first + 2] * h + beta[first:first + 2]
            np.moveaxis(expected, axis, 3)[n, :, :, first:first + 2] = y
    y = group_normalization(x, gamma, beta, groups=3, axis=axis, epsilon=1e-2)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)


@every
def test_gradients_and_second_derivatives(layer, shape, arguments, gradient_check):
    gradient_check(layer(**arguments), spread(shape), directions=2, elements=64, second_order=True)


@every
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_equals_keras(layer, shape, arguments, jit):
    x, dy = tf.constant(spread(shape), tf.float32), tf.constant(spread(shape, 1), tf.float32)
    run = tf.function(gradients, jit_compile=jit)
    ours = run(weighted(layer(**arguments), shape), x, dy)
    stock = run(weighted(getattr(keras.layers, layer.__name__)(**arguments), shape), x, dy)
    for a, b in zip(ours, stock, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())


@pytest.mark.filterwarnings("ignore:You passed `rms_scaling=True`")
def test_rms_scaling_is_that_of_keras(gradient_check):
    x, dy = tf.constant(spread((4, 6)) + 1, tf.float32), tf.constant(spread((4, 6), 1), tf.float32)
    ours = gradients(weighted(LayerNormalization(rms_scaling=True), (4, 6)), x, dy)
    stock = gradients(weighted(keras.layers.LayerNormalization(rms_scaling=True), (4, 6)), x, dy)
    for a, b in zip(ours, stock, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    gradient_check(LayerNormalization(rms_scaling=True), spread((4, 6)) + 1)


@every
def test_empty_batch_and_batch_of_one(layer, shape, arguments):
    layer = weighted(layer(**arguments), shape)
    for n in (0, 1):
        x = tf.ones((n, *shape[1:]))
        y, dx, *dw = tf.function(gradients)(layer, x, tf.ones_like(x))
        assert y.shape == dx.shape == x.shape
        assert all(np.isfinite(t).all() for t in dw)
    assert all(not np.any(t) for t in gradients(layer, x[:0], x[:0])[2:])


@pytest.mark.parametrize("layer", [LayerNormalization(), GroupNormalization(2)], ids=str)
def test_height_and_width_may_be_unknown(layer):
    x = tf.constant(spread((2, 3, 5, 4)), tf.float32)
    layer = weighted(layer, (None, None, None, 4))
    unknown = tf.function(lambda x: gradients(layer, x, tf.ones_like(x)),
                          input_signature=[tf.TensorSpec((None, None, None, 4))])
    for a, b in zip(unknown(x), gradients(layer, x, tf.ones_like(x)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("op", [layer_normalization, group_normalization])
def test_half_precision_is_summed_in_float32(op):
    """60,000 squares of 300 are far beyond float16."""
    x = tf.constant(300 * spread((2, 10, 3000)), tf.float16)
    settings = {"axes": (1, 2)} if op is layer_normalization else {"groups": 1}
    y, backward = op.pair(x, **settings)
    dx = backward(x)[0]
    assert y.dtype == dx.dtype == tf.float16
    np.testing.assert_allclose(np.std(y.numpy().astype("float64")), 1, rtol=1e-3)
    assert np.isfinite(dx).all()


@pytest.mark.parametrize(("op", "kept"), [(layer_normalization, 2), (group_normalization, 3)])
def test_keeps_the_input_and_little_else(op, kept):
    """Two numbers a sample; group normalisation has its numbers by channel (and shift apart)."""
    x = tf.constant(spread((8, 4, 4, 6)))
    settings = {"axes": (1, 2, 3)} if op is layer_normalization else {"groups": 2}
    _, backward = op.pair(x, **settings)
    tensors = [c.cell_contents for c in backward.__closure__ if tf.is_tensor(c.cell_contents)]
    sizes = sorted(int(tf.size(t)) for t in tensors if t.dtype == x.dtype)
    assert sizes[-1] == tf.size(x)
    assert sizes[-2] <= 8 * 6
    assert len([n for n in sizes[:-1] if n > 1]) <= kept


@pytest.mark.parametrize("layer", [LayerNormalization(axis=3), GroupNormalization(1, axis=3)])
def test_an_axis_out_of_bounds_is_named(layer):
    with pytest.raises(ValueError, match="Axis 3 is out of bounds.*Received: axis="):
        layer(np.ones((2, 3, 4), "float32"))
