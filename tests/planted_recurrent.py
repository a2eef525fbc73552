"""Bugs of back-propagation through time."""

import numpy as np
import tensorflow as tf
from planted_gradients import planted, replaced, stop
from planted_layers import normal

STEPS, UNITS = 4, 2
MASK = np.array([[1.0, 1, 1, 1], [1, 1, 0, 0], [1, 0, 1, 1]])[..., None]


def _lstm(x, w, u, b, *, mask=MASK, cut=lambda t, h, c: (h, c), order=(0, 1, 2, 3),
          biased=lambda t, b: b, candidate=tf.tanh):
    h = c = tf.zeros([3, UNITS], x.dtype)
    for t in range(STEPS):
        h, c = cut(t, h, c)
        gates = tf.split(x[:, t] @ w + h @ u + biased(t, b), 4, axis=-1)
        i, f, g, o = (gates[k] for k in order)
        next_c = tf.sigmoid(f) * c + tf.sigmoid(i) * candidate(g)
        next_h = tf.sigmoid(o) * tf.tanh(next_c)
        m = tf.constant(mask[:, t], x.dtype)
        h, c = m * next_h + (1 - m) * h, m * next_c + (1 - m) * c
    return h


def lstm(bug=None):
    def lstm(x, w, u, b):
        return _lstm(x, w, u, b)

    def but(**settings):
        return lambda *tensors: _lstm(*tensors, **settings)

    wrong = {
        "a time step forgotten": but(
            cut=lambda t, h, c: (stop(h), stop(c)) if t == 2 else (h, c)),
        "cell path cut": but(cut=lambda t, h, c: (h, stop(c))),
        "hidden path cut": but(cut=lambda t, h, c: (stop(h), c)),
        "mask ignored": but(mask=np.ones_like(MASK)),
        "input and forget gate exchanged": but(order=(1, 0, 2, 3)),
        "candidate's slope of a sigmoid": but(
            candidate=lambda g: replaced(tf.tanh(g), tf.sigmoid(g))),
        "bias of the last step alone": but(
            biased=lambda t, b: b if t == STEPS - 1 else stop(b)),
        "recurrent weight of the last step alone": lambda x, w, u, b: _lstm(x, w, stop(u), b)
        + tf.reduce_sum(u) * tf.zeros([3, UNITS], x.dtype) + stop(_lstm(x, w, u, b)) @ u[:, :UNITS],
    }.get(bug)
    return planted(lstm, wrong), [normal(3, STEPS, 2), normal(2, 4 * UNITS),
                                  normal(UNITS, 4 * UNITS), normal(4 * UNITS)]


def _gru(x, w, u, *, reset_of=lambda r: r, update=lambda z: z, reset_after=False):
    h = tf.zeros([3, UNITS], x.dtype)
    for t in range(STEPS):
        wz, wr, wg = tf.split(x[:, t] @ w, 3, axis=-1)
        uz, ur, ug = tf.split(u, 3, axis=-1)
        z, r = update(tf.sigmoid(wz + h @ uz)), reset_of(tf.sigmoid(wr + h @ ur))
        inner = r * (h @ ug) if reset_after else (r * h) @ ug
        h = z * h + (1 - z) * tf.tanh(wg + inner)
    return h


def gru(bug=None):
    def gru(x, w, u):
        return _gru(x, w, u)

    def but(**settings):
        return lambda *tensors: _gru(*tensors, **settings)

    wrong = {
        "reset gate constant": but(reset_of=stop),
        "update gate constant": but(update=stop),
        "update gate inverted": but(update=lambda z: replaced(z, 1 - z)),
        "reset after the product": but(reset_after=True),
    }.get(bug)
    inputs = [normal(3, STEPS, 2), normal(2, 3 * UNITS), normal(UNITS, 3 * UNITS)]
    return planted(gru, wrong), inputs


BUGS = {
    lstm: {
        "a time step forgotten": ("gradient", "x"),
        "cell path cut": ("gradient", "x"),
        "hidden path cut": ("gradient", "u"),
        "mask ignored": ("gradient", "x"),
        "input and forget gate exchanged": ("gradient", "w"),
        "candidate's slope of a sigmoid": ("gradient", "w"),
        "bias of the last step alone": ("gradient", "b"),
        "recurrent weight of the last step alone": ("gradient", "u"),
    },
    gru: {
        "reset gate constant": ("gradient", "u"),
        "update gate constant": ("gradient", "w"),
        "update gate inverted": ("gradient", "w"),
        "reset after the product": ("gradient", "u"),
    },
}
