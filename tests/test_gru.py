"""GRU: the formula step by step in NumPy, the gradients, and the layer beside Keras's."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import recurrent_cases as recurrent
from custom_layers.gru import GRU, gru
from recurrent_cases import MASK, MODES, normal, sigmoid

N, T, D, U = 3, 5, 4, 2


def tensors(reset_after=True):
    """x, w, u, b, h0"""
    bias = (2, 3 * U) if reset_after else (3 * U,)
    shapes = (N, T, D), (D, 3 * U), (U, 3 * U), bias, (N, U)
    return [normal(*shape, seed=i) for i, shape in enumerate(shapes)]


def naive_gru(x, w, u, b, h, mask, reset_after=True, go_backwards=False,
              zero_output_for_mask=False):
    if go_backwards:
        x, mask = x[:, ::-1], mask[:, ::-1]
    b_x, b_h = b if reset_after else (b, np.zeros_like(b))
    uz, ur, ug = np.split(u, 3, 1)
    bz, br, bg = np.split(b_h, 3)
    states = []
    for t in range(x.shape[1]):
        xz, xr, xg = np.split(x[:, t] @ w + b_x, 3, 1)
        z, r = sigmoid(xz + h @ uz + bz), sigmoid(xr + h @ ur + br)
        g = np.tanh(xg + (r * (h @ ug + bg) if reset_after else (r * h) @ ug))
        h = np.where(mask[:, t, None], z * h + (1 - z) * g, h)
        states.append(h)
    return recurrent.outputs_of(np.stack(states, 1), mask, zero_output_for_mask), h


reset_after_or_before = pytest.mark.parametrize("reset_after", [True, False],
                                                ids=["reset_after", "reset_before"])


@reset_after_or_before
@pytest.mark.parametrize("unroll", [False, True], ids=["loop", "unroll"])
@pytest.mark.parametrize("settings", [
    {}, {"go_backwards": True}, {"go_backwards": True, "zero_output_for_mask": True},
], ids=str)
def test_gru(settings, unroll, reset_after):
    settings, given = {"reset_after": reset_after, **settings}, tensors(reset_after)
    run = tf.function(functools.partial(gru, unroll=unroll, **settings))
    for mask in (MASK, np.ones_like(MASK)):
        expected = naive_gru(*given, mask, **settings)
        for ours, naive in zip(run(*given, mask), expected):
            np.testing.assert_allclose(ours, naive, atol=1e-12)
        last = gru(*given, mask, return_sequences=False, **settings)[0]
        np.testing.assert_allclose(last, expected[0][:, -1], atol=1e-12)


@reset_after_or_before
def test_gru_without_bias_and_state(reset_after):
    x, w, u, b, h0 = tensors(reset_after)
    zeros = naive_gru(x, w, u, 0 * b, 0 * h0, np.ones_like(MASK), reset_after)
    for ours, expected in zip(gru(x, w, u, reset_after=reset_after), zeros):
        np.testing.assert_allclose(ours, expected, atol=1e-12)


@reset_after_or_before
@pytest.mark.parametrize("masked", [False, True], ids=["all", "mask"])
@pytest.mark.parametrize("settings", [
    {"go_backwards": True}, {"return_sequences": False, "unroll": True},
    {"activation": "relu", "recurrent_activation": "hard_sigmoid", "zero_output_for_mask": True},
], ids=str)
def test_gru_gradients_are_proven_in_every_mode(settings, masked, reset_after, gradient_check):
    op = functools.partial(gru, reset_after=reset_after, **settings)
    inputs = [*tensors(reset_after), MASK if masked else None, None]
    report = gradient_check(op, inputs, directions=2, elements=96)
    assert set(report.errors) == {"eager", "graph", "xla"}
    assert report.error <= 1e-6


@reset_after_or_before
def test_gru_second_derivatives_are_right(reset_after, gradient_check):
    x, w, u, b, h0 = tensors(reset_after)
    inputs = [x[:2, :3], w, u, b, h0[:2], MASK[:2, :3], None]
    op = functools.partial(gru, reset_after=reset_after)
    report = gradient_check(op, inputs, directions=1, elements=32, second_order=True)
    assert report.error <= 1e-6


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("mask", "arguments"), [
    (None, {}), (None, {"return_sequences": True, "go_backwards": True, "use_bias": False}),
    (MASK, {"return_sequences": True, "zero_output_for_mask": True, "unroll": True}),
    (MASK, {"go_backwards": True, "reset_after": False}),
    (MASK, {"return_sequences": True, "activation": "relu"}),
    (None, {"reset_after": False, "return_sequences": True, "use_bias": False}),
    (None, {"activation": "softsign"}),
], ids=lambda v: "mask" if v is MASK else str(v))
def test_equals_the_layer_of_keras(mode, mask, arguments):
    for states in (0, 1):
        recurrent.assert_layer_equals(GRU, keras.layers.GRU, mode, mask=mask, states=states,
                                      **arguments)


@pytest.mark.parametrize(("position", "value", "message"), [
    (0, np.ones((3, 4)), r"\(batch, steps, features\).*Received: x.shape=\(3, 4\)"),
    (1, np.ones((3, 6)), r"w.shape=\(3, 6\)"),
    (2, np.ones((2, 8)), r"\(units, 3 \* units\) = \(2, 6\). Received: u.shape=\(2, 8\)"),
    (3, np.ones(6), r"b.shape=\(6,\)"),
    (4, np.ones((3, 7)), r"\(batch, units\) = \(3, 2\). Received: state.shape=\(3, 7\)"),
    (5, np.ones((3, 4), bool), r"\(batch, steps\) = \(3, 5\). Received: mask.shape=\(3, 4\)"),
])
def test_gru_says_what_is_wrong(position, value, message):
    arguments = [*tensors(), MASK]
    arguments[position] = value
    for run in (gru, tf.function(gru)):
        with pytest.raises(ValueError, match=message):
            run(*arguments)
