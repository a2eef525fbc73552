"""Boxes as offsets from anchors, and back."""

import math

import tensorflow as tf
from keras.utils import bounding_boxes

# What a predicted size may be of its anchor's, before it is exp of a wild number.
LARGEST = math.log(1000 / 16)


def encode(anchors, boxes, scales=(1.0, 1.0, 1.0, 1.0)):
    """Offsets of boxes from anchors, each divided by its scale.

    Forward:   t = ((x - xa) / wa, (y - ya) / ha, log(w / wa), log(h / ha)) / scales,
               x, y the centre of a box, w, h its sides; a: of its anchor
    Shapes:    anchors (A, 4), boxes (B, A, 4) -> t (B, A, 4)
    Source:    Girshick et al., R-CNN, CVPR 2014, appendix C.
    """
    return bounding_boxes.encode_box_to_deltas(
        anchors, boxes, "xyxy", "xyxy", encoding_format="center_xywh", variance=scales)


def decode(anchors, offsets, scales=(1.0, 1.0, 1.0, 1.0)):
    """The boxes that `encode` made the offsets of. A side is at most 62.5 times its anchor's."""
    places, sizes = offsets[..., :2], offsets[..., 2:]
    sizes = tf.minimum(sizes, LARGEST / tf.constant(scales[2:]))
    return bounding_boxes.decode_deltas_to_boxes(
        anchors, tf.concat([places, sizes], -1), "xyxy", "xyxy", encoded_format="center_xywh",
        variance=scales)
