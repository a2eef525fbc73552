"""From many scored boxes to the detections of each image."""

import tensorflow as tf

from app.detection.boxes import clipped


def detections(boxes, scores, image_shape, *, score_threshold=0.01, iou_threshold=0.5, most=100):
    """The highest-scoring boxes of each class, without those that overlap a better one.

    Suppression is class by class, by TensorFlow's kernel, for the whole batch in one.

    Args:
        boxes: (B, A, 4), or (B, A, C, 4) where each class has its own.
        scores: (B, A, C) in [0, 1].
        score_threshold: boxes with a lower score are left out.
        iou_threshold: a box that overlaps a better one of its class by more is left out.
        most: K, the largest number of detections of an image.

    Returns:
        `boxes` (B, K, 4), `scores` (B, K), `classes` (B, K) int32, `count` (B,) int32: the first
        `count` of each image are its detections, by falling score; the others are zeros.
    """
    boxes = clipped(boxes, *image_shape[:2])
    boxes = tf.gather(boxes, [1, 0, 3, 2], axis=-1)  # the kernel's rows come first
    found = tf.image.combined_non_max_suppression(
        boxes if boxes.shape.rank == 4 else boxes[:, :, None], scores, most, most,
        iou_threshold, score_threshold, clip_boxes=False)
    return {
        "boxes": tf.gather(found.nmsed_boxes, [1, 0, 3, 2], axis=-1),
        "scores": found.nmsed_scores,
        "classes": tf.cast(found.nmsed_classes, tf.int32),
        "count": found.valid_detections,
    }
