"""Batch normalisation in lean training: its statistics are kept, its output is not."""

import tensorflow as tf

from custom_layers.lean_links import Kind
from custom_layers.normalization import (
    _per_channel,
    _sum_over,
    batch_normalization,
    normalize_by,
)
from custom_layers.tracing import compiled_by_xla


class BatchNormalization(Kind):
    """`batch_normalization` in training: keeps mu and var, two numbers a channel, beside x.

    Again:     y = gamma * (x - mu) / sqrt(var + epsilon) + beta with the kept mu and var
    Backward:  s = 1 / sqrt(var + epsilon),  dbeta = sum dy,  dgamma = s * sum dy (x - mu)
               dx = gamma s (dy - (dbeta + (x - mu) s dgamma) / n)

    In a plain graph TensorFlow's fused kernels compute these in fewer passes over x.
    """

    def __init__(self, layer):
        self.weights = tuple(w for w in (layer.gamma, layer.beta) if w is not None)
        self.scaled, self.centred = layer.gamma is not None, layer.beta is not None
        self.settings = dict(axes=tuple(layer._reduction_axes), epsilon=layer.epsilon)

    def forward(self, xs, ws):
        (x,), (gamma, beta) = xs, self._affine(ws)
        if self._fused(x):
            gamma, beta = self._given(gamma, beta, x)
            y, mu, var, *reserved = tf.raw_ops.FusedBatchNormV3(
                x=_images(x), scale=gamma, offset=beta, mean=[], variance=[],
                epsilon=self.settings["epsilon"], is_training=True)
            n = tf.cast(tf.size(x) // x.shape[-1], var.dtype)
            biased = var * ((n - 1) / n)
            if not tf.config.list_physical_devices("GPU"):
                reserved[2] = mu  # which only a GPU's kernel reads, and which is large
            return _shaped_as(x, y), (mu, biased, *reserved[:3])
        (y, mu, var), _ = batch_normalization.pair(x, gamma, beta, **self.settings)
        return y, (mu, var)

    def again(self, xs, ws, memo):
        (x,), (mu, var, *_), (gamma, beta) = xs, memo, self._affine(ws)
        if self._fused(x):
            gamma, beta = self._given(gamma, beta, x)
            y = tf.raw_ops.FusedBatchNormV3(
                x=_images(x), scale=gamma, offset=beta, mean=mu, variance=var,
                epsilon=self.settings["epsilon"], is_training=False)[0]
            return _shaped_as(x, y)
        return normalize_by.pair(x, mu, var, gamma, beta, **self.settings)[0]

    def backward(self, dy, xs, y, ws, memo):
        (x,), (gamma, _) = xs, self._affine(ws)
        fused = self._fused_backward if self._fused(x) else self._backward
        dx, dgamma, dbeta = fused(dy, x, gamma, *memo)
        return (dx,), (*[dgamma] * self.scaled, *[dbeta] * self.centred)

    def _fused_backward(self, dy, x, gamma, mu, var, *reserved):
        gamma, _ = self._given(gamma, None, x)
        dx, dgamma, dbeta, *_ = tf.raw_ops.FusedBatchNormGradV3(
            y_backprop=_images(dy), x=_images(x), scale=gamma,
            **{f"reserve_space_{i}": t for i, t in enumerate(reserved, 1)},
            epsilon=self.settings["epsilon"], is_training=True)
        return _shaped_as(x, dx), dgamma, dbeta

    def _backward(self, dy, x, gamma, mu, var):
        axes, epsilon = self.settings["axes"], self.settings["epsilon"]
        channels, total = _per_channel(x, axes), _sum_over(axes)
        dy, wide = tf.cast(dy, mu.dtype), tf.cast(x, mu.dtype)
        n = tf.cast(tf.size(x) // tf.size(mu), mu.dtype)
        s = tf.math.rsqrt(var + epsilon)
        dbeta = total(dy)
        dgamma = s * (total(dy * wide) - mu * dbeta)
        scale = s if gamma is None else s * gamma
        slope = -scale * s * dgamma / n
        shift = -scale * dbeta / n - slope * mu
        dx = dy * channels(scale) + (wide * channels(slope) + channels(shift))
        return tf.cast(dx, x.dtype), dgamma, dbeta

    def _affine(self, ws):
        ws = list(ws)
        return ws.pop(0) if self.scaled else None, ws.pop(0) if self.centred else None

    def _fused(self, x):
        last = self.settings["axes"] == tuple(range(x.shape.rank - 1))
        return last and x.dtype == tf.float32 and not compiled_by_xla()

    def _given(self, gamma, beta, x):
        """gamma and beta as the kernels want them: always there."""
        channels = (x.shape[-1],)
        gamma = tf.ones(channels) if gamma is None else gamma
        return gamma, tf.zeros(channels) if beta is None else beta


class FrozenNormalization(Kind):
    """`normalize_by` given statistics: a map of each channel by itself, which needs no x for dx."""

    constant_count = 2

    def __init__(self, layer):
        self.weights = tuple(w for w in (layer.gamma, layer.beta) if w is not None)
        self.scaled, self.centred = layer.gamma is not None, layer.beta is not None
        self.statistics = layer.moving_mean, layer.moving_variance
        self.reads = "x" if self.scaled and layer.gamma.trainable else ""
        self.settings = dict(axes=tuple(layer._reduction_axes), epsilon=layer.epsilon)

    def constants(self):
        return tuple(tf.convert_to_tensor(s.value) for s in self.statistics)

    def forward(self, xs, ws):
        y, backward = self._pair(xs[0], ws)
        return y, None if self.reads else backward

    def backward(self, dy, xs, y, ws, memo):
        dx, _, _, dgamma, dbeta = (memo or self._pair(xs[0], ws)[1])(dy)
        return (dx,), (*[dgamma] * self.scaled, *[dbeta] * self.centred, None, None)

    def _pair(self, x, ws):
        *affine, mean, variance = ws
        gamma = affine.pop(0) if self.scaled else None
        beta = affine.pop(0) if self.centred else None
        return normalize_by.pair(x, mean, variance, gamma, beta, **self.settings)


def _images(t):
    """As the fused kernels take it: four axes, the channels last."""
    return t if t.shape.rank == 4 else tf.reshape(t, (-1, 1, 1, t.shape[-1]))


def _shaped_as(x, t):
    """What the fused kernels made of `_images(x)`, in the shape of x."""
    return t if x.shape.rank == 4 else tf.reshape(t, tf.shape(x))
