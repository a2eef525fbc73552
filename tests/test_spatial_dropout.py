"""SpatialDropout2D: whole maps, the same in the backward pass, from Keras's seed."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers.examples import spread
from custom_layers.spatial_dropout import SpatialDropout2D

FORMATS = pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])


def maps(t, data_format):
    """(N, C, places)."""
    t = np.moveaxis(np.asarray(t), -1, 1) if data_format == "channels_last" else np.asarray(t)
    return t.reshape(*t.shape[:2], -1)


@FORMATS
@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_whole_maps_are_dropped_and_the_rest_scaled(data_format, rate):
    shape = (20, 3, 4, 100) if data_format == "channels_last" else (20, 100, 3, 4)
    y = SpatialDropout2D(rate, data_format, seed=0)(np.ones(shape, "float32"), training=True)
    y = maps(y, data_format)
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :, :1], y.shape))
    kept = y[:, :, 0] != 0
    assert abs(kept.mean() - (1 - rate)) < 0.05
    np.testing.assert_allclose(y[:, :, 0][kept], 1 / (1 - rate), rtol=1e-6)
    assert len({tuple(row) for row in kept}) > 1  # each image draws its own


@FORMATS
@pytest.mark.parametrize("jit", [None, False, True], ids=["eager", "graph", "xla"])
def test_the_backward_pass_drops_what_the_forward_pass_dropped(data_format, jit):
    layer = SpatialDropout2D(0.5, data_format, seed=3)

    def run(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        return y, tape.gradient(y, x, dy)

    run = run if jit is None else tf.function(run, jit_compile=jit)
    x = tf.constant(spread((3, 4, 5, 6)), tf.float32)
    for _ in range(2):
        y, dx = run(x, x)
        np.testing.assert_array_equal(y, dx)
        assert 0 < np.mean(np.asarray(y) == 0) < 1


@FORMATS
def test_gradients_and_second_derivatives(data_format, gradient_check):
    gradient_check(SpatialDropout2D(0.4, data_format, seed=1), spread((2, 3, 4, 5)), directions=2,
                   elements=64, second_order=True)


def test_inference_and_rate_zero_change_nothing():
    x = spread((2, 3, 4, 5), dtype="float32")
    np.testing.assert_array_equal(SpatialDropout2D(0.5)(x, training=False), x)
    np.testing.assert_array_equal(SpatialDropout2D(0.0)(x, training=True), x)


def test_a_seed_is_a_sequence_of_masks():
    x = tf.ones((2, 2, 2, 50))
    one, two = SpatialDropout2D(0.5, seed=7), SpatialDropout2D(0.5, seed=7)
    first, second = one(x, training=True), one(x, training=True)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(two(x, training=True), first)
    np.testing.assert_array_equal(two(x, training=True), second)


@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_unknown_sizes_and_every_float_type(batch, dtype):
    layer = SpatialDropout2D(0.5, seed=1, dtype=dtype)
    spec = tf.TensorSpec((None, None, None, 8), dtype)
    y = tf.function(lambda x: layer(x, training=True), input_signature=[spec])(
        tf.ones((batch, 3, 4, 8), dtype))
    assert y.dtype == dtype
    assert set(np.unique(tf.cast(y, tf.float32))) <= {0.0, 2.0}


def test_drops_as_often_as_keras():
    x = tf.ones((200, 1, 1, 200))
    ours, stock = (np.mean(m(0.3, seed=1)(x, training=True) != 0)
                   for m in (SpatialDropout2D, keras.layers.SpatialDropout2D))
    np.testing.assert_allclose([ours, stock], 0.7, atol=0.01)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.1])
def test_a_rate_outside_0_to_1_is_refused(rate):
    with pytest.raises(ValueError, match=f"rate={rate}|Received: {rate}"):
        SpatialDropout2D(rate)
