"""Batch normalisation."""

import keras
import tensorflow as tf

from custom_layers.checks import REAL, Checked, check_axis, named
from custom_layers.empty_batch import zero_if_empty
from custom_layers.gradient import differentiable
from custom_layers.registration import register
from custom_layers.tracing import sum_rows


@differentiable
def batch_normalization(x, gamma=None, beta=None, mask=None, *, axes, epsilon, synchronized=False):
    """Normalises each channel by its mean and biased variance over the batch.

    Forward:   mu = mean of x,  var = mean of (x - mu)^2,  both over `axes` (and over the
               elements where mask is True),  s = 1 / sqrt(var + epsilon)
               y = gamma * (x - mu) * s + beta
    Backward:  dbeta = sum dy,  dgamma = s * sum dy (x - mu)
               dvar += -1/2 gamma s^3 * sum dy (x - mu),  dmu += -gamma s * sum dy
               dx = gamma s dy + (dmu + 2 dvar (x - mu)) / n,  n the number of elements
    Shapes:    x (N, ..., C), gamma, beta (C,) or None, mask of x's shape without its last axis
               or None -> y like x, mu (C,), var (C,); C is the one axis not in `axes`
    Keeps x and two numbers a channel. Half-precision x is computed with in float32.
    With `synchronized` the sums go over all replicas of `tf.distribute`. mu and var of an empty
    batch are 0.
    Source:    Ioffe, Szegedy, Batch Normalization, ICML 2015, section 3.
    """
    dtype = tf.float32 if x.dtype in (tf.float16, tf.bfloat16) else x.dtype
    channels, total = _per_channel(x, axes), _sum_over(axes, synchronized)
    weight = tf.ones((), dtype) if mask is None else tf.cast(mask[..., None], dtype)
    if mask is None and not synchronized:
        n = tf.cast(tf.maximum(tf.size(x) // x.shape[_channel_axis(x, axes)], 1), dtype)

        def mean(t):
            return zero_if_empty(tf.reduce_mean(t, axes), x)
    else:
        n = total(tf.broadcast_to(weight, tf.shape(x))) + keras.backend.epsilon()

        def mean(t):
            return total(t * weight) / n

    wide = tf.cast(x, dtype)
    mu = mean(wide)
    var = mean(tf.math.squared_difference(wide, channels(mu)))
    s = tf.math.rsqrt(var + epsilon)
    scale = s if gamma is None else s * gamma
    shift = -mu * scale if beta is None else beta - mu * scale
    y = tf.cast(wide * channels(scale) + channels(shift), x.dtype)

    def backward(dy, dmu, dvar):
        dy, wide = tf.cast(dy, dtype), tf.cast(x, dtype)
        sum_dy = total(dy)
        sum_dy_centred = total(dy * wide) - mu * sum_dy
        dmu = (dmu - scale * sum_dy) / n
        dvar = (dvar - 0.5 * scale * s * s * sum_dy_centred) / n
        # (dmu + 2 dvar (x - mu)) / n with the per-channel factors taken out: x is read once.
        dx = wide * channels(2 * dvar) + channels(dmu - 2 * dvar * mu)
        dx = dy * channels(scale) + weight * dx
        dgamma = None if gamma is None else s * sum_dy_centred
        return tf.cast(dx, x.dtype), dgamma, None if beta is None else sum_dy, None

    return (y, mu, var), backward


@differentiable
def normalize_by(x, mean, variance, gamma=None, beta=None, *, axes, epsilon):
    """Normalises each channel by given statistics: batch normalisation at inference.

    Forward:   s = 1 / sqrt(variance + epsilon),  y = gamma * (x - mean) * s + beta
    Backward:  dx = gamma s dy,  dbeta = sum dy,  dgamma = s * sum dy (x - mean),
               dmean = -gamma s * sum dy,  dvariance = -1/2 gamma s^3 * sum dy (x - mean)
    Shapes:    x (N, ..., C), all others (C,) -> y like x; C is the one axis not in `axes`
    """
    dtype = mean.dtype
    channels, total = _per_channel(x, axes), _sum_over(axes)
    s = tf.math.rsqrt(variance + epsilon)
    scale = s if gamma is None else s * gamma
    shift = -mean * scale if beta is None else beta - mean * scale
    y = tf.cast(tf.cast(x, dtype) * channels(scale) + channels(shift), x.dtype)

    def backward(dy):
        dy = tf.cast(dy, dtype)
        sum_dy = total(dy)
        sum_dy_centred = total(dy * tf.cast(x, dtype)) - mean * sum_dy
        dx = tf.cast(dy * channels(scale), x.dtype)
        dvariance = -0.5 * scale * s * s * sum_dy_centred
        dgamma = None if gamma is None else s * sum_dy_centred
        return dx, -scale * sum_dy, dvariance, dgamma, None if beta is None else sum_dy

    return y, backward


def _channel_axis(x, axes):
    return next(axis for axis in range(x.shape.rank) if axis not in axes)


def _per_channel(x, axes):
    """Reshapes a vector of channels so that it broadcasts against x."""
    axis = _channel_axis(x, axes)
    shape = [1] * axis + [-1] + [1] * (x.shape.rank - axis - 1)
    last = axis == x.shape.rank - 1
    return lambda vector: vector if last else tf.reshape(vector, shape)


def _sum_over(axes, synchronized=False):
    """Sums over `axes`, with `synchronized` over all replicas too."""
    def local(t):
        return sum_rows(t) if t.shape.rank - 1 not in axes else tf.reduce_sum(t, axes)

    replica = tf.distribute.get_replica_context() if synchronized else None
    if not replica:
        return local
    return lambda t: replica.all_reduce(tf.distribute.ReduceOp.SUM, local(t))


@register
class BatchNormalization(Checked, keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` on the op `batch_normalization`.

    State, masks, synchronised statistics and renormalisation are Keras's; the moving
    statistics move once a call in training, and not for an empty batch, where Keras's become NaN.
    Inputs that are no floats go Keras's own way.
    """

    takes = REAL

    def check_shape(self, shape):
        check_axis(self, self.axis, shape)

    def _check_mask(self, mask, inputs):
        if len(mask) != len(inputs) - 1:
            raise ValueError(
                "The mask provided should be one dimension less than the inputs. "
                f"Received: mask.shape={mask}, inputs.shape={inputs}"
            )
        if not all(None in (m, n) or m in (1, n) for m, n in zip(mask, inputs)):
            raise ValueError(
                f"`mask` of {named(self)} must have the shape of its inputs without the last axis. "
                f"Received: mask.shape={mask}, inputs.shape={inputs}"
            )

    def call(self, inputs, training=None, mask=None):
        if mask is not None:
            self._check_mask(tuple(mask.shape), tuple(inputs.shape))
        if not inputs.dtype.is_floating:
            return super().call(inputs, training, mask)
        dtype = keras.backend.result_type(inputs.dtype, "float32")
        gamma = tf.cast(self.gamma, dtype) if self.scale else None
        beta = tf.cast(self.beta, dtype) if self.center else None
        settings = dict(axes=tuple(self._reduction_axes), epsilon=self.epsilon)

        if not (training and self.trainable):
            mean, variance = (tf.cast(v, dtype) for v in (self.moving_mean, self.moving_variance))
            return normalize_by(inputs, mean, variance, gamma, beta, **settings)

        if self.renorm:
            return self._renormalize(inputs, gamma, beta, mask, dtype, settings)
        y, mean, variance = batch_normalization(
            inputs, gamma, beta, mask, synchronized=self.synchronized, **settings
        )
        share = zero_if_empty(tf.constant(1.0 - self.momentum, dtype), inputs)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(tf.cast(moving, dtype) * (1.0 - share) + batch * share)
        return y

    def _renormalize(self, inputs, gamma, beta, mask, dtype, settings):
        """Batch renormalisation: Keras's corrections r and d, constants for the gradient."""
        mean, variance = self._moments(tf.stop_gradient(tf.cast(inputs, dtype)), mask)
        r, d, mean, variance = self._renorm_correction_and_moments(mean, variance)
        gamma, beta = self._compose_transforms(r, d, gamma, beta, dtype)
        self._update_renorm_statistics(mean, variance)
        return batch_normalization(
            inputs, gamma, beta, mask, synchronized=self.synchronized, **settings
        )[0]
