"""LSTM: the formula step by step in NumPy, the gradients, and the layer beside Keras's."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import recurrent_cases as recurrent
from custom_layers.lstm import LSTM, lstm
from recurrent_cases import MASK, MODES, normal, sigmoid

N, T, D, U = 3, 5, 4, 2


def tensors():
    """x, w, u, b, h0, c0"""
    shapes = (N, T, D), (D, 4 * U), (U, 4 * U), (4 * U,), (N, U), (N, U)
    return [normal(*shape, seed=i) for i, shape in enumerate(shapes)]


def naive_lstm(x, w, u, b, h, c, mask, go_backwards=False, zero_output_for_mask=False):
    if go_backwards:
        x, mask = x[:, ::-1], mask[:, ::-1]
    states = []
    for t in range(x.shape[1]):
        zi, zf, zg, zo = np.split(x[:, t] @ w + h @ u + b, 4, 1)
        c_new = sigmoid(zf) * c + sigmoid(zi) * np.tanh(zg)
        h_new = sigmoid(zo) * np.tanh(c_new)
        seen = mask[:, t, None]
        h, c = np.where(seen, h_new, h), np.where(seen, c_new, c)
        states.append(h)
    return recurrent.outputs_of(np.stack(states, 1), mask, zero_output_for_mask), h, c


@pytest.mark.parametrize("unroll", [False, True], ids=["loop", "unroll"])
@pytest.mark.parametrize("settings", [
    {}, {"go_backwards": True}, {"zero_output_for_mask": True},
    {"go_backwards": True, "zero_output_for_mask": True},
], ids=str)
def test_lstm(settings, unroll):
    run = tf.function(functools.partial(lstm, unroll=unroll, **settings))
    for ours, expected in zip(run(*tensors(), MASK), naive_lstm(*tensors(), MASK, **settings)):
        np.testing.assert_allclose(ours, expected, atol=1e-12)
    every = np.ones_like(MASK)
    for ours, expected in zip(run(*tensors()), naive_lstm(*tensors(), every, **settings)):
        np.testing.assert_allclose(ours, expected, atol=1e-12)
    last = lstm(*tensors(), MASK, return_sequences=False, **settings)[0]
    np.testing.assert_allclose(last, naive_lstm(*tensors(), MASK, **settings)[0][:, -1], atol=1e-12)


def test_lstm_without_bias_and_states():
    x, w, u, b, h0, c0 = tensors()
    zeros = naive_lstm(x, w, u, 0 * b, 0 * h0, 0 * c0, np.ones_like(MASK))
    for ours, expected in zip(lstm(x, w, u), zeros):
        np.testing.assert_allclose(ours, expected, atol=1e-12)


@pytest.mark.parametrize("masked", [False, True], ids=["all", "mask"])
@pytest.mark.parametrize("settings", [
    {"go_backwards": True}, {"return_sequences": False, "unroll": True},
    {"activation": "linear", "recurrent_activation": "hard_sigmoid"},
    {"activation": "relu", "zero_output_for_mask": True},
], ids=str)
def test_lstm_gradients_are_proven_in_every_mode(settings, masked, gradient_check):
    inputs = [*tensors(), MASK if masked else None, None]
    report = gradient_check(functools.partial(lstm, **settings), inputs, directions=2, elements=96)
    assert set(report.errors) == {"eager", "graph", "xla"}
    assert report.error <= 1e-6


def test_lstm_second_derivatives_are_right(gradient_check):
    inputs = [t[:2, :3] if t.ndim == 3 else t for t in tensors()]
    inputs[4:] = [t[:2] for t in inputs[4:]]
    check = functools.partial(gradient_check, directions=1, elements=32, second_order=True)
    assert check(functools.partial(lstm), [*inputs, MASK[:2, :3], None]).error <= 1e-6


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("mask", "arguments"), [
    (None, {}), (None, {"return_sequences": True, "go_backwards": True, "use_bias": False}),
    (MASK, {"return_sequences": True, "zero_output_for_mask": True, "unroll": True}),
    (MASK, {"go_backwards": True, "recurrent_activation": "hard_sigmoid"}),
    (MASK, {"return_sequences": True, "activation": "relu"}),
    (None, {"activation": "softsign"}),
], ids=lambda v: "mask" if v is MASK else str(v))
def test_equals_the_layer_of_keras(mode, mask, arguments):
    for states in (0, 2):
        recurrent.assert_layer_equals(LSTM, keras.layers.LSTM, mode, mask=mask, states=states,
                                      **arguments)


@pytest.mark.parametrize(("position", "value", "message"), [
    (0, np.ones((3, 4)), r"\(batch, steps, features\).*Received: x.shape=\(3, 4\)"),
    (0, np.ones((3, 0, 4)), r"one step or more.*Received: x.shape=\(3, 0, 4\)"),
    (0, np.ones((3, 5, 4), int), "Received: .*x.dtype=int64"),
    (1, np.ones((3, 8)), r"w.shape=\(3, 8\)"),
    (2, np.ones((2, 6)), r"\(units, 4 \* units\) = \(2, 8\). Received: u.shape=\(2, 6\)"),
    (3, np.ones(6), r"b.shape=\(6,\)"),
    (5, np.ones((3, 7)), r"\(batch, units\) = \(3, 2\). Received: state.shape=\(3, 7\)"),
    (6, np.ones((3, 4), bool), r"\(batch, steps\) = \(3, 5\). Received: mask.shape=\(3, 4\)"),
])
def test_lstm_says_what_is_wrong(position, value, message):
    arguments = [*tensors(), MASK]
    arguments[position] = value
    for run in (lstm, tf.function(lstm)):
        with pytest.raises(ValueError, match=message):
            run(*arguments)
