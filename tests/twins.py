"""Our layer beside Keras's with the same weights."""

import numpy as np
import tensorflow as tf

from custom_layers.examples import spread


def assert_twins(ours, stock, shape, jit):
    """Outputs and gradients of two layers that are built here agree on an input of this shape."""
    x = tf.constant(spread(shape), tf.float32)
    for layer in (ours, stock):
        layer.build(x.shape)
    ours.set_weights(stock.get_weights())

    @tf.function(jit_compile=jit)
    def gradients(layer, x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return [y, *tape.gradient(y, [x, *(v.value for v in layer.trainable_variables)], dy)]

    dy = spread(stock.compute_output_shape(x.shape), seed=1, dtype="float32")
    for a, b in zip(gradients(ours, x, dy), gradients(stock, x, dy), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def assert_empty_batch(op, x, w, b):
    """Of an empty x, dx has x's shape, and the weights' gradients are 0, in every mode."""
    def run(x, w, b):
        y, backward = op.func.pair(x, w, b, **op.keywords)
        return backward(y)

    for mode in (run, tf.function(run), tf.function(run, jit_compile=True)):
        dx, dw, db = mode(x, w, b)
        assert dx.shape == x.shape
        assert not np.any(dw) and not np.any(db)
