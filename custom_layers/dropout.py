"""Dropout: random units removed in training."""

import keras
import tensorflow as tf

from custom_layers.checks import FLOAT, INTEGER, Checked, check_broadcast, check_rate
from custom_layers.gradient import differentiable
from custom_layers.registration import register


@differentiable
def dropout(x, seed, *, rate, noise_shape=None, scaled=True):
    """Zeroes each element with probability `rate` and scales up the rest.

    Forward:   y = x * m / (1 - rate),  m ~ Bernoulli(1 - rate) drawn from `seed`
               (scaled=False: y = x * m)
    Backward:  dx = dy * m / (1 - rate), the same m, drawn again: nothing of x's size is kept
    Shapes:    x (...) -> y (...);  seed (2,) integers;  noise_shape: the mask's shape, None
               where it is x's, 1 where one draw serves the whole axis
    Departs from the paper: scaled in training, as Keras does, so inference is the identity.
               Sixteen random bits an element: `rate` counts in steps of 1/65536.
    Source:    Srivastava et al., Dropout, JMLR 2014, section 4.
    """
    shape = tf.shape(x)
    if noise_shape is not None:
        shape = tf.stack([shape[i] if n is None else n for i, n in enumerate(noise_shape)])
    factor = tf.constant(1 / (1 - rate) if scaled and rate < 1 else 1, x.dtype)

    def masked(t):
        keep = _random_bits(shape, seed) >= tf.constant(min(round(rate * 65536), 65535), tf.uint16)
        return tf.where(keep & (rate < 1), t * factor, tf.zeros((), t.dtype))

    def backward(dy):
        # Without the dependency a graph would merge the second draw with the first and keep it.
        with tf.control_dependencies([dy]):
            return masked(dy), None

    return masked(x), backward


@differentiable
def scale(x, *, factor):
    """Forward: y = factor * x.  Backward: dx = factor * dy.  Shapes: x (...) -> y (...)"""
    return x * factor, lambda dy: dy * factor


def _random_bits(shape, seed):
    """Sixteen random bits for each element, two elements from one 32-bit draw."""
    size = tf.reduce_prod(shape)
    bits = tf.random.stateless_uniform(
        [(size + 1) // 2], tf.cast(seed, tf.int32), None, None, tf.uint32
    )
    return tf.reshape(tf.reshape(tf.bitcast(bits, tf.uint16), [-1])[:size], shape)


@register
class Dropout(Checked, keras.layers.Dropout):
    """`keras.layers.Dropout` on the op `dropout`, with the paper's scaling as a choice.

    Args:
        scale_at: `"training"` (the default, Keras's: kept units are divided by 1 - rate in
            training) or `"inference"` (the paper's: the bare mask in training, all units
            times 1 - rate at inference).
        All other arguments are Keras's.
    """

    takes = FLOAT, INTEGER

    def __init__(self, rate, *args, scale_at="training", **kwargs):
        if scale_at not in ("training", "inference"):
            raise ValueError(
                f"`scale_at` must be 'training' or 'inference'. Received: scale_at={scale_at}"
            )
        super().__init__(rate, *args, **kwargs)
        check_rate(rate=rate)  # Keras takes 1 too, which keeps nothing
        self.scale_at = scale_at

    def check_shape(self, shape):
        if self.noise_shape is not None:
            noise = (shape[i] if n is None else n for i, n in enumerate(self.noise_shape))
            check_broadcast(self, "noise_shape", noise, shape)

    def call(self, inputs, training=False):
        if self.rate == 0:
            return inputs
        if not training:
            kept = 1 - self.rate
            return inputs if self.scale_at == "training" else scale(inputs, factor=kept)
        return dropout(
            inputs,
            self.seed_generator.next(),
            rate=self.rate,
            noise_shape=self.noise_shape,
            scaled=self.scale_at == "training",
        )

    def get_config(self):
        return {**super().get_config(), "scale_at": self.scale_at}
