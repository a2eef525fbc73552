"""How the learning rate changes over a training."""

import keras

from app.errors import UsageError, unknown
from custom_layers.optimizers import Warmup


def constant(rate, steps):
    return rate


def step(rate, steps):
    """A tenth from one half, a hundredth from three quarters of the training on.

    Source: He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, 2016, section 4.2.
    """
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        [steps // 2, 3 * steps // 4], [rate, rate / 10, rate / 100])


def exponential(rate, steps):
    """Falls to a hundredth, by the same factor with every step."""
    return keras.optimizers.schedules.ExponentialDecay(rate, steps, 0.01)


def cosine(rate, steps):
    """Falls to 0 along half a cosine.

    Source: Loshchilov, Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, 2017.
    """
    return keras.optimizers.schedules.CosineDecay(rate, steps)


SCHEDULES = {"constant": constant, "step": step, "exponential": exponential, "cosine": cosine}


def learning_rate(name, rate, epochs, steps, warmup=0.0):
    """A number or a Keras schedule for a training of so many epochs of so many steps.

    warmup: epochs in which the rate rises from 0; the schedule follows in what is left.
    """
    if name not in SCHEDULES:
        raise unknown("schedule", name, list(SCHEDULES))
    if not 0 <= warmup < epochs:
        raise UsageError(f"--warmup must be at least 0 and below the {epochs} epochs of the "
                         f"training. Received: {warmup:g}")
    warm = round(warmup * steps)
    schedule = SCHEDULES[name](rate, epochs * steps - warm)
    return Warmup(schedule, warm) if warm else schedule
