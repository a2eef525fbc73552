"""Initial values of weights, by the names they go by; only what Keras lacks is a class here."""

import keras
import numpy as np
import tensorflow as tf

from custom_layers.registration import register

SCHEMES = {
    "zeros": lambda seed: keras.initializers.Zeros(),
    "normal": lambda seed: keras.initializers.RandomNormal(stddev=0.01, seed=seed),
    "xavier": lambda seed: keras.initializers.LecunNormal(seed=seed),
    "he": lambda seed: keras.initializers.HeNormal(seed=seed),
}


def initial_values(scheme, seed=None):
    """Keras's initializer of a scheme; n is the number of inputs of a unit (its fan-in).

    Args:
        scheme: one of
            "zeros": all units of a layer start alike and stay alike: nothing is learned;
            "normal": N(0, 0.01^2): the activations of a deep network fade out;
            "xavier": standard deviation sqrt(1/n), for sigmoid and tanh. Keras's LecunNormal:
                its Glorot is another formula, sqrt(2 / (n + number of outputs));
            "he": standard deviation sqrt(2/n), for ReLU. Keras's HeNormal.
        seed: an integer, or None: other values each time.

    Keras draws the last two from a normal distribution without its tails beyond two standard
    deviations, widened so that the standard deviation is the formula's.

    Source: Glorot, Bengio, Understanding the Difficulty of Training Deep Feedforward Neural
    Networks, 2010; He et al., Delving Deep into Rectifiers, 2015.
    """
    if scheme not in SCHEMES:
        raise ValueError(
            f"`scheme` must be one of {', '.join(SCHEMES)}. Received: scheme={scheme!r}"
        )
    return SCHEMES[scheme](seed)


@register
class Dirac(keras.initializers.VarianceScaling):
    """Kernels of a convolution that at first hands its input on: the identity.

    The first output maps, as many as there are input maps, are each a copy of one of them; those
    beyond are drawn from U(-1/sqrt(n), 1/sqrt(n)), n the number of inputs of a unit.

    Args:
        seed: an integer, or None: other values each time.

    Source: Zagoruyko, Komodakis, DiracNets, 2017; for the first maps alone: Jordan, 94 % on
    CIFAR-10 in 3.29 Seconds on a Single GPU, 2024, section 3.3.
    """

    def __init__(self, seed=None):
        super().__init__(1 / 3, "fan_in", "uniform", seed)

    def __call__(self, shape, dtype=None):
        *size, inputs, filters = shape
        kernel, copies = super().__call__(shape, dtype), min(inputs, filters)
        identity = np.zeros((*size, inputs, copies))
        identity[tuple((n - 1) // 2 for n in size)] = np.eye(inputs, copies)
        return tf.concat([tf.constant(identity, kernel.dtype), kernel[..., copies:]], -1)

    def get_config(self):
        return {"seed": super().get_config()["seed"]}


@register
class RandomSigns(keras.initializers.RandomUniform):
    """-1 and +1 with equal probability: distributed codes drawn by chance.

    Args:
        seed: an integer, or None: other values each time.

    Source: LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998, II B.
    """

    def __init__(self, seed=None):
        super().__init__(-1, 1, seed)

    def __call__(self, shape, dtype=None):
        uniform = super().__call__(shape, dtype)
        return tf.where(uniform < 0, -tf.ones_like(uniform), tf.ones_like(uniform))

    def get_config(self):
        return {"seed": super().get_config()["seed"]}
