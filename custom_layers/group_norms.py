"""Layer and group normalisation: by statistics of each sample alone, in training and after."""

import math

import keras
import tensorflow as tf

from custom_layers.checks import REAL, Checked
from custom_layers.empty_batch import nothing
from custom_layers.gradient import differentiable
from custom_layers.registration import register
from custom_layers.tracing import sum_rows
from custom_layers.windows import dimensions


@differentiable
def layer_normalization(x, gamma=None, beta=None, *, axes=(-1,), epsilon=1e-3, rms_scaling=False):
    """Normalises each sample by its own mean and biased variance over `axes`.

    Forward:   mu = mean of x,  var = mean of (x - mu)^2,  both over `axes`
               s = 1 / sqrt(var + epsilon),  h = (x - mu) * s,  y = gamma * h + beta
               (rms_scaling: y = gamma * x * s, with the same var: Keras's deprecated option,
               which is not the root mean square)
    Backward:  u = gamma dy,  dx = s * (u - mean u - h * mean(u h)),  means over `axes`
               (rms_scaling: dx = s * (u - h * mean(u x s)))
               dgamma = sum of dy h (dy x s),  dbeta = sum of dy, over all other axes
    Shapes:    x (...) -> y like x;  gamma, beta: the sizes of x in `axes`, in their order in x,
               or None
    Keeps x and two numbers a sample. Half-precision x is computed with in float32.
    Source:    Ba, Kiros, Hinton, Layer Normalization, 2016, section 3.
    """
    dtype = _wide(x)
    rank, shape = x.shape.rank, dimensions(x)
    axes = sorted(axis % rank for axis in axes)
    order = [axis for axis in range(rank) if axis not in axes] + axes
    moved = order != list(range(rank))
    ordered = [shape[axis] for axis in order]
    weight = beta if gamma is None else gamma
    columns = math.prod(ordered[-len(axes):]) if weight is None else weight.shape.num_elements()
    size = (math.prod(ordered[:-len(axes)]), columns)

    def rows(t):
        """One sample a row, what is normalised together in its columns."""
        return tf.reshape(tf.transpose(t, order) if moved else t, size)

    def unrows(t):
        """The inverse of `rows`, and its adjoint."""
        back = [order.index(axis) for axis in range(rank)]
        t = tf.reshape(t, ordered)
        return tf.transpose(t, back) if moved else t

    def mean(t):
        return tf.reduce_mean(t, 1, keepdims=True)

    gain = None if gamma is None else tf.reshape(gamma, (1, -1))
    wide = tf.cast(rows(x), dtype)
    mu = mean(wide)
    s = tf.math.rsqrt(mean(tf.math.squared_difference(wide, mu)) + epsilon)
    y = (wide if rms_scaling else wide - mu) * s
    if gamma is not None:
        y = y * gain
    if beta is not None:
        y = y + tf.reshape(beta, (1, -1))

    def backward(dy):
        dy, wide = tf.cast(rows(dy), dtype), tf.cast(rows(x), dtype)
        h = (wide - mu) * s
        scaled = wide * s if rms_scaling else h
        u = dy if gamma is None else dy * gain
        dx = u - h * mean(u * scaled)
        if not rms_scaling:
            dx = dx - mean(u)
        dgamma = None if gamma is None else tf.reshape(sum_rows(dy * scaled), gamma.shape)
        dbeta = None if beta is None else tf.reshape(sum_rows(dy), beta.shape)
        return unrows(tf.cast(dx * s, x.dtype)), dgamma, dbeta

    return unrows(tf.cast(y, x.dtype)), backward


@differentiable
def group_normalization(x, gamma=None, beta=None, *, groups, axis=-1, epsilon=1e-3):
    """Normalises each group of channels of each sample by its own mean and biased variance.

    Forward:   mu = mean of x,  var = mean of (x - mu)^2,  both over the m elements of a sample
               that lie in one group: C / groups neighbouring channels, at all places
               s = 1 / sqrt(var + epsilon),  y = gamma * (x - mu) * s + beta
    Backward:  dgamma = sum of dy (x - mu) s,  dbeta = sum of dy
               dvar += -1/2 s^3 * sum gamma dy (x - mu),  dmu += -s * sum gamma dy,  by group
               dx = gamma s dy + (dmu + 2 dvar (x - mu)) / m
    Shapes:    x (N, ..., C), gamma, beta (C,) or None -> y like x;  the channels are `axis`
    Keeps x and two numbers a group. Half-precision x is computed with in float32.
    Source:    Wu, He, Group Normalization, ECCV 2018, section 3.1.
    """
    dtype = _wide(x)
    rank, shape = x.shape.rank, dimensions(x)
    axis %= rank
    channels = x.shape[axis]
    places = [i for i in range(1, rank) if i != axis]
    m = tf.cast(math.prod([channels // groups] + [shape[i] for i in places]), dtype)

    def by_channel(t):
        """The sums over all places: (N, C)."""
        return tf.reduce_sum(t, places) if places else t

    def by_group(t):
        """(N, C) summed over each group: (N, groups)."""
        return tf.reduce_sum(tf.reshape(t, (-1, groups, channels // groups)), 2)

    def of_channels(t):
        """(N, groups) -> (N, C): each channel gets the number of its group."""
        return tf.repeat(t, channels // groups, 1)

    def everywhere(t):
        """(N, C) in a shape that broadcasts against x."""
        return tf.reshape(t, [-1] + [channels if i == axis else 1 for i in range(1, rank)])

    wide = tf.cast(x, dtype)
    mu_of_groups = by_group(by_channel(wide)) / m
    mu = of_channels(mu_of_groups)
    squares = tf.math.squared_difference(wide, everywhere(mu))
    s_of_groups = tf.math.rsqrt(by_group(by_channel(squares)) / m + epsilon)
    scale = of_channels(s_of_groups) if gamma is None else of_channels(s_of_groups) * gamma
    shift = -mu * scale if beta is None else beta - mu * scale
    y = tf.cast(wide * everywhere(scale) + everywhere(shift), x.dtype)

    def backward(dy):
        if nothing(dy):
            return tuple(None if t is None else tf.zeros_like(t) for t in (x, gamma, beta))
        dy, wide = tf.cast(dy, dtype), tf.cast(x, dtype)
        mu, s = of_channels(mu_of_groups), of_channels(s_of_groups)
        scale = s if gamma is None else s * gamma
        sum_dy = by_channel(dy)
        sum_dy_centred = by_channel(dy * wide) - mu * sum_dy
        # s is one number a group: gamma s = scale comes before the sums over the group.
        dmu = -of_channels(by_group(scale * sum_dy)) / m
        twice_dvar = -s * s * of_channels(by_group(scale * sum_dy_centred)) / m
        dx = dy * everywhere(scale) + wide * everywhere(twice_dvar)
        dx = dx + everywhere(dmu - twice_dvar * mu)
        dgamma = None if gamma is None else tf.reduce_sum(s * sum_dy_centred, 0)
        dbeta = None if beta is None else tf.reduce_sum(sum_dy, 0)
        return tf.cast(dx, x.dtype), dgamma, dbeta

    return y, backward


def _wide(x):
    return tf.float32 if x.dtype in (tf.float16, tf.bfloat16) else x.dtype


def _normalize(layer, op, inputs, **settings):
    """`op` on the input and the weights of `layer`, in the dtypes that Keras uses."""
    dtype = keras.backend.result_type(inputs.dtype, "float32")
    if not inputs.dtype.is_floating:
        inputs = tf.cast(inputs, dtype)
    gamma, beta = (None if w is None else tf.cast(w, dtype) for w in (layer.gamma, layer.beta))
    return tf.cast(op(inputs, gamma, beta, epsilon=layer.epsilon, **settings), layer.compute_dtype)


@register
class LayerNormalization(Checked, keras.layers.LayerNormalization):
    """`keras.layers.LayerNormalization` on the op `layer_normalization`."""

    takes = REAL

    def build(self, input_shape):
        self.compute_output_shape(input_shape)  # says which axis is out of bounds
        super().build(input_shape)
        if self.gamma is not None or self.beta is not None:
            self.input_spec = keras.layers.InputSpec(
                min_ndim=max(a + 1 if a >= 0 else -a for a in self.axis),
                axes={a: input_shape[a] for a in self.axis},
            )

    def call(self, inputs):
        return _normalize(self, layer_normalization, inputs,
                          axes=tuple(self.axis), rms_scaling=self.rms_scaling)


@register
class GroupNormalization(Checked, keras.layers.GroupNormalization):
    """`keras.layers.GroupNormalization` on the op `group_normalization`."""

    takes = REAL

    def build(self, input_shape):
        self.compute_output_shape(input_shape)  # says which axis is out of bounds
        super().build(input_shape)

    def call(self, inputs):
        return _normalize(self, group_normalization, inputs, groups=self.groups, axis=self.axis)
