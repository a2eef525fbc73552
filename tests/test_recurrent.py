"""What LSTM and GRU promise alike: the layer beside Keras's in each use, masks, half precision."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import recurrent_cases as recurrent
import test_gru
import test_lstm
from custom_layers.gru import GRU, gru
from custom_layers.lstm import LSTM, lstm
from recurrent_cases import MASK, MODES, normal

both = pytest.mark.parametrize("ours", [LSTM, GRU])
every_mode = pytest.mark.parametrize("mode", MODES)
compiled = pytest.mark.parametrize("mode", ["graph", "xla"])


def stock(ours):
    return getattr(keras.layers, ours.__name__)


def op_of(ours):
    """The op of the layer, and tensors for it: x, w, u, b and the states."""
    return {LSTM: (lstm, test_lstm.tensors()), GRU: (gru, test_gru.tensors())}[ours]


@both
@every_mode
def test_a_tape_around_the_compiled_function(ours, mode):
    """The gradient is then another function, to which what the forward pass keeps is handed on."""
    op, tensors = op_of(ours)
    tensors = [tf.constant(t) for t in tensors]
    results = []
    for run in (MODES[mode](op), op):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            y = run(*tensors, MASK, None)[0]
            loss = tf.reduce_sum(y * y)
        results.append(tape.gradient(loss, tensors))
    recurrent.assert_close(*results, tolerance=1e-9)


@both
def test_what_a_mask_hides_does_not_reach_outputs_and_gradients(ours):
    op, tensors = op_of(ours)
    x, *others = (tf.constant(t) for t in [*tensors, MASK])
    outputs = op(tf.where(MASK[..., None], x, np.nan), *others)
    (same, *_), backward = op.pair(tf.where(MASK[..., None], x, 7.0), *others)
    np.testing.assert_array_equal(outputs[0], same)
    assert not np.any(backward(*outputs)[0].numpy()[~MASK])


@both
@pytest.mark.parametrize(("arguments", "runs"), [
    ({}, True), ({"dropout": 0.5}, True), ({"recurrent_activation": "hard_sigmoid"}, True),
    ({"recurrent_dropout": 0.5}, False), ({"activation": "softsign"}, False),
    ({"dropout": 0.5, "implementation": 1}, False),
], ids=str)
def test_the_op_runs_where_it_has_a_backward(ours, arguments, runs, monkeypatch):
    (op, _), calls, name = op_of(ours), [], ours.__name__.lower()
    monkeypatch.setattr(f"custom_layers.{name}.{name}",
                        lambda *a, **k: calls.append(name) or op(*a, **k))
    x = tf.constant(normal(3, 5, 4), tf.float32)
    keras.utils.set_random_seed(1)
    layer, twin = recurrent.twins(ours, stock(ours), x, units=6, seed=3, **arguments)
    twin.use_cudnn = False  # "auto" fails with implementation=1 and dropout, in Keras 3.15
    recurrent.assert_close(*(recurrent.gradients(one, x, training=True) for one in (layer, twin)))
    assert bool(calls) is runs
    assert layer.supports_jit


@both
def test_a_stateful_layer_goes_on(ours):
    x = tf.constant(normal(2, 6, 4), tf.float32)
    whole, _ = recurrent.twins(ours, ours, x, units=3)
    parts, twin = recurrent.twins(ours, stock(ours), x[:, :3], units=3, stateful=True)
    for layer in (parts, twin):
        layer(x[:, :3]), layer(x[:, 3:])
    for state, expected in zip(parts.states, twin.states, strict=True):
        np.testing.assert_allclose(state, expected, rtol=1e-4)
    np.testing.assert_allclose(parts.states[0], whole(x), rtol=1e-4)
    parts.reset_state()
    assert not np.any(parts.states[0])


@both
@compiled
def test_both_directions(ours, mode):
    x = tf.constant(normal(3, 5, 4), tf.float32)
    layers = []
    for cls in (ours, stock(ours)):
        layer = keras.layers.Bidirectional(cls(6, return_sequences=True, name="one"))
        layer.build(x.shape)
        layer.set_weights([normal(*w.shape, seed=i) for i, w in enumerate(layer.get_weights())])
        layers.append(layer)
    assert type(layers[0].backward_layer) is ours
    run = MODES[mode](recurrent.gradients)
    recurrent.assert_close(run(layers[0], x, mask=MASK), run(layers[1], x, mask=MASK))


@both
@compiled
@pytest.mark.parametrize("n", [1, 0], ids="batch{}".format)
def test_unknown_batch_and_steps(ours, mode, n):
    layer, _ = recurrent.twins(ours, ours, np.ones((3, 5, 4)), units=6, return_sequences=True)
    spec = [tf.TensorSpec((None, None, 4)), tf.TensorSpec((None, None), tf.bool)]
    run = tf.function(lambda x, mask: recurrent.gradients(layer, x, mask=mask), spec,
                      jit_compile=mode == "xla")
    x, mask = tf.constant(normal(n, 7, 4), tf.float32), tf.ones((n, 7), tf.bool)
    recurrent.assert_close(run(x, mask), recurrent.gradients(layer, x, mask=mask))


@both
@every_mode
@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_float16", 5e-3),
                                                   ("mixed_bfloat16", 4e-2)])
def test_half_precision(ours, policy, tolerance, mode):
    x = normal(3, 5, 4)
    wide, _ = recurrent.twins(ours, ours, x, units=6, return_sequences=True)
    half, _ = recurrent.twins(ours, ours, x, units=6, return_sequences=True, dtype=policy)
    y, dx, *dw = MODES[mode](recurrent.gradients)(half, tf.cast(x, half.compute_dtype), mask=MASK)
    assert y.dtype == dx.dtype == half.compute_dtype
    expected = recurrent.gradients(wide, tf.cast(x, "float32"), mask=MASK)
    recurrent.assert_close([y, dx, *dw], expected, tolerance)
