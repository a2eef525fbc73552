"""Convolution: what TensorFlow's own kernels get wrong."""

import numpy as np
import pytest
import tensorflow as tf

from custom_layers.convolution import conv2d


@pytest.mark.parametrize("padding", ["same", ((1, 1), (1, 1))])
@pytest.mark.parametrize("height, stride", [(1, 2), (3, 2), (3, 3)])
def test_taps_that_see_no_pixel_have_no_gradient(height, stride, padding):
    """In memory that was NaN before: TensorFlow leaves it there for maps of width 1."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        for size in (1, 2, 4):
            tf.fill([9 * 8 * 16 * size], tf.constant(np.nan, tf.bfloat16))
        x = tf.constant(rng.normal(size=(8, height, 1, 8)), tf.bfloat16)
        w = tf.constant(rng.normal(size=(3, 3, 8, 16)), tf.bfloat16)
        y, backward = conv2d.pair(x, w, strides=(stride, stride), padding=padding)
        _, dw, _ = backward(tf.ones_like(y))
        dw = tf.cast(dw, tf.float32).numpy()
        assert np.isfinite(dw).all() and not dw[:, 0].any() and not dw[:, 2].any()
        assert dw[:, 1].any()
