"""What Keras's optimizers lack: Rprop, and a warm-up before any schedule."""

import numbers

import keras
import tensorflow as tf

from custom_layers.checks import check_finite
from custom_layers.registration import register


@register
class Rprop(keras.optimizers.Optimizer):
    """Resilient back-propagation: each weight has a step of its own, which the signs set.

    For each weight, with g the sign of its gradient and g' that of the step before:

        g g' > 0:  D = min(eta_plus D, max_step)     still the same way: a longer step
        g g' < 0:  D = max(eta_minus D, min_step)    the minimum was passed: a shorter one,
                   g = 0                             none now, and no change of D next time
        w = w - g D

    The variant is iRprop-: where the sign changes, the weight stays. (Riedmiller and Braun take
    the step before back there, Rprop+; Rprop- steps on.) What is remembered is the sign, not
    the gradient, so that a product of small gradients cannot vanish.

    For the full batch (`batch_size` the number of samples): between small batches the signs
    change by chance and all steps shrink.

    Args:
        learning_rate: the first step D of all weights. Afterwards the steps set themselves: a
            schedule, and setting it later, are refused.
        eta_minus: factor of a step that passed a minimum, in (0, 1).
        eta_plus: factor of a step in a direction that stays, greater than 1.
        min_step: the smallest step.
        max_step: the largest step.
        All other arguments are those of `keras.optimizers.Optimizer`.

    Source: Riedmiller, Braun, A Direct Adaptive Method for Faster Backpropagation Learning: The
    RPROP Algorithm, 1993; Igel, Huesken, Improving the Rprop Learning Algorithm, 2000 (iRprop-).
    """

    def __init__(self, learning_rate=0.1, eta_minus=0.5, eta_plus=1.2, min_step=1e-6,
                 max_step=50.0, name="rprop", **kwargs):
        if not isinstance(learning_rate, numbers.Real):
            raise ValueError(
                "`learning_rate` must be a number: the first step. Rprop's steps set themselves. "
                f"Received: learning_rate={learning_rate}"
            )
        if not 0 < min_step <= learning_rate <= max_step:
            raise ValueError(
                "Steps must satisfy 0 < min_step <= learning_rate <= max_step. Received: "
                f"min_step={min_step}, learning_rate={learning_rate}, max_step={max_step}"
            )
        if not 0 < eta_minus < 1 < eta_plus:
            raise ValueError(
                "Factors must satisfy 0 < eta_minus < 1 < eta_plus. "
                f"Received: eta_minus={eta_minus}, eta_plus={eta_plus}"
            )
        check_finite(learning_rate=learning_rate, eta_plus=eta_plus)
        super().__init__(float(learning_rate), name=name, **kwargs)
        self.eta_minus = eta_minus
        self.eta_plus = eta_plus
        self.min_step = min_step
        self.max_step = max_step
        self._first_step = float(learning_rate)

    @property
    def learning_rate(self):
        return super().learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        raise ValueError(
            "Rprop's steps set themselves: `learning_rate` is the first of them and cannot be set "
            f"afterwards. Received: learning_rate={learning_rate}"
        )

    def build(self, variables):
        if self.built:
            return
        super().build(variables)

        def first(shape, dtype):  # Keras's Constant rounds to float32 on the way.
            return tf.fill(shape, tf.constant(self._first_step, dtype))

        self._steps, self._signs = self.add_optimizer_variables(
            variables, ["step", "sign"], [first, "zeros"]
        )

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        step, last_sign = self._steps[index], self._signs[index]
        sign = tf.sign(tf.cast(tf.convert_to_tensor(gradient), variable.dtype))
        agreement = sign * last_sign
        one = tf.ones((), sign.dtype)
        factor = tf.where(agreement > 0, self.eta_plus * one,
                          tf.where(agreement < 0, self.eta_minus * one, one))
        new_step = tf.clip_by_value(step * factor, self.min_step, self.max_step)
        sign = tf.where(agreement < 0, tf.zeros((), sign.dtype), sign)
        self.assign(step, new_step)
        self.assign(last_sign, sign)
        self.assign_sub(variable, sign * new_step)

    def get_config(self):
        return {
            **super().get_config(),
            "eta_minus": self.eta_minus,
            "eta_plus": self.eta_plus,
            "min_step": self.min_step,
            "max_step": self.max_step,
        }


@register
class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """Rises to a schedule's first rate in equal steps, then follows the schedule from its start.

        rate(step) = (step + 1) / (steps + 1) * first   for step < steps,   first = schedule(0)
                   = schedule(step - steps)             from there on

    Args:
        schedule: a rate, or a `LearningRateSchedule`.
        steps: of the warm-up, at least 1.

    Source: Goyal et al., Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour, 2017,
    section 2.2 (gradual warm-up).
    """

    def __init__(self, schedule, steps):
        if not isinstance(steps, int) or steps < 1:
            raise ValueError(f"`steps` must be an integer >= 1. Received: steps={steps}")
        if isinstance(schedule, dict):
            schedule = keras.optimizers.schedules.deserialize(schedule)
        self.schedule, self.steps = schedule, steps

    def __call__(self, step):
        step = tf.cast(step, tf.float32)
        rising = self._rate(tf.zeros_like(step)) * (step + 1) / (self.steps + 1)
        return tf.where(step < self.steps, rising,
                        self._rate(tf.maximum(step - self.steps, 0)))

    def _rate(self, step):
        rate = self.schedule(step) if callable(self.schedule) else self.schedule
        return tf.cast(rate, tf.float32)

    def get_config(self):
        schedule = self.schedule
        if callable(schedule):
            schedule = keras.optimizers.schedules.serialize(schedule)
        return {"schedule": schedule, "steps": self.steps}
