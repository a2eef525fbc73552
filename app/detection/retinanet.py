"""RetinaNet: a feature pyramid, two heads shared by its levels, the focal loss."""

import math
from dataclasses import dataclass, replace

import keras
import numpy as np
import tensorflow as tf

from app.detection.anchors import shaped
from app.detection.detector import AnchorDetector, flat
from app.detection.fitting import extremes
from app.detection.matching import IGNORED
from app.detection.trunk import upsampled
from custom_layers import Add, BatchNormalization, Concatenate, Conv2D, ReLU
from custom_layers.detection_losses import sigmoid_focal_cross_entropy, smooth_l1


@dataclass(frozen=True, kw_only=True)
class RetinaNet(AnchorDetector):
    """RetinaNet: a feature pyramid with shared heads, trained on all anchors by the focal loss.

    Source: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017; Lin et al., Feature
    Pyramid Networks for Object Detection, CVPR 2017, section 3. Departs from them: a small trunk,
    pyramid levels of `maps` channels, of strides 8, 16, 32 alone, anchors for small images, and
    heads that are normalised, for each level by itself: training from scratch needs it.

    Attributes:
        base: the side of the smallest anchor of a level, over its stride.
        prior: the probability that an anchor begins with, of any class.
        maps: channels of the pyramid and of the heads.
        tower: convolutions of a head before its prediction.
    """

    name: str = "retinanet"
    lower: float = 0.4
    base: float = 1.5
    prior: float = 0.01
    maps: int = 128
    tower: int = 2

    def fitted(self, sides, image_shape):
        # The middle anchor of the middle level is as large as the middle of the boxes.
        middle = np.sqrt(np.prod(extremes(sides)))
        level = np.exp(np.log(self.strides).mean())
        return replace(self, base=round(float(middle / level / 2 ** (1 / 3)), 3))

    def sizes(self, image_shape):
        octave = [2 ** (k / 3) for k in range(3)]
        return {stride: shaped([stride * self.base * scale for scale in octave], (1.0, 2.0, 0.5))
                for stride in self.strides}

    def predictions(self, parts, image_shape, classes, statistics):
        images, maps = parts.features(image_shape, self.strides, statistics)
        levels = self._pyramid(parts, maps)
        count = len(self.sizes(image_shape)[self.strides[0]])
        bias = keras.initializers.Constant(-math.log((1 - self.prior) / self.prior))
        boxes = self._head(parts, levels, count, 4, "box")
        scores = self._head(parts, levels, count, classes, "class", bias)
        return images, Concatenate(-1, name="both")([boxes, scores])

    def _pyramid(self, parts, maps):
        """Each level: its features, and the level above at twice the size; then a 3x3 convolution.
        """
        def conv(x, kernel, name):
            return Conv2D(parts.scaled(self.maps), kernel, padding="same", name=name,
                          **parts.initial)(x)

        above, levels = None, []
        for stride in sorted(self.strides, reverse=True):
            x = conv(maps[stride], 1, f"lateral{stride}")
            if above is not None:
                larger = upsampled(above, x, f"larger{stride}")
                x = Add(name=f"merged{stride}")([x, larger])
            above = x
            levels.insert(0, conv(x, 3, f"pyramid{stride}"))
        return levels

    def _head(self, parts, levels, count, size, name, bias="zeros"):
        """One stack of convolutions, the same for all levels: (B, A, size)."""
        for i in range(1, self.tower + 1):
            conv = Conv2D(parts.scaled(self.maps), 3, padding="same", use_bias=False,
                          name=f"{name}{i}", **parts.initial)
            levels = [
                ReLU(name=f"{name}{i}_relu{stride}")(
                    BatchNormalization(momentum=parts.momentum, name=f"{name}{i}_bn{stride}")(
                        conv(x)))
                for stride, x in zip(sorted(self.strides), levels)]
        predict = parts.predictor(count * size, f"{name}_predict", bias=bias)
        return flat([predict(x) for x in levels], size, name)

    @staticmethod
    def loss(y_true, y_pred):
        return retinanet_loss(y_true, y_pred)

    def probabilities(self, logits):
        return tf.sigmoid(logits)


def retinanet_loss(y_true, y_pred):
    """The focal loss of all classes of all anchors but ignored ones, and smooth L1 of boxes.

    Forward:   L = 1/N (sum over anchors, classes of FL + sum over positives of smooth L1),
               N the positives of the batch (at least 1)
    Shapes:    y_true (B, A, 4 + 1), y_pred (B, A, 4 + C) -> a number
    Source:    Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, section 4.
    """
    classes, logits = tf.cast(y_true[..., 4], tf.int32), y_pred[..., 4:]
    truth = tf.one_hot(classes, logits.shape[-1], dtype=logits.dtype)
    focal = tf.reduce_sum(sigmoid_focal_cross_entropy(logits, truth), -1)
    distance = tf.reduce_sum(smooth_l1(y_pred[..., :4], y_true[..., :4]), -1)
    positive = classes >= 0
    total = (tf.reduce_sum(tf.where(classes == IGNORED, 0.0, focal))
             + tf.reduce_sum(tf.where(positive, distance, 0.0)))
    return total / tf.maximum(tf.reduce_sum(tf.cast(positive, total.dtype)), 1.0)
