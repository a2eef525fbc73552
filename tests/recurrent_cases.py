"""What the tests of LSTM and GRU share: sequences, masks, and a layer's gradients in each mode."""

import numpy as np
import tensorflow as tf

MODES = {"eager": lambda f: f, "graph": tf.function,
         "xla": lambda f: tf.function(f, jit_compile=True)}
# Gaps, a first step left out, a last one, and one that sees all.
MASK = np.array([[0, 1, 1, 0, 1], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]], bool)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def outputs_of(states, mask, zero_output_for_mask):
    """Keras's outputs (N, T, U) of the states of all steps, in the order that they were read."""
    y, last = np.zeros_like(states), np.zeros_like(states[:, 0])
    for n in range(len(states)):
        for t in range(states.shape[1]):
            if mask[n, t]:
                last[n] = states[n, t]
            y[n, t] = 0 if zero_output_for_mask and not mask[n, t] else last[n]
    return y


def twins(ours, stock, x, **arguments):
    """Our layer and Keras's with equal weights that hide nothing."""
    layers = ours(**arguments), stock(**arguments)
    for layer in layers:
        layer.build(x.shape)
        layer.set_weights([normal(*w.shape, seed=i) for i, w in enumerate(layer.get_weights())])
    return layers


def gradients(layer, x, state=(), **kwargs):
    """All outputs, and the gradients of input, initial state and weights."""
    with tf.GradientTape() as tape:
        tape.watch([x, *state])
        outputs = tf.nest.flatten(layer(x, initial_state=list(state) or None, **kwargs))
    # Not drawn: XLA draws other numbers from a seed.
    upstream = [tf.reshape(tf.cos(3.7 * tf.range(tf.cast(tf.size(y), "float32")) + i), tf.shape(y))
                for i, y in enumerate(outputs)]
    upstream = [tf.cast(u, y.dtype) for u, y in zip(upstream, outputs)]
    weights = [v.value for v in layer.trainable_variables]
    return outputs + tape.gradient(outputs, [x, *state, *weights], upstream)


def assert_close(ours, stock, tolerance=2e-5):
    for a, b in zip(ours, stock, strict=True):
        a, b = tf.cast(a, tf.float64), tf.cast(b, tf.float64)
        assert a.shape == b.shape
        scale = np.abs(b).max() if b.shape.num_elements() else 0
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale)


def assert_layer_equals(ours, stock, mode, *, mask=None, states=0, **arguments):
    """Outputs, final states and gradients are those of Keras's layer."""
    x = tf.constant(normal(3, 5, 4), tf.float32)
    state = [tf.constant(normal(3, 6, seed=i + 1), tf.float32) for i in range(states)]
    layer, twin = twins(ours, stock, x, units=6, return_state=True, **arguments)
    expected = tf.function(gradients)(twin, x, state, mask=mask)
    assert_close(MODES[mode](gradients)(layer, x, state, mask=mask), expected)
