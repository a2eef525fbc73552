"""Boxes moved as augmentation moves their images."""

import tensorflow as tf

from app.detection.boxes import NO_OBJECT, area, clipped

KEPT = 0.25  # the part of a moved box that must be in the image


def moved_boxes(labels, maps, height, width, kept=KEPT):
    """Labels after the maps of `app.augmentation.draw`: upright boxes around the moved ones.

    Forward:   a map takes the pixel p of the result to the pixel q = A p + m of the image, in
               pixel centres: a corner c of a box, half a pixel off, comes to lie at
               A^-1 (c - 1/2 - m) + 1/2. The box around the four, cut to the image.
    Shapes:    labels (B, M, 5), maps (B, 6) of (a, b, c, d, mx, my) -> (B, M, 5)
    A box of which less than the part `kept` of its area stays in the image is no object any more.
    """
    a, b, c, d, mx, my = (t[:, None, None] for t in tf.unstack(maps, axis=1))
    x = tf.gather(labels, [0, 2, 0, 2], axis=-1) - 0.5 - mx
    y = tf.gather(labels, [1, 1, 3, 3], axis=-1) - 0.5 - my
    determinant = a * d - b * c
    x, y = (d * x - b * y) / determinant + 0.5, (a * y - c * x) / determinant + 0.5
    boxes = tf.stack([tf.reduce_min(x, -1), tf.reduce_min(y, -1),
                      tf.reduce_max(x, -1), tf.reduce_max(y, -1)], -1)
    inside = clipped(boxes, height, width)
    stays = (labels[..., 4] > NO_OBJECT) & (area(inside) >= kept * area(boxes))
    none = tf.constant([0.0, 0, 0, 0, NO_OBJECT])
    return tf.where(stays[..., None], tf.concat([inside, labels[..., 4:]], -1), none)
