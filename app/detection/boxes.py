"""Boxes (x1, y1, x2, y2) in pixels, as lengths from the image's corner: area, overlap, clipping.

The pixel in column w reaches from w to w + 1. Labels are (B, M, 5): a box and its class each;
rows without an object have the class `NO_OBJECT`.
"""

import tensorflow as tf
from keras.utils import bounding_boxes

NO_OBJECT = -1


def area(boxes):
    """Areas (...,) of boxes (..., 4); 0 where x2 <= x1 or y2 <= y1."""
    x1, y1, x2, y2 = tf.unstack(boxes, axis=-1)
    return tf.nn.relu(x2 - x1) * tf.nn.relu(y2 - y1)


def iou(a, b):
    """Intersection over union of each box of `a` (A, 4) or (B, A, 4) with each of `b`: (B, A, M).

    0 where both boxes are empty.
    """
    return bounding_boxes.compute_iou(a, b, "xyxy")


def pairwise_iou(a, b):
    """Intersection over union (...,) of boxes (..., 4) with those at the same place."""
    both = area(tf.concat([tf.maximum(a, b)[..., :2], tf.minimum(a, b)[..., 2:]], -1))
    return tf.math.divide_no_nan(both, area(a) + area(b) - both)


def clipped(boxes, height, width):
    """Boxes (..., 4) cut to the image."""
    return tf.clip_by_value(boxes, 0.0, tf.constant([width, height] * 2, boxes.dtype))


def corners(boxes):
    """(x1, y1, x2, y2) of boxes (..., 4) of (centre x, centre y, width, height)."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return tf.concat([centre - half, centre + half], -1)


def centres(boxes):
    """(centre x, centre y, width, height) of boxes (..., 4) of (x1, y1, x2, y2)."""
    first, last = boxes[..., :2], boxes[..., 2:]
    return tf.concat([(first + last) / 2, last - first], -1)
