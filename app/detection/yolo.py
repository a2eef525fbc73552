"""YOLO v1: a grid of cells, each of which predicts a few boxes and one class."""

from dataclasses import dataclass

import tensorflow as tf

from app.detection.anchors import grid
from app.detection.boxes import NO_OBJECT, centres, corners, pairwise_iou
from app.detection.decoding import detections
from app.detection.detector import Detector
from app.detection.matching import placed
from custom_layers import Dense, Dropout, Flatten, LeakyReLU, Reshape


@dataclass(frozen=True, kw_only=True)
class YOLO1(Detector):
    """YOLO v1: each cell of a grid predicts a few boxes and one class, all by squared errors.

    Predictions are (B, rows, columns, 5 boxes + C): of each box its centre in units of the cell
    from its corner, the roots of its sides as parts of the image's, and its confidence; then
    the classes. Targets are (B, rows, columns, 5): the same of the cell's object, and its class.

    Source: Redmon, Divvala, Girshick, Farhadi, You Only Look Once, CVPR 2016, section 2.
    Departs from it: a small residual trunk, a finer grid; the last of two objects in a cell wins.

    Attributes:
        stride: pixels of a cell; slightly less where the image's side is no multiple of it.
        boxes: predicted by each cell.
        units: of the layer before the last.
        dropout: before the last layer.
    """

    name: str = "yolo-v1"
    stride: int = 8
    boxes: int = 2
    units: int = 512
    dropout: float = 0.0

    def predictions(self, parts, image_shape, classes, statistics):
        (rows, columns), size = grid(image_shape, self.stride), 5 * self.boxes + classes
        images, maps = parts.features(image_shape, (self.stride,), statistics)
        x = parts.activated(maps[self.stride], 64, 1, 1, "reduce")
        x = Dense(parts.scaled(self.units), name="fc1", **parts.initial)(Flatten()(x))
        x = LeakyReLU(0.1, name="fc1_relu")(x)
        if self.dropout:
            x = Dropout(self.dropout, name="dropout")(x)
        x = Dense(rows * columns * size, name="fc2", kernel_initializer="glorot_normal",
                  kernel_regularizer=parts.initial["kernel_regularizer"])(x)
        return images, Reshape((rows, columns, size), name="cells")(x)

    def targets(self, image_shape, labels):
        rows, columns = grid(image_shape, self.stride)
        height, width = image_shape[:2]
        found = centres(labels[..., :4])
        place = found[..., :2] / [width / columns, height / rows]
        cell = tf.cast(tf.minimum(place, [columns - 1, rows - 1]), tf.int32)
        there = labels[..., 4] > NO_OBJECT
        values = tf.concat([place - tf.cast(cell, tf.float32),
                            tf.sqrt(found[..., 2:] / [width, height]), labels[..., 4:]], -1)
        slots = tf.where(there, cell[..., 1] * columns + cell[..., 0], -1)
        values = placed(values, slots, rows * columns)
        return tf.reshape(values, (-1, rows, columns, 5))

    def loss(self, y_true, y_pred):
        return yolo1_loss(y_true, y_pred, self.boxes)

    def decode(self, outputs, image_shape, **settings):
        boxes, confidence, classes = divided(outputs, self.boxes)
        rows, columns = boxes.shape[1:3]
        scores = tf.clip_by_value(confidence[..., None] * classes[..., None, :], 0.0, 1.0)
        sides = tf.constant([image_shape[1], image_shape[0]] * 2, tf.float32)
        return detections(
            tf.reshape(in_image(boxes) * sides, (-1, rows * columns * self.boxes, 4)),
            tf.reshape(scores, (-1, rows * columns * self.boxes, scores.shape[-1])),
            image_shape, **settings)


def divided(y_pred, boxes):
    """Boxes (B, rows, columns, boxes, 4), confidences (..., boxes) and classes (..., C)."""
    rows, columns = y_pred.shape[1:3]
    found = tf.reshape(y_pred[..., :5 * boxes], (-1, rows, columns, boxes, 5))
    return found[..., :4], found[..., 4], y_pred[..., 5 * boxes:]


def in_image(boxes):
    """Corners of boxes (B, rows, columns, n, 4) of the grid, as parts of the image's sides."""
    rows, columns = boxes.shape[1:3]
    y, x = tf.meshgrid(tf.range(rows), tf.range(columns), indexing="ij")
    cell = tf.cast(tf.stack([x, y], -1), boxes.dtype)[:, :, None]
    place = (boxes[..., :2] + cell) / tf.constant([columns, rows], boxes.dtype)
    return corners(tf.concat([place, tf.square(tf.nn.relu(boxes[..., 2:]))], -1))


def yolo1_loss(y_true, y_pred, boxes, coordinates=5.0, without_object=0.5):
    """Squared errors of the boxes that are responsible, of all confidences, of the classes.

    Forward:   the box of a cell with the highest IoU with the cell's object is responsible:
               L = 1/B sum over cells with an object of 5 sum (box - t)^2 + (c - IoU)^2
                   + sum over classes of (p - t)^2;  of all other boxes 0.5 c^2
    Backward:  IoU, the confidence to be learnt, is a constant
    Shapes:    y_true (B, rows, columns, 5), y_pred (B, rows, columns, 5 boxes + C) -> a number
    Source:    Redmon et al., You Only Look Once, CVPR 2016, equation 3.
    """
    found, confidence, classes = divided(y_pred, boxes)
    wanted = y_true[..., None, :4]
    overlap = tf.stop_gradient(pairwise_iou(in_image(found), in_image(wanted)))
    # Boxes that miss the object altogether are told apart by their distance, as in its code.
    distance = tf.stop_gradient(tf.reduce_sum(tf.square(found - wanted), -1))
    responsible = tf.one_hot(tf.argmax(overlap - 1e-3 * distance, -1), boxes)
    there = tf.cast(y_true[..., 4:] >= 0, tf.float32)
    responsible *= there
    truth = tf.one_hot(tf.cast(y_true[..., 4], tf.int32), classes.shape[-1])
    weight = responsible + without_object * (1 - responsible)
    total = tf.reduce_sum(coordinates * responsible[..., None] * tf.square(found - wanted))
    total += tf.reduce_sum(weight * tf.square(confidence - responsible * overlap))
    total += tf.reduce_sum(there * tf.square(classes - truth))
    return total / tf.cast(tf.shape(y_pred)[0], tf.float32)
