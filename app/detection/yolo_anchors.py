"""YOLO v2 and v3: offsets from priors within a cell, and whether an object is there."""

from dataclasses import dataclass, replace

import keras
import numpy as np
import tensorflow as tf

from app.detection.anchors import anchors, grid
from app.detection.boxes import NO_OBJECT, centres, corners, iou, pairwise_iou
from app.detection.coding import LARGEST
from app.detection.decoding import detections
from app.detection.detector import Detector, flat
from app.detection.fitting import clusters
from app.detection.matching import IGNORED, NEGATIVE, placed
from app.detection.trunk import upsampled
from custom_layers import Concatenate, Reshape, ZeroPadding2D
from custom_layers.losses import sigmoid_cross_entropy, softmax_cross_entropy


@dataclass(frozen=True, kw_only=True)
class PriorDetector(Detector):
    """What YOLO v2 and v3 share: an object belongs to one prior of the cell of its centre.

    Predictions are (B, A, 5 + C): t_x, t_y, t_w, t_h, the objectness t_o, the classes. A box is
        x = (c + sigmoid(t_x)) stride, w = p exp(t_w), c the corner of the cell, p the prior.
    Targets are (B, A, 5): sigmoid(t_x), sigmoid(t_y), t_w, t_h and the class; NEGATIVE where no
    object belongs, IGNORED there where the prior overlaps one by more than `ignored`.

    Source: Redmon, Farhadi, YOLO9000, CVPR 2017, section 2; YOLOv3, 2018, section 2.1.

    Attributes:
        strides: of the feature maps that are predicted from.
        priors: for each stride (width, height) pairs, in units of its cells.
    """

    strides: tuple[int, ...]
    priors: tuple[tuple[tuple[float, float], ...], ...]
    ignored: float = 0.5

    def sizes(self, image_shape):
        """{stride: (width, height) of each prior of a cell}, in pixels."""
        return {stride: [(stride * w, stride * h) for w, h in pairs]
                for stride, pairs in zip(self.strides, self.priors, strict=True)}

    def fitted(self, sides, image_shape):
        counts = [len(pairs) for pairs in self.priors]
        found = clusters(sides, sum(counts))
        if found is None:
            return self
        parts = np.split(found, np.cumsum(counts)[:-1])
        return replace(self, priors=tuple(
            tuple((round(float(w / stride), 3), round(float(h / stride), 3)) for w, h in pairs)
            for stride, pairs in zip(self.strides, parts, strict=True)))

    def anchors(self, image_shape):
        """All priors (A, 4) around the centres of their cells."""
        return anchors(image_shape, self.sizes(image_shape))

    def targets(self, image_shape, labels):
        found, priors, first = centres(labels[..., :4]), [], 0
        for stride, pairs in self.sizes(image_shape).items():
            rows, columns = grid(image_shape, stride)
            priors += [(*pair, stride, rows, columns, first + i, len(pairs))
                       for i, pair in enumerate(pairs)]
            first += rows * columns * len(pairs)
        priors = tf.constant(priors, tf.float32)
        best = tf.argmax(iou(_around_0(priors[:, :2]), _around_0(found[..., 2:])), 1)
        sides, stride, (rows, columns, first_slot, step) = _columns(tf.gather(priors, best))
        place = found[..., :2] / stride
        cell = tf.minimum(tf.floor(place), tf.stack([columns - 1, rows - 1], -1))
        sides = tf.math.log(tf.maximum(found[..., 2:], 1e-3) / sides)
        values = tf.concat([place - cell, sides, labels[..., 4:]], -1)
        slot = first_slot + (cell[..., 1] * columns + cell[..., 0]) * step
        slot = tf.where(labels[..., 4] > NO_OBJECT, tf.cast(slot, tf.int32), -1)
        values = placed(values, slot, first)
        overlap = tf.reduce_max(iou(self.anchors(image_shape), labels[..., :4]), -1)
        ignored = (values[..., 4] == NEGATIVE) & (overlap > self.ignored)
        classes = tf.where(ignored, float(IGNORED), values[..., 4])
        return tf.concat([values[..., :4], classes[..., None]], -1)

    def probabilities(self, logits):
        """(B, A, C) of the classes, given that an object is there."""
        raise NotImplementedError

    def decode(self, outputs, image_shape, **settings):
        prior = centres(tf.constant(self.anchors(image_shape)))
        stride = np.concatenate([np.full(len(pairs) * np.prod(grid(image_shape, stride)), stride)
                                 for stride, pairs in self.sizes(image_shape).items()])
        place = prior[:, :2] + (tf.sigmoid(outputs[..., :2]) - 0.5) * stride[:, None]
        sides = prior[:, 2:] * tf.exp(tf.minimum(outputs[..., 2:4], LARGEST))
        scores = tf.sigmoid(outputs[..., 4:5]) * self.probabilities(outputs[..., 5:])
        return detections(corners(tf.concat([place, sides], -1)), scores, image_shape, **settings)


def _around_0(sides):
    """Boxes (..., 4) of sides (..., 2), their centres at 0: to compare shapes."""
    return corners(tf.concat([tf.zeros_like(sides), sides], -1))


def _columns(priors):
    """The sides, the stride and the other numbers of rows of priors (..., 7)."""
    return priors[..., :2], priors[..., 2:3], tf.unstack(priors[..., 3:], axis=-1)


@dataclass(frozen=True, kw_only=True)
class YOLO2(PriorDetector):
    """YOLO v2: five priors a cell, finer features passed through, classes by softmax.

    Source: Redmon, Farhadi, YOLO9000: Better, Faster, Stronger, CVPR 2017, section 2. Departs from
    it: a small residual trunk, and priors for small images.
    """

    name: str = "yolo-v2"
    strides: tuple[int, ...] = (8,)
    priors: tuple = (((1.0, 1.0), (1.25, 2.0), (2.0, 1.25), (2.5, 2.5), (5.0, 5.0)),)

    def predictions(self, parts, image_shape, classes, statistics):
        (stride,), (priors,) = self.strides, self.priors
        images, maps = parts.features(image_shape, (stride // 2, stride), statistics)
        x = parts.activated(maps[stride], 256, 3, 1, "conv6")
        fine = parts.activated(maps[stride // 2], 32, 1, 1, "passthrough")
        x = Concatenate(name="merged")([to_depth(fine, "to_depth"), x])
        x = parts.activated(x, 256, 3, 1, "conv7")
        size = 5 + classes
        x = parts.predictor(len(priors) * size, "predict", kernel=1)(x)
        return images, flat([x], size)

    def loss(self, y_true, y_pred):
        return yolo2_loss(y_true, y_pred, self.priors[0])

    def probabilities(self, logits):
        return tf.nn.softmax(logits)


@dataclass(frozen=True, kw_only=True)
class YOLO3(PriorDetector):
    """YOLO v3: three priors a cell at three scales, objectness and classes by logistic regression.

    Source: Redmon, Farhadi, YOLOv3: An Incremental Improvement, 2018, section 2. Departs from it:
    a small residual trunk, and priors for small images.
    """

    name: str = "yolo-v3"
    strides: tuple[int, ...] = (8, 16, 32)
    priors: tuple = (((1.0, 1.0), (1.25, 2.0), (2.0, 1.25)), ((1.25, 1.25), (1.5, 2.5), (2.5, 1.5)),
                     ((1.5, 1.5), (2.0, 3.0), (3.0, 2.0)))

    def predictions(self, parts, image_shape, classes, statistics):
        images, maps = parts.features(image_shape, self.strides, statistics)
        size, found, x = 5 + classes, [], None
        for stride, priors in sorted(zip(self.strides, self.priors), reverse=True):
            filters, features = min(16 * stride, 256), maps[stride]
            if x is not None:
                x = parts.activated(x, filters, 1, 1, f"reduce{stride}")
                x = upsampled(x, features, f"larger{stride}")
                features = Concatenate(name=f"merged{stride}")([x, features])
            x = parts.activated(features, filters, 1, 1, f"mix{stride}")
            head = parts.activated(x, filters, 3, 1, f"head{stride}")
            found.insert(0, parts.predictor(len(priors) * size, f"predict{stride}", kernel=1)(head))
        return images, flat(found, size)

    @staticmethod
    def loss(y_true, y_pred):
        return yolo3_loss(y_true, y_pred)

    def probabilities(self, logits):
        return tf.sigmoid(logits)


def to_depth(x, name):
    """(B, h, w, c) as (B, h / 2, w / 2, 4 c), an odd side padded with zeros: YOLO v2's passthrough.
    """
    odd = [side % 2 for side in x.shape[1:3]]
    if any(odd):
        x = ZeroPadding2D([(0, n) for n in odd], name=f"{name}_even")(x)
    _, h, w, c = x.shape
    x = Reshape((h // 2, 2, w // 2, 2, c), name=f"{name}_blocks")(x)
    x = keras.layers.Permute((1, 3, 2, 4, 5), name=f"{name}_moved")(x)
    return Reshape((h // 2, w // 2, 4 * c), name=name)(x)


def yolo2_loss(y_true, y_pred, priors, with_object=5.0):
    """Squared errors of boxes and objectness, softmax cross entropy of classes.

    Forward:   L = 1/B sum over positives of |s(t_xy) - t|^2 + |t_wh - t|^2 + CE
                   + 5 (s(t_o) - IoU)^2
                   + 1/B sum over negatives of s(t_o)^2
    Backward:  IoU, the objectness to be learnt, is a constant
    Shapes:    y_true (B, A, 5), y_pred (B, A, 5 + C), priors: (width, height) pairs -> a number
    Source:    Redmon, Farhadi, YOLO9000, CVPR 2017, section 2. The weights are those of its code.
    """
    classes = tf.cast(y_true[..., 4], tf.int32)
    positive, objectness = classes >= 0, tf.sigmoid(y_pred[..., 4])
    place = tf.sigmoid(y_pred[..., :2])
    prior = tf.tile(tf.constant(priors, tf.float32), (y_pred.shape[1] // len(priors), 1))

    def boxes(place, sides):
        sides = prior * tf.exp(tf.minimum(sides, LARGEST))
        return corners(tf.concat([place, sides], -1))

    overlap = tf.stop_gradient(pairwise_iou(boxes(place, y_pred[..., 2:4]),
                                            boxes(y_true[..., :2], y_true[..., 2:4])))
    error = tf.reduce_sum(tf.square(place - y_true[..., :2]), -1)
    error += tf.reduce_sum(tf.square(y_pred[..., 2:4] - y_true[..., 2:4]), -1)
    error += with_object * tf.square(objectness - overlap)
    error += softmax_cross_entropy(y_pred[..., 5:], tf.maximum(classes, 0))
    total = (tf.reduce_sum(tf.where(positive, error, 0.0))
             + tf.reduce_sum(tf.where(classes == NEGATIVE, tf.square(objectness), 0.0)))
    return total / tf.cast(tf.shape(y_pred)[0], tf.float32)


def yolo3_loss(y_true, y_pred):
    """Binary cross entropy of places, objectness and classes, half squares of sides.

    Forward:   L = 1/B sum over positives of BCE(t_xy) + 1/2 |t_wh - t|^2 + BCE(t_o, 1)
                   + sum over classes of BCE;  + 1/B sum over negatives of BCE(t_o, 0)
    Shapes:    y_true (B, A, 5), y_pred (B, A, 5 + C) -> a number
    Source:    Redmon, Farhadi, YOLOv3, 2018, section 2. The cross entropy of places is its code's:
               its gradient, sigmoid(t) - truth, is what the paper states.
    """
    classes = tf.cast(y_true[..., 4], tf.int32)
    positive = classes >= 0
    truth = tf.one_hot(classes, y_pred.shape[-1] - 5)
    there = tf.cast(positive, tf.float32)
    objectness = sigmoid_cross_entropy(y_pred[..., 4], there)
    error = tf.reduce_sum(sigmoid_cross_entropy(y_pred[..., :2], y_true[..., :2]), -1)
    error += 0.5 * tf.reduce_sum(tf.square(y_pred[..., 2:4] - y_true[..., 2:4]), -1)
    error += tf.reduce_sum(sigmoid_cross_entropy(y_pred[..., 5:], truth), -1)
    total = (tf.reduce_sum(tf.where(positive, error, 0.0))
             + tf.reduce_sum(tf.where(classes == IGNORED, 0.0, objectness)))
    return total / tf.cast(tf.shape(y_pred)[0], tf.float32)
