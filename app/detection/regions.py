"""The second stage of two: what is in each region of interest, and where exactly."""

import keras
import tensorflow as tf

from app.detection import coding
from app.detection.boxes import area
from app.detection.decoding import detections
from app.detection.matching import IGNORED, NEGATIVE, balanced, match, matched, seed_of
from custom_layers import Concatenate, Dense, ReLU
from custom_layers.detection_losses import smooth_l1
from custom_layers.losses import softmax_cross_entropy

SCALES = (0.1, 0.1, 0.2, 0.2)  # of the offsets from regions


def region_head(parts, x, rois, classes, units):
    """(B, R, 4 + C + 1 + 4 C): each region, its scores (background last), an offset a class.

    x: features (B, R, n) of the regions `rois` (B, R, 4).
    """
    for name in ("fc6", "fc7"):
        x = Dense(parts.scaled(units), name=name, **parts.initial)(x)
        x = ReLU(name=f"{name}_relu")(x)

    def predictor(size, deviation, name):
        return Dense(size, name=name, kernel_regularizer=parts.initial["kernel_regularizer"],
                     kernel_initializer=keras.initializers.RandomNormal(stddev=deviation))(x)

    return Concatenate(-1, name="regions")([rois, predictor(classes + 1, 0.01, "scores"),
                                            predictor(4 * classes, 0.001, "offsets")])


def divided(regions):
    """The regions (B, R, 4), scores (B, R, C + 1) and offsets (B, R, C, 4) of a `region_head`."""
    classes = (regions.shape[-1] - 5) // 5
    rois, scores, offsets = tf.split(regions, [4, classes + 1, 4 * classes], -1)
    return rois, scores, tf.reshape(offsets, (-1, regions.shape[1], classes, 4))


def regions_loss(y_true, y_pred, *, count, positives, lower):
    """Softmax cross entropy of sampled regions, smooth L1 of the offsets of the positive ones.

    Forward:   positive: IoU >= 0.5 with an object, negative: lower <= IoU < 0.5;
               L = 1/n sum over the n sampled of CE, and of the positive of smooth L1 of the
               offset of the object's class
    Backward:  regions are constants
    Shapes:    y_true: labels (B, M, 5), y_pred (B, R, 4 + C + 1 + 4 C) -> a number
    Source:    Girshick, Fast R-CNN, ICCV 2015, section 2.3. An empty region is never sampled.
    """
    rois, scores, offsets = divided(y_pred)
    rois = tf.stop_gradient(rois)
    rows = match(rois, y_true, upper=0.5, lower=0.5, best=False)
    if lower:
        near = match(rois, y_true, upper=lower, lower=lower, best=False) != NEGATIVE
        rows = tf.where((rows == NEGATIVE) & ~near, IGNORED, rows)
    boxes, classes = matched(y_true, tf.where(area(rois) > 0, rows, IGNORED))
    classes = tf.cast(classes, tf.int32)
    chosen = balanced(classes, count, positives, seed_of(y_pred))
    positive = chosen & (classes >= 0)
    background = scores.shape[-1] - 1
    entropy = softmax_cross_entropy(scores, tf.where(positive, classes, background))
    own = tf.gather(offsets, tf.maximum(classes, 0), batch_dims=2)
    wanted = tf.where(positive[..., None], coding.encode(rois, boxes, SCALES), 0.0)
    distance = tf.reduce_sum(smooth_l1(own, wanted), -1)
    total = (tf.reduce_sum(tf.where(chosen, entropy, 0.0))
             + tf.reduce_sum(tf.where(positive, distance, 0.0)))
    return total / tf.maximum(tf.reduce_sum(tf.cast(chosen, total.dtype)), 1.0)


def region_detections(regions, image_shape, **settings):
    """The `detections` of what a `region_head` gives."""
    rois, scores, offsets = divided(regions)
    boxes = coding.decode(rois[:, :, None], offsets, SCALES)
    there = tf.cast(area(rois) > 0, scores.dtype)[..., None]
    return detections(boxes, tf.nn.softmax(scores)[..., :-1] * there, image_shape, **settings)
