"""Small right layers, as functions, and the bugs planted in them: see `planted_bugs`."""

import itertools

import keras
import numpy as np
import tensorflow as tf

from custom_layers.gradient import differentiable


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def dense(bug=None, decorate=tf.custom_gradient):
    calls = itertools.count()

    def op(x, w, b):
        def backward(dy):
            if bug == "dy ignored":
                dy = tf.ones_like(dy)
            if bug == "dy averaged":
                dy = tf.fill(tf.shape(dy), tf.reduce_mean(dy))
            if bug == "dy clipped":
                dy = tf.clip_by_value(dy, -0.5, 0.5)
            if bug == "raises":
                raise RuntimeError("out of ideas")
            dx, dw, db = dy @ tf.transpose(w), tf.transpose(x) @ dy, tf.reduce_sum(dy, 0)
            one = tf.one_hot(1, 3, dtype=dw.dtype)
            if bug == "sign":
                dx = -dx
            if bug == "factor 2":
                dw *= 2
            if bug == "factor 1/2":
                dw /= 2
            if bug == "averaged over the batch":
                dw /= 3
            if bug == "transposed":
                dw = tf.transpose(dw)
            if bug == "exchanged":
                dx, dw = dw, dx
            if bug == "bias over the wrong axis":
                db = tf.reduce_sum(dy, 1)
            if bug == "bias not summed":
                db = dy
            if bug == "one element wrong":
                dx += one[:, None] * one * 1e-3
            if bug == "one weight wrong":
                dw *= 1 + one[:, None] * one
            if bug == "last row zero":
                dx *= tf.constant([[1], [1], [0]], dx.dtype)
            if bug == "wrong for negative inputs":
                dx = tf.where(x < 0, 0, dx)
            if bug == "wrong for large inputs":
                dx = tf.where(tf.abs(x) > 1, tf.zeros_like(dx), dx)
            if bug == "wrong in graphs" and not tf.executing_eagerly():
                dw = -dw
            if bug == "zero":
                dw = tf.zeros_like(dw)
            if bug == "none":
                dw = None
            if bug == "nan":
                dw /= 1 - one
            if bug == "wrong shape":
                dw = dw[None]
            if bug == "wrong dtype":
                dw = tf.cast(dw, "float32")
            if bug == "too few":
                return dx, dw
            if bug == "not deterministic":
                dw += 1e-9 * next(calls)
            if bug == "random":
                dw += 1e-9 * tf.random.normal(tf.shape(dw), dtype=dw.dtype)
            return dx, dw, db

        return x @ w + b, backward

    return decorate(op), [2 * normal(3, 3), normal(3, 3, seed=1), normal(3)]


def checked_dense(bug=None):
    """As `dense`, but with `differentiable`, which raises where the gradient has a wrong form."""
    return dense(bug, decorate=differentiable)


def conv2d(bug=None):
    stride, size = 2, 3

    @differentiable
    def op(x, w):
        def backward(dy):
            used, step, upstream = w, stride, dy
            if bug == "kernel flipped":
                used = tf.reverse(w, [0, 1])
            if bug == "stride ignored":
                step, room = 1, x.shape[1] - size + 1 - dy.shape[1]
                upstream = tf.pad(dy, [[0, 0], [0, room], [0, room], [0, 0]])
            dx = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(x), filter=used, out_backprop=upstream,
                strides=[1, step, step, 1], padding="VALID",
            )
            dw = tf.raw_ops.Conv2DBackpropFilter(
                input=x, filter_sizes=tf.shape(w), out_backprop=dy,
                strides=[1, stride, stride, 1], padding="VALID",
            )
            if bug == "padding off by one":
                dx = tf.pad(dx, [[0, 0], [1, 0], [0, 0], [0, 0]])[:, :-1]
            if bug == "height and width swapped":
                dw = tf.transpose(dw, [1, 0, 2, 3])
            if bug == "channels swapped":
                dw = tf.transpose(dw, [0, 1, 3, 2])
            if bug == "kernel gradient flipped":
                dw = tf.reverse(dw, [0, 1])
            if bug == "averaged over positions":
                dw /= dy.shape[1] * dy.shape[2]
            if bug == "first channel only":
                dw *= tf.constant([1, 0], dw.dtype)
            return dx, dw

        return tf.nn.conv2d(x, w, stride, "VALID"), backward

    return op, [normal(2, 7, 7, 2), normal(size, size, 2, 2)]


def max_pooling(bug=None):
    @differentiable
    def pool(x):
        pairs = tf.reshape(x, [4, 3, 2])
        y = tf.reduce_max(pairs, -1)

        def backward(dy):
            first = tf.one_hot(tf.argmax(pairs, -1), 2, dtype=x.dtype)
            if bug == "every winner takes all":
                first = tf.cast(pairs == y[..., None], x.dtype)
            if bug == "the loser wins":
                first = tf.one_hot(tf.argmin(pairs, -1), 2, dtype=x.dtype)
            if bug == "the mean":
                first = tf.fill([4, 3, 2], tf.cast(0.5, x.dtype))
            return tf.reshape(first * dy[..., None], [4, 6])

        return y, backward

    return pool, normal(4, 6)


def tied_max_pooling(bug=None):
    """Every input stands in both places of its window, so that all are ties.

    Moved together, tied inputs are no kink of the whole: where the gradient goes can be checked.
    """
    pool, _ = max_pooling(bug)
    return lambda x: pool(tf.repeat(x, 2, axis=1)), normal(4, 3)


def average_pooling(bug=None):
    @differentiable
    def op(x):
        y = tf.nn.avg_pool2d(x, 2, 2, "VALID")

        def backward(dy):
            spread = tf.repeat(tf.repeat(dy, 2, 1), 2, 2)
            if bug == "not divided":
                return spread
            if bug == "divided by 2":
                return spread / 2
            if bug == "to one element":
                return spread * tf.tile(tf.constant([1, 0], x.dtype), [2])[:, None]
            return spread / 4

        return y, backward

    return op, normal(2, 4, 4, 2)


def batch_norm(bug=None):
    @differentiable
    def op(x, gamma, beta):
        n = x.shape[0]
        mean, variance = tf.nn.moments(x, 0)
        scale = tf.math.rsqrt(variance + 1e-3)
        z = (x - mean) * scale

        def backward(dy):
            dz, dgamma, dbeta = dy * gamma, tf.reduce_sum(dy * z, 0), tf.reduce_sum(dy, 0)
            mean_term, variance_term = tf.reduce_mean(dz, 0), z * tf.reduce_mean(dz * z, 0)
            if bug == "no mean term":
                mean_term = 0
            if bug == "no variance term":
                variance_term = 0
            if bug == "unbiased count":
                variance_term *= n / (n - 1)
            if bug == "gamma forgotten":
                return (dy - tf.reduce_mean(dy, 0) - z * tf.reduce_mean(dy * z, 0)) * scale, \
                    dgamma, dbeta
            if bug == "gamma by x":
                dgamma = tf.reduce_sum(dy * x, 0)
            if bug == "beta averaged":
                dbeta /= n
            return (dz - mean_term - variance_term) * scale, dgamma, dbeta

        return gamma * z + beta, backward

    return op, [normal(6, 3), normal(3), normal(3, seed=1)]


def dropout(bug=None):
    @differentiable
    def op(x, seed):
        def masked(t, seed):
            return tf.where(tf.random.stateless_uniform([4, 5], seed) > 0.5, t * 2, 0)

        def backward(dy):
            if bug == "stale seed":
                return masked(dy, seed + 1), None
            if bug == "mask not scaled":
                return masked(dy, seed) / 2, None
            if bug == "mask inverted":
                return 2 * dy - masked(dy, seed), None
            if bug == "not masked":
                return 2 * dy, None
            return masked(dy, seed), None

        return masked(x, seed), backward

    return op, [normal(4, 5), np.array([1, 2])]


class Moving(keras.layers.Layer):
    """Subtracts the batch's mean, and keeps count and mean."""

    def __init__(self, bug=None, **kwargs):
        super().__init__(**kwargs)
        self.bug = bug
        self.seeds = keras.random.SeedGenerator(1)

    def build(self, shape):
        self.moving_mean = self.add_weight(
            shape=(shape[-1],), initializer="zeros", trainable=False, name="moving_mean"
        )
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        @tf.custom_gradient
        def centred(x, scale):
            def update():
                self.moving_mean.assign(0.9 * self.moving_mean + 0.1 * tf.reduce_mean(x, 0))

            def backward(dy):
                if self.bug == "statistics moved twice":
                    update()
                if self.bug == "seed drawn again":
                    self.seeds.next()
                dx = (dy - tf.reduce_mean(dy, 0)) * scale
                return dx, tf.reduce_sum(dy * (x - tf.reduce_mean(x, 0)), 0)

            update()
            self.seeds.next()
            return (x - tf.reduce_mean(x, 0)) * scale, backward

        scale = tf.convert_to_tensor(self.scale)
        return centred(x, tf.stop_gradient(scale) if self.bug == "weight cut off" else scale)


def layer(bug=None):
    return Moving(bug, name="moving", dtype="float64"), normal(4, 5)
