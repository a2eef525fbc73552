"""Global pooling against NumPy and Keras; ties and masks."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers.examples import spread
from custom_layers.global_pooling import (
    GlobalAveragePooling1D,
    GlobalMaxPooling2D,
    global_max_pool,
    masked_average,
)

MASK = np.array([[1, 1, 0, 1, 0], [0, 0, 0, 1, 0]], bool)
FORMATS = pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
MODES = pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
KEEPDIMS = pytest.mark.parametrize("keepdims", [False, True])


def gradients(layer, x, dy, **kwargs):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, **kwargs)
    return y, tape.gradient(y, x, tf.reshape(tf.cast(dy, y.dtype), tf.shape(y)))


def assert_twins(ours, stock, x, jit, **kwargs):
    dy = np.random.default_rng(1).normal(size=stock.compute_output_shape(x.shape))
    run = functools.partial(tf.function, jit_compile=jit)
    for a, b in zip(run(gradients)(ours, x, dy, **kwargs), run(gradients)(stock, x, dy, **kwargs)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@KEEPDIMS
@FORMATS
def test_global_max(data_format, keepdims, gradient_check):
    x = spread((2, 5, 6, 3))
    axes = (1, 2) if data_format == "channels_last" else (2, 3)
    layer = GlobalMaxPooling2D(data_format=data_format, keepdims=keepdims, dtype="float64")
    np.testing.assert_array_equal(layer(x), x.max(axes, keepdims=keepdims))
    assert gradient_check(layer, x, directions=2, elements=64, second_order=True).error <= 1e-6


@MODES
@KEEPDIMS
@FORMATS
def test_global_max_equals_keras_ties_too(data_format, keepdims, jit):
    arguments = {"data_format": data_format, "keepdims": keepdims}
    x = tf.constant(np.random.default_rng(0).integers(0, 3, (2, 5, 6, 3)), tf.float32)
    assert_twins(GlobalMaxPooling2D(**arguments), keras.layers.GlobalMaxPooling2D(**arguments),
                 x, jit)


def test_ties_share_the_gradient():
    y, backward = global_max_pool.pair(tf.constant([[[[1.0], [3.0]], [[3.0], [3.0]]]]))
    np.testing.assert_array_equal(backward(6 * tf.ones_like(y))[0, :, :, 0], [[0, 2], [2, 2]])


def test_ties_are_counted_beyond_half_precision():
    y, backward = global_max_pool.pair(tf.zeros((1, 64, 64, 1), tf.bfloat16))
    assert float(tf.reduce_sum(tf.cast(backward(tf.ones_like(y)), tf.float32))) == 1


@KEEPDIMS
@pytest.mark.parametrize("axis", [1, 2])
def test_masked_average(axis, keepdims, gradient_check):
    x = spread((2, 5, 3))
    expected = np.stack([sequence[m].mean(0) for sequence, m in zip(x, MASK)])
    if keepdims:
        expected = np.expand_dims(expected, axis)
    x = x if axis == 1 else x.transpose(0, 2, 1)
    op = functools.partial(masked_average, axis=axis, keepdims=keepdims)
    np.testing.assert_allclose(op(x, MASK), expected, rtol=1e-12)
    assert gradient_check(lambda x: op(x, MASK), [x], directions=2, elements=64,
                          second_order=True).error <= 1e-6


@MODES
@pytest.mark.parametrize("mask", [None, MASK, MASK.astype("int32")], ids=["none", "bool", "int"])
@KEEPDIMS
@FORMATS
def test_global_average_equals_keras(data_format, keepdims, mask, jit):
    arguments = {"data_format": data_format, "keepdims": keepdims}
    shape = (2, 5, 3) if data_format == "channels_last" else (2, 3, 5)
    x = tf.constant(spread(shape), tf.float32)
    ours, stock = (c(**arguments) for c in (GlobalAveragePooling1D,
                                            keras.layers.GlobalAveragePooling1D))
    assert_twins(ours, stock, x, jit, **({} if mask is None else {"mask": mask}))


def test_the_mask_of_a_layer_before_arrives():
    x = np.array([[1, 2, 0, 0], [3, 0, 0, 0]])
    embedding = keras.layers.Embedding(4, 3, mask_zero=True)
    y = keras.Sequential([embedding, GlobalAveragePooling1D()])(x)
    table = embedding.embeddings.numpy()
    np.testing.assert_allclose(y, [table[1:3].mean(0), table[3]], rtol=1e-6)


def test_a_sequence_without_steps_is_nan_as_in_keras_and_has_no_gradient():
    mask = tf.constant([[True, False], [False, False]])
    y, backward = masked_average.pair(tf.ones((2, 2, 1)), mask)
    np.testing.assert_array_equal(y, [[1], [np.nan]])
    np.testing.assert_array_equal(backward(tf.ones_like(y))[0][..., 0], [[1, 0], [0, 0]])


def test_long_half_precision_sums_do_not_overflow():
    x = tf.fill((1, 5000, 1), tf.constant(100, tf.float16))
    y = masked_average(x, tf.fill((1, 5000), True))
    assert y.dtype == tf.float16 and float(y[0, 0]) == 100


@FORMATS
def test_mask_of_the_wrong_shape(data_format):
    layer = GlobalAveragePooling1D(data_format=data_format, name="mean")
    message = r"`mask` of layer mean must .*Received: mask.shape=\(2, 4\)"
    with pytest.raises(ValueError, match=message):
        layer(np.ones((2, 5, 5), "float32"), mask=np.ones((2, 4), bool))
    with pytest.raises(ValueError, match=message):
        tf.function(layer)(tf.ones((2, 5, 5)), mask=tf.ones((2, 4), tf.bool))


@pytest.mark.parametrize("layer", [GlobalMaxPooling2D, GlobalAveragePooling1D])
def test_empty_batch(layer):
    shape = (0, 4, 5, 3) if layer is GlobalMaxPooling2D else (0, 4, 3)
    y, dx = tf.function(gradients)(layer(), tf.ones(shape), tf.ones((0, 3)))
    assert y.shape == (0, 3) and dx.shape == shape
