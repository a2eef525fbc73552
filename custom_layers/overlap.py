"""Soft overlap of classes: what a mean IoU counts, as a loss with a gradient."""

import tensorflow as tf
from keras.src.backend.common.masking import get_keras_mask, set_keras_mask

from custom_layers.checks import check_finite
from custom_layers.gradient import differentiable
from custom_layers.losses import SoftmaxCrossEntropy
from custom_layers.registration import register
from custom_layers.targets import class_targets


@differentiable
def softmax_jaccard(z, t):
    """Softmax and Jaccard distance in one: 1 - IoU, the mean over the classes that are there.

    Forward:   p = softmax(z), or 0 where t is all 0 or no class: such a pixel counts for nothing
               I_c = sum p_c t_c,  U_c = sum (p_c + t_c - p_c t_c)  over all axes but the last
               L = 1/n sum of 1 - I_c / U_c over the n classes with sum t_c > 0; 0 where none is
    Backward:  dp_c = -dL/n (t_c U_c - (1 - t_c) I_c) / U_c^2  of those n classes, else 0
               dt_c = -dL/n (p_c U_c - (1 - p_c) I_c) / U_c^2
               dz = p * (dp - sum over c of p_c dp_c)
    Shapes:    logits z (..., C), targets t (..., C) or integer labels t (...) -> L ()
    Source:    Rahman, Wang, Optimizing Intersection-Over-Union in Deep Neural Networks for Image
               Segmentation, ISVC 2016, equations 3 to 5; there of one class.
    """
    labels = t.dtype.is_integer
    if labels:
        t = tf.one_hot(t, z.shape[-1], dtype=z.dtype)
    counts = tf.reduce_any(t > 0, -1, keepdims=True)
    p = tf.where(counts, tf.nn.softmax(z), 0)
    axes = list(range(z.shape.rank - 1))
    both, target = tf.reduce_sum(p * t, axes), tf.reduce_sum(t, axes)
    union = tf.reduce_sum(p, axes) + target - both
    share = tf.cast(target > 0, z.dtype)
    share = tf.math.divide_no_nan(share, tf.reduce_sum(share))

    def backward(dloss):
        slope = -dloss * tf.math.divide_no_nan(share, union**2)
        dp = slope * (t * union - (1 - t) * both)
        dz = p * (dp - tf.reduce_sum(p * dp, -1, keepdims=True))
        return dz, None if labels else slope * (p * union - (1 - p) * both)

    return tf.reduce_sum(share * (1 - tf.math.divide_no_nan(both, union))), backward


@register
class SoftmaxJaccard(SoftmaxCrossEntropy):
    """Softmax cross entropy plus `jaccard` times the op `softmax_jaccard`.

    The distance is that of the whole batch, in which a class of few pixels counts as much as one
    of many. It is added to the cross entropy of each pixel; smoothing, class weights and sample
    weights leave its value as it is.

    Args:
        jaccard: the factor of the distance, at least 0.
        All other arguments are those of `SoftmaxCrossEntropy`.
    """

    def __init__(self, jaccard=1.0, **kwargs):
        if not jaccard >= 0:
            raise ValueError(f"`jaccard` must be at least 0. Received: jaccard={jaccard}")
        check_finite(jaccard=jaccard)
        super().__init__(**kwargs)
        self.jaccard = jaccard

    def call(self, y_true, y_pred):
        loss = super().call(y_true, y_pred)
        targets = class_targets(y_true, y_pred)
        if self.ignore_class is not None:
            targets = tf.where(targets == self.ignore_class, -1, targets)
        both = loss + self.jaccard * softmax_jaccard(y_pred, targets)
        set_keras_mask(both, get_keras_mask(loss))
        return both

    def get_config(self):
        return {**super().get_config(), "jaccard": self.jaccard}
