"""Losses on probabilities and on their logarithms, where softmax stands in the network itself.

On logits `SoftmaxCrossEntropy` is exact where these round: prefer it where there is a choice.
"""

import tensorflow as tf

from custom_layers.checks import check_finite
from custom_layers.gradient import differentiable
from custom_layers.registration import register
from custom_layers.targets import ClassLoss


@differentiable
def cross_entropy(y, t, *, delta=1e-7):
    """Cross entropy of probabilities, guarded against log 0, in nats.

    Forward:   L = -sum over c of t_c log(y_c + delta);  labels: L = -log(y_t + delta)
    Backward:  dy = -dL * t / (y + delta),  dt = -dL * log(y + delta)
    Shapes:    probabilities y (..., C), targets t (..., C) or integer labels t (...) -> L (...)
    Departs from Keras, which clips y to [delta, 1 - delta] and so gives no gradient where a
               network is surest and wrong. L(y=1) is -delta. Half precision, to which delta
               is 0, is computed with in float32.
    Raises:    InvalidArgumentError for a label outside 0 .. C-1 (CPU, outside XLA)
    Source:    Goodfellow, Bengio, Courville, Deep Learning, 2016, section 6.2.1.1.
    """
    wide = tf.cast(y, tf.float32) if y.dtype in (tf.float16, tf.bfloat16) else y
    if t.dtype.is_integer:
        guarded = tf.gather(wide, t, batch_dims=t.shape.rank) + delta

        def backward(dloss):
            dy = tf.cast(-tf.cast(dloss, wide.dtype) / guarded, y.dtype)
            return dy[..., None] * tf.one_hot(t, y.shape[-1], dtype=y.dtype), None

        return tf.cast(-tf.math.log(guarded), y.dtype), backward

    guarded = wide + delta
    t_wide = tf.cast(t, wide.dtype)

    def backward(dloss):
        dloss = -tf.cast(dloss, wide.dtype)[..., None]
        dy, dt = dloss * t_wide / guarded, dloss * tf.math.log(guarded)
        return tf.cast(dy, y.dtype), tf.cast(dt, t.dtype)

    return tf.cast(-tf.reduce_sum(t_wide * tf.math.log(guarded), -1), y.dtype), backward


@differentiable
def negative_log_likelihood(log_y, t):
    """Negative log likelihood of log-probabilities (what a log-softmax returns), in nats.

    Forward:   L = -sum over c of t_c log_y_c;  labels: L = -log_y_t
    Backward:  dlog_y = -dL * t,  dt = -dL * log_y
    Shapes:    log_y (..., C), targets t (..., C) or integer labels t (...) -> L (...)
    Raises:    InvalidArgumentError for a label outside 0 .. C-1 (CPU, outside XLA)
    Source:    Goodfellow, Bengio, Courville, Deep Learning, 2016, section 6.2.1.1.
    """
    if t.dtype.is_integer:
        def backward(dloss):
            return -dloss[..., None] * tf.one_hot(t, log_y.shape[-1], dtype=log_y.dtype), None

        return -tf.gather(log_y, t, batch_dims=t.shape.rank), backward

    def backward(dloss):
        return -dloss[..., None] * t, -dloss[..., None] * log_y

    return -tf.reduce_sum(t * log_y, -1), backward


@register
class CrossEntropy(ClassLoss):
    """The op `cross_entropy` as a loss: -sum t log y of probabilities, guarded.

    Args:
        delta: what is added to a probability before its logarithm.
        All other arguments are those of `SoftmaxCrossEntropy`.
    """

    def __init__(self, delta=1e-7, **kwargs):
        if not delta >= 0:
            raise ValueError(f"`delta` must be at least 0. Received: delta={delta}")
        check_finite(delta=delta)
        super().__init__(**kwargs)
        self.delta = delta

    def sample_loss(self, y_pred, targets):
        return cross_entropy(y_pred, targets, delta=self.delta)

    def get_config(self):
        return {**super().get_config(), "delta": self.delta}


@register
class NegativeLogLikelihood(CrossEntropy):
    """Negative log likelihood of probabilities (guarded) or of log-probabilities.

    Of probabilities it is `CrossEntropy`.

    Args:
        from_logs: whether the outputs are log-probabilities. They need no guard.
        All other arguments are those of `CrossEntropy`.
    """

    def __init__(self, from_logs=False, **kwargs):
        super().__init__(**kwargs)
        self.from_logs = from_logs

    def sample_loss(self, y_pred, targets):
        if self.from_logs:
            return negative_log_likelihood(y_pred, targets)
        return super().sample_loss(y_pred, targets)

    def get_config(self):
        return {**super().get_config(), "from_logs": self.from_logs}
