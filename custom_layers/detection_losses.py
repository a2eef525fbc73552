"""Losses of detectors: smooth L1 of box coordinates, focal loss of class scores."""

import keras
import tensorflow as tf

from custom_layers.checks import CheckedLoss, check_finite
from custom_layers.gradient import differentiable
from custom_layers.losses import sigmoid_cross_entropy
from custom_layers.registration import register
from custom_layers.targets import elementwise_targets


@differentiable
def smooth_l1(y, t, *, delta=1.0):
    """Squares of small differences, absolute values of large ones, for each element.

    Forward:   e = y - t,  c = e / delta clipped to [-1, 1],  L = c (e - delta c / 2)
               = e^2 / (2 delta) where |e| < delta, else |e| - delta / 2
    Backward:  dy = dL * c,  dt = -dy: only c is kept
    Shapes:    y (...), t (...) -> L (...)
    Kinks:     none; the second derivative jumps at |e| = delta
    Source:    Girshick, Fast R-CNN, ICCV 2015, equation 3 (delta = 1). Its slope far out is 1 for
               any delta, as in Fast R-CNN's own code (delta = 1 / sigma^2): Keras's Huber is
               delta times this.
    """
    e = y - t
    c = tf.clip_by_value(e / delta, -1, 1)

    def backward(dloss):
        dy = dloss * c
        return dy, -dy

    return c * (e - delta / 2 * c), backward


@differentiable
def sigmoid_focal_cross_entropy(z, t, *, alpha=0.25, gamma=2.0):
    """Binary cross entropy on logits that weighs down what is classified well, in nats.

    Forward:   p = s(z),  u = t (1 - p) + (1 - t) p  (how wrong: 1 - p_t in the paper)
               a = alpha t + (1 - alpha) (1 - t),  a = 1 without alpha
               L = a u^gamma CE,  CE = max(z, 0) - z t + log(1 + exp(-|z|))
    Backward:  dz = dL a u^gamma ((p - t) + gamma CE (1 - 2t) p (1 - p) / u)
               dt = dL u^gamma (a (gamma CE (1 - 2p) / u - z) + (2 alpha - 1) CE)
    Shapes:    logits z (...), targets t (...) in [0, 1] -> L (...)
    1 - p is computed as s(-z) and u without subtraction: exact where p rounds to 1, finite for
    any finite z. gamma = 0 is alpha-weighted `sigmoid_cross_entropy`.
    Source:    Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, equation 5.
    """
    p, q = tf.sigmoid(z), tf.sigmoid(-z)
    cross_entropy = sigmoid_cross_entropy(z, t)
    a = tf.ones((), z.dtype) if alpha is None else alpha * t + (1 - alpha) * (1 - t)
    u = t * q + (1 - t) * p
    power = u ** gamma

    def backward(dloss):
        dpower = gamma * cross_entropy
        dz = dloss * a * power * (p - t + dpower * (1 - 2 * t) * tf.math.divide_no_nan(p * q, u))
        dt = a * (dpower * tf.math.divide_no_nan(q - p, u) - z)
        if alpha is not None:
            dt += (2 * alpha - 1) * cross_entropy
        return dz, dloss * power * dt

    return a * power * cross_entropy, backward


@register
class SmoothL1(CheckedLoss, keras.losses.Loss):
    """The op `smooth_l1`, summed over the last axis (the four coordinates of a box).

    Args:
        delta: the difference from which on it counts by its absolute value.
        All other arguments are those of `keras.losses.Loss`.
    """

    def __init__(self, delta=1.0, **kwargs):
        if not delta > 0:
            raise ValueError(f"`delta` must be greater than 0. Received: delta={delta}")
        check_finite(delta=delta)
        super().__init__(**kwargs)
        self.delta = delta

    def call(self, y_true, y_pred):
        targets = elementwise_targets(y_true, y_pred)
        return tf.reduce_sum(smooth_l1(y_pred, targets, delta=self.delta), -1)

    def get_config(self):
        return {**super().get_config(), "delta": self.delta}


@register
class SigmoidFocalCrossEntropy(CheckedLoss, keras.losses.Loss):
    """The op `sigmoid_focal_cross_entropy` on logits, the mean over the last axis.

    As `keras.losses.BinaryFocalCrossentropy(apply_class_balancing=True, from_logits=True)`.
    RetinaNet's loss is the sum over anchors and classes divided by the number of positive
    anchors: reduction="sum", times the number of classes, over that number.

    Args:
        alpha: weight of the positive targets, 1 - alpha that of the negative; None: no weights.
        gamma: how much easy samples count less; 0: not at all.
        All other arguments are those of `keras.losses.Loss`.
    """

    def __init__(self, alpha=0.25, gamma=2.0, **kwargs):
        if alpha is not None and not 0 <= alpha <= 1:
            raise ValueError(f"`alpha` must be in [0, 1] or None. Received: alpha={alpha}")
        if not gamma >= 0:
            raise ValueError(f"`gamma` must be at least 0. Received: gamma={gamma}")
        check_finite(gamma=gamma)
        super().__init__(**kwargs)
        self.alpha = alpha
        self.gamma = gamma

    def call(self, y_true, y_pred):
        targets = elementwise_targets(y_true, y_pred)
        loss = sigmoid_focal_cross_entropy(y_pred, targets, alpha=self.alpha, gamma=self.gamma)
        return tf.reduce_mean(loss, -1)

    def get_config(self):
        return {**super().get_config(), "alpha": self.alpha, "gamma": self.gamma}
