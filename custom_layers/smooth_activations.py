"""Smooth activations: SiLU, GELU and LeCun's scaled hyperbolic tangent."""

import math

import keras
import tensorflow as tf

from custom_layers.checks import Checked, check_finite
from custom_layers.gradient import differentiable
from custom_layers.registration import register


@differentiable
def silu(x):
    """Sigmoid linear unit, also called swish.

    Forward:   y = x * s(x),  s(x) = 1 / (1 + exp(-x))
    Backward:  dx = dy * (s + x s (1 - s))
    Shapes:    x (...) -> y (...)
    Keeps x: s is computed again (in a plain graph TensorFlow merges the two).
    Source:    Elfwing, Uchibe, Doya, Sigmoid-Weighted Linear Units, 2017;
               Ramachandran, Zoph, Le, Searching for Activation Functions, 2017.
    """

    def backward(dy):
        s = tf.sigmoid(x)
        return dy * (s + tf.raw_ops.SigmoidGrad(y=s, dy=x))

    return x * tf.sigmoid(x), backward


@differentiable
def gelu(x, *, approximate=False):
    """Gaussian error linear unit: x times the probability that a normal variable is below x.

    Forward:   y = x * P(x),  P(x) = (1 + erf(x / sqrt 2)) / 2
               (approximate: P(x) = (1 + tanh u) / 2 = 1 / (1 + exp(-2 u)),
               u = sqrt(2 / pi) (x + 0.044715 x^3))
    Backward:  dx = dy * (P + x P'),  P'(x) = exp(-x^2 / 2) / sqrt(2 pi)
               (approximate: P'(x) = 2 P (1 - P) u',  u' = sqrt(2 / pi) (1 + 3 * 0.044715 x^2))
    Shapes:    x (...) -> y (...)
    Keeps x: P is computed again (in a plain graph TensorFlow merges the two). Half-precision x
               is computed with in float32.
    Source:    Hendrycks, Gimpel, Gaussian Error Linear Units, 2016, section 2.
    """
    dtype = tf.float32 if x.dtype in (tf.float16, tf.bfloat16) else x.dtype
    c = math.sqrt(2 / math.pi)

    def probability(x):
        if approximate:  # by the sigmoid, for 1 + tanh u would lose digits below 0
            return tf.sigmoid(x * (2 * c + (2 * 0.044715 * c) * x * x))
        return 0.5 + 0.5 * tf.math.erf(x * math.sqrt(0.5))

    def density(x, p):
        if approximate:
            return tf.raw_ops.SigmoidGrad(y=p, dy=2 * c + (6 * 0.044715 * c) * x * x)
        return tf.exp(-0.5 * x * x) * (0.5 * c)

    def backward(dy):
        wide = tf.cast(x, dtype)
        p = probability(wide)
        return dy * tf.cast(p + wide * density(wide, p), x.dtype)

    wide = tf.cast(x, dtype)
    return tf.cast(wide * probability(wide), x.dtype), backward


@differentiable
def scaled_tanh(x, *, amplitude=1.7159, slope=2 / 3):
    """Hyperbolic tangent that maps -1 and 1 onto themselves (to 4 digits) by default.

    Forward:   y = A tanh(S x),  A the amplitude, S the slope
    Backward:  dx = dy * A S (1 - (y / A)^2)
    Shapes:    x (...) -> y (...)
    Keeps y.
    Source:    LeCun, Bottou, Bengio, Haffner, Gradient-Based Learning, 1998, appendix A.
    """
    y = amplitude * tf.tanh(slope * x)

    def backward(dy):
        return tf.raw_ops.TanhGrad(y=y * (1 / amplitude), dy=dy * (amplitude * slope))

    return y, backward


# Keras finds a function in a saved layer by its registered name.
register(scaled_tanh)


class _Elementwise(Checked, keras.layers.Layer):
    """A layer without weights that applies an op to each element."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def compute_output_shape(self, input_shape):
        return input_shape


@register
class SiLU(_Elementwise):
    """The op `silu` as a layer: y = x / (1 + exp(-x)). Keeps the shape."""

    def call(self, inputs):
        return silu(inputs)


@register
class GELU(_Elementwise):
    """The op `gelu` as a layer. Keeps the shape.

    Args:
        approximate: if True, the normal distribution is approximated by a hyperbolic tangent
            (the difference is at most 5e-4).
    """

    def __init__(self, approximate=False, **kwargs):
        super().__init__(**kwargs)
        self.approximate = bool(approximate)

    def call(self, inputs):
        return gelu(inputs, approximate=self.approximate)

    def get_config(self):
        return {**super().get_config(), "approximate": self.approximate}


@register
class ScaledTanh(_Elementwise):
    """The op `scaled_tanh` as a layer: y = A tanh(S x). Keeps the shape.

    Args:
        amplitude: A, not 0. LeCun's value by default: with his slope, f(1) = 1 and f(-1) = -1.
        slope: S.
    """

    def __init__(self, amplitude=1.7159, slope=2 / 3, **kwargs):
        super().__init__(**kwargs)
        if not amplitude:
            raise ValueError(f"`amplitude` must not be 0. Received: amplitude={amplitude}")
        check_finite(amplitude=amplitude, slope=slope)
        self.amplitude, self.slope = float(amplitude), float(slope)

    def call(self, inputs):
        return scaled_tanh(inputs, amplitude=self.amplitude, slope=self.slope)

    def get_config(self):
        return {**super().get_config(), "amplitude": self.amplitude, "slope": self.slope}
