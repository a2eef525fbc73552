"""Losses, each in one op with the layer that belongs before it: exact and stable gradients."""

import keras
import tensorflow as tf

from custom_layers.checks import CheckedLoss
from custom_layers.gradient import differentiable
from custom_layers.registration import register
from custom_layers.targets import ClassLoss, elementwise_targets


@differentiable
def softmax_cross_entropy(z, t):
    """Softmax and cross entropy in one: -sum t log softmax(z), in nats.

    Forward:   L = sum over c of t_c * (log sum exp z - z_c)
    Backward:  dz = dL * (softmax(z) * sum t - t),  dt = -dL * log softmax(z)
    Shapes:    logits z (..., C), targets t (..., C) or integer labels t (...) -> L (...)
    Raises:    InvalidArgumentError for a label outside 0 .. C-1 on a CPU; NaN elsewhere
    Source:    Goodfellow, Bengio, Courville, Deep Learning, 2016, section 6.2.2.3.
    """
    if t.dtype.is_integer:
        # One kernel gives the loss and softmax(z) - t.
        loss, difference = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(
            features=z if z.shape.rank == 2 else tf.reshape(z, (-1, z.shape[-1])),
            labels=t if t.shape.rank == 1 else tf.reshape(t, (-1,)),
        )
        if z.shape.rank != 2:
            loss = tf.reshape(loss, tf.shape(t))
            difference = tf.reshape(difference, tf.shape(z))
        return loss, lambda dloss: (dloss[..., None] * difference, None)

    log_y = tf.nn.log_softmax(z)

    def backward(dloss):
        total = tf.reduce_sum(t, -1, keepdims=True)
        dloss = dloss[..., None]
        return dloss * (tf.exp(log_y) * total - t), -dloss * log_y

    return -tf.reduce_sum(t * log_y, -1), backward


@differentiable
def sigmoid_cross_entropy(z, t):
    """Sigmoid and binary cross entropy in one, for each element, in nats.

    Forward:   L = -t log s(z) - (1 - t) log(1 - s(z)) = max(z, 0) - z t + log(1 + exp(-|z|))
    Backward:  dz = dL * (s(z) - t),  dt = -dL * z
    Shapes:    logits z (...), targets t (...) in [0, 1] -> L (...)
    Source:    Goodfellow, Bengio, Courville, Deep Learning, 2016, section 6.2.2.2.
    """
    loss = tf.nn.relu(z) - z * t + tf.math.log1p(tf.exp(-tf.abs(z)))
    return loss, lambda dloss: (dloss * (tf.sigmoid(z) - t), -dloss * z)


@differentiable
def half_squares(y, t):
    """Half the sum of squares of each sample: E = 1/2 sum (y - t)^2.

    Forward:   E[n] = 1/2 sum over all but the first axis of (y - t)^2
    Backward:  dy = dE * (y - t),  dt = -dy
    Shapes:    y (N, ...), t (N, ...) -> E (N,)
    Source:    Rumelhart, Hinton, Williams, Learning Representations by Back-Propagating
               Errors, Nature 1986, equation 3, for each sample.
    """
    difference = y - t
    axes = list(range(1, y.shape.rank))

    def backward(denergy):
        dy = tf.reshape(denergy, [-1] + [1] * len(axes)) * difference
        return dy, -dy

    return 0.5 * tf.reduce_sum(difference * difference, axes), backward


@register
class SoftmaxCrossEntropy(ClassLoss):
    """Softmax and cross entropy on logits, for one-hot targets and for integer labels.

    Targets of the logits' shape are probabilities (one-hot), of one axis less (or a last axis
    of size one) integer labels. The mean over the batch makes the gradient (y - t) / N.

    Args:
        label_smoothing: in [0, 1). Targets t become (1 - label_smoothing) t + label_smoothing / C.
        ignore_class: a label whose samples (or pixels) count for nothing: neither in the sum nor
            in the number that the mean divides by. It need not be a class: -1 and 255 are usual.
        class_weights: a factor a class, of the loss of the samples (or pixels) of integer labels.
            The mean still divides by their number, as Keras's does with sample weights.
        All other arguments are those of `keras.losses.Loss`.
    """

    def sample_loss(self, y_pred, targets):
        return softmax_cross_entropy(y_pred, targets)


@register
class SigmoidCrossEntropy(CheckedLoss, keras.losses.Loss):
    """Sigmoid and binary cross entropy on logits, binary or multi-label.

    The mean over the last axis, as `keras.losses.BinaryCrossentropy(from_logits=True)`.
    """

    def call(self, y_true, y_pred):
        loss = sigmoid_cross_entropy(y_pred, elementwise_targets(y_true, y_pred))
        return tf.reduce_mean(loss, -1)


@register
class HalfSquares(CheckedLoss, keras.losses.Loss):
    """Half the sum of squares of each sample, the mean over the batch."""

    loss_shape = slice(1)

    def call(self, y_true, y_pred):
        return half_squares(y_pred, elementwise_targets(y_true, y_pred))
