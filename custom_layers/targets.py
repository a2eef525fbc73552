"""Targets as the losses take them: checked, in one shape and dtype, smoothed, some ignored."""

import keras
import tensorflow as tf
from keras.src.backend.common.masking import set_keras_mask

from custom_layers.checks import CheckedLoss


def elementwise_targets(y_true, y_pred):
    """`y_true` in the shape and dtype of `y_pred`: one target for each output.

    A last axis of size one may be missing on either side: labels (N,) belong to outputs (N, 1).

    Raises:
        ValueError: where the shapes differ otherwise. Broadcasting would compare the output of
            each sample with the targets of all others.
    """
    shape, wanted = y_true.shape, y_pred.shape
    if shape.rank is not None and wanted.rank is not None:
        if shape.rank == wanted.rank - 1 and wanted[-1] == 1:
            y_true = y_true[..., None]
        elif shape.rank == wanted.rank + 1 and shape[-1] == 1:
            y_true = tf.squeeze(y_true, -1)
    if not y_true.shape.is_compatible_with(wanted):
        raise ValueError(
            "Targets must have the shape of the outputs. "
            f"Received: y_true.shape={shape}, y_pred.shape={wanted}"
        )
    return tf.cast(y_true, y_pred.dtype)


def class_targets(y_true, y_pred):
    """Targets of one class a sample: floats of the shape of `y_pred`, or integer labels.

    Labels have one axis less than `y_pred`, or a last axis of size one.

    Raises:
        ValueError: for any other shape.
    """
    shape, wanted = y_true.shape, y_pred.shape
    if shape.rank == wanted.rank and shape[-1] == 1 != wanted[-1]:
        y_true = tf.squeeze(y_true, -1)
    if y_true.shape.rank == wanted.rank and y_true.shape.is_compatible_with(wanted):
        return tf.cast(y_true, y_pred.dtype)
    if y_true.shape.rank is None or not y_true.shape.is_compatible_with(wanted[:-1]):
        raise ValueError(
            "Targets must have the logits' shape (one-hot) or one axis less (labels). "
            f"Received: y_true.shape={shape}, y_pred.shape={wanted}"
        )
    return tf.cast(y_true, tf.int32)


def smooth(targets, amount, classes):
    """t' = (1 - amount) t + amount / classes, of labels or of targets (..., classes).

    Source: Szegedy et al., Rethinking the Inception Architecture, CVPR 2016, section 7.
    """
    if targets.dtype.is_integer:
        off = amount / classes
        return tf.one_hot(targets, classes, 1 - amount + off, off, dtype=tf.float32)
    return targets * (1 - amount) + amount / classes


class ClassLoss(CheckedLoss, keras.losses.Loss):
    """What losses on one class a sample share. A subclass has `sample_loss(y_pred, targets)`.

    Targets of the outputs' shape are probabilities (one-hot); of one axis less, or with a last
    axis of size one, integer labels. The mean over the batch makes the gradient that of the
    sum, divided by N.

    Args:
        label_smoothing: in [0, 1). Targets t become (1 - label_smoothing) t + label_smoothing / C.
        ignore_class: a label whose samples (or pixels) count for nothing: neither in the sum nor
            in the number that the mean divides by. It need not be a class: -1 and 255 are usual.
        class_weights: a factor a class, of the loss of the samples (or pixels) of integer labels.
            The mean still divides by their number, as Keras's does with sample weights.
        All other arguments are those of `keras.losses.Loss`.
    """

    def __init__(self, label_smoothing=0.0, ignore_class=None, class_weights=None, **kwargs):
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                "`label_smoothing` must be in [0, 1). "
                f"Received: label_smoothing={label_smoothing}"
            )
        if ignore_class is not None and ignore_class != int(ignore_class):
            raise ValueError(
                f"`ignore_class` must be an integer or None. Received: ignore_class={ignore_class}"
            )
        if class_weights is not None and not all(weight >= 0 for weight in class_weights):
            raise ValueError("`class_weights` must be numbers of at least 0, one a class. "
                             f"Received: class_weights={class_weights}")
        super().__init__(**kwargs)
        self.class_weights = None if class_weights is None else tuple(class_weights)
        self.label_smoothing = label_smoothing
        self.ignore_class = ignore_class

    def call(self, y_true, y_pred):
        targets = class_targets(y_true, y_pred)
        for name in ("ignore_class", "class_weights"):
            if getattr(self, name) is not None and not targets.dtype.is_integer:
                raise ValueError(
                    f"`{name}` needs integer labels. "
                    f"Received: y_true.shape={y_true.shape}, y_pred.shape={y_pred.shape}"
                )
        if self.ignore_class is None:
            return self._weighted_loss(y_pred, targets)
        counts = targets != self.ignore_class
        loss = self._weighted_loss(y_pred, tf.where(counts, targets, 0))
        loss = tf.where(counts, loss, 0)
        set_keras_mask(loss, counts)  # The mean that Keras takes divides by those that count.
        return loss

    def _weighted_loss(self, y_pred, targets):
        loss = self._smoothed_loss(y_pred, targets)
        if self.class_weights is None:
            return loss
        classes = y_pred.shape[-1]
        if len(self.class_weights) != classes:
            raise ValueError(f"`class_weights` must be {classes} numbers, one a class. "
                             f"Received: {len(self.class_weights)}")
        return loss * tf.gather(tf.constant(self.class_weights, loss.dtype), targets)

    def _smoothed_loss(self, y_pred, targets):
        if self.label_smoothing:
            targets = smooth(targets, self.label_smoothing, y_pred.shape[-1])
            targets = tf.cast(targets, y_pred.dtype)
        return self.sample_loss(y_pred, targets)

    def get_config(self):
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
            "ignore_class": self.ignore_class,
            "class_weights": self.class_weights,
        }
