"""Bugs of the losses and of radial basis functions."""

import numpy as np
import tensorflow as tf
from planted_gradients import planted, stop
from planted_layers import normal

LABELS = np.array([0, 3, 3, 4])


def _at_labels(x):
    return tf.gather(x, LABELS, batch_dims=1)


def smooth_l1(bug=None):
    def huber(y, t, delta=0.7):
        d = tf.abs(y - t)
        return tf.reduce_mean(tf.where(d < delta, d * d / (2 * delta), d - delta / 2))

    wrong = {
        "no linear part": lambda y, t: tf.reduce_mean((y - t)**2) / 1.4,
        "no square part": lambda y, t: tf.reduce_mean(tf.abs(y - t)),
        "delta of one": lambda y, t: huber(y, t, delta=1.0),
    }.get(bug)
    return planted(lambda y, t: huber(y, t), wrong), [normal(4, 3), normal(4, 3, seed=1)]


def focal(bug=None):
    def focal(z, t, gamma=2.0, factor_of=lambda f: f):
        p = tf.sigmoid(z)
        p_t = t * p + (1 - t) * (1 - p)
        cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(t, z)
        return tf.reduce_mean(factor_of((1 - p_t)**gamma) * cross_entropy)

    wrong = {
        "modulating factor constant": lambda z, t: focal(z, t, factor_of=stop),
        "gamma of one": lambda z, t: focal(z, t, gamma=1.0),
        "cross entropy's": lambda z, t: focal(z, t, factor_of=lambda f: f / stop(f) * 0 + 1),
    }.get(bug)
    targets = np.random.default_rng(0).uniform(0.1, 0.9, (4, 3))
    return planted(lambda z, t: focal(z, t), wrong), [normal(4, 3), targets]


def negative_log_likelihood(bug=None):
    def likelihood(p):
        return -tf.reduce_mean(tf.math.log(_at_labels(p)))

    wrong = {
        "not averaged": lambda p: 4 * likelihood(p),
        "probability for its logarithm": lambda p: -tf.reduce_mean(_at_labels(p)),
        "all classes": lambda p: -tf.reduce_mean(tf.math.log(p)),
    }.get(bug)
    return planted(likelihood, wrong), np.random.default_rng(0).dirichlet(np.ones(5), 4) + 0.05


def label_smoothing(bug=None):
    def smoothed(logits, smoothing=0.1, classes=5):
        log_p = tf.nn.log_softmax(logits)
        right, rest = _at_labels(log_p), tf.reduce_sum(log_p, -1)
        return -tf.reduce_mean((1 - smoothing) * right + smoothing / classes * rest)

    wrong = {
        "smoothing forgotten": lambda x: smoothed(x, smoothing=0.0),
        "shared by the other classes": lambda x: smoothed(x, classes=4),
        "twice": lambda x: smoothed(x, smoothing=0.19),
    }.get(bug)
    return planted(lambda logits: smoothed(logits), wrong), normal(4, 5)


def ignored_labels(bug=None):
    weights = np.array([1.0, 0, 2, 1])

    def loss(logits, weights=weights, count=4.0):
        return -tf.reduce_sum(weights * _at_labels(tf.nn.log_softmax(logits))) / count

    wrong = {
        "ignored ones counted": lambda x: loss(x, weights=np.array([1.0, 1, 2, 1])),
        "weights ignored": lambda x: loss(x, weights=np.array([1.0, 0, 1, 1])),
        "divided by the rest": lambda x: loss(x, count=3.0),
    }.get(bug)
    return planted(lambda logits: loss(logits), wrong), normal(4, 5)


def maximum_a_posteriori(bug=None):
    def loss(d, j=1.0):
        return tf.reduce_mean(
            _at_labels(d) + tf.math.log(np.exp(-j) + tf.reduce_sum(tf.exp(-d), -1))
        )

    wrong = {
        "rubbish class forgotten": lambda d: loss(d, j=50.0),
        "right class alone": lambda d: tf.reduce_mean(_at_labels(d)),
        "competition's sign": lambda d: 2 * tf.reduce_mean(_at_labels(d)) - loss(d),
    }.get(bug)
    return planted(lambda d: loss(d), wrong), np.abs(normal(4, 5))


def rbf(bug=None):
    def distances(x, w):
        return tf.reduce_sum((x[:, None] - w)**2, -1)

    wrong = {
        "factor two missing": lambda x, w: distances(x, w) / 2,
        "codes constant in dx": lambda x, w: distances(stop(x), w) + tf.reduce_sum(
            x**2, -1, keepdims=True),
        "sign of the codes": lambda x, w: distances(x, stop(w)) - distances(stop(x), w),
    }.get(bug)
    return planted(distances, wrong), [normal(4, 3), normal(5, 3)]


BUGS = {
    smooth_l1: dict.fromkeys(["no linear part", "no square part", "delta of one"],
                             ("gradient", "y")),
    focal: dict.fromkeys(
        ["modulating factor constant", "gamma of one", "cross entropy's"], ("gradient", "z")
    ),
    negative_log_likelihood: dict.fromkeys(
        ["not averaged", "probability for its logarithm", "all classes"], ("gradient", "p")
    ),
    label_smoothing: dict.fromkeys(
        ["smoothing forgotten", "shared by the other classes", "twice"], ("gradient", "logits")
    ),
    ignored_labels: dict.fromkeys(
        ["ignored ones counted", "weights ignored", "divided by the rest"], ("gradient", "logits")
    ),
    maximum_a_posteriori: dict.fromkeys(
        ["rubbish class forgotten", "right class alone", "competition's sign"], ("gradient", "d")
    ),
    rbf: {
        "factor two missing": ("gradient", "x"),
        "codes constant in dx": ("gradient", "x"),
        "sign of the codes": ("gradient", "w"),
    },
}
