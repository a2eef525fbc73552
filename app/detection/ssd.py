"""SSD: default boxes of several scales, each with a softmax over the classes and background."""

from dataclasses import dataclass, replace

import tensorflow as tf

from app.detection.anchors import default_boxes
from app.detection.detector import AnchorDetector, flat
from app.detection.fitting import extremes
from app.detection.matching import NEGATIVE
from custom_layers.detection_losses import smooth_l1
from custom_layers.losses import softmax_cross_entropy


@dataclass(frozen=True, kw_only=True)
class SSD(AnchorDetector):
    """SSD: default boxes at several scales, classes by softmax, hard negatives 3 to 1.

    Source: Liu et al., SSD: Single Shot MultiBox Detector, ECCV 2016. Departs from it: a small
    residual trunk, and scales for small images.

    Attributes:
        smallest, largest: sides of the default boxes of the first and the last feature map, as
            parts of the image's shorter side.
    """

    name: str = "ssd"
    smallest: float = 0.15
    largest: float = 0.7

    def fitted(self, sides, image_shape):
        smallest, largest = extremes(sides) / min(image_shape[:2])
        return replace(self, smallest=round(smallest, 3), largest=round(largest, 3))

    def sizes(self, image_shape):
        return default_boxes(min(image_shape[:2]), self.strides, self.smallest, self.largest)

    def predictions(self, parts, image_shape, classes, statistics):
        images, maps = parts.features(image_shape, self.strides, statistics)
        size = 4 + classes + 1
        raw = [parts.predictor(len(pairs) * size, f"predict{stride}")(maps[stride])
               for stride, pairs in self.sizes(image_shape).items()]
        return images, flat(raw, size)

    @staticmethod
    def loss(y_true, y_pred):
        return ssd_loss(y_true, y_pred)

    def probabilities(self, logits):
        return tf.nn.softmax(logits)[..., :-1]


def ssd_loss(y_true, y_pred, negatives=3):
    """Softmax cross entropy of the positives and of the hardest negatives, smooth L1 of boxes.

    Forward:   L = 1/N sum over positives of (CE + smooth L1)
                   + 1/N sum over the 3 n negatives of largest CE of CE,
               n the positives of an image (at least 1), N those of the batch (at least 1)
    Shapes:    y_true (B, A, 4 + 1), y_pred (B, A, 4 + C + 1), background last -> a number
    Source:    Liu et al., SSD, ECCV 2016, equations 1 to 3 and hard negative mining. Departs
               from it: an image without objects has 3 negatives, not 0.
    """
    classes, background = tf.cast(y_true[..., 4], tf.int32), y_pred.shape[-1] - 5
    positive = classes >= 0
    entropy = softmax_cross_entropy(y_pred[..., 4:], tf.where(positive, classes, background))
    distance = tf.reduce_sum(smooth_l1(y_pred[..., :4], y_true[..., :4]), -1)
    counts = tf.reduce_sum(tf.cast(positive, tf.int32), -1)
    hardest = tf.sort(tf.where(classes == NEGATIVE, entropy, 0.0), -1, "DESCENDING")
    taken = tf.sequence_mask(negatives * tf.maximum(counts, 1), tf.shape(hardest)[1])
    total = (tf.reduce_sum(tf.where(positive, entropy + distance, 0.0))
             + tf.reduce_sum(tf.where(taken, hardest, 0.0)))
    return total / tf.cast(tf.maximum(tf.reduce_sum(counts), 1), total.dtype)
