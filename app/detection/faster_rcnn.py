"""Faster R-CNN: a region proposal network, and a second look at what it proposes."""

from dataclasses import dataclass, replace

import keras
import numpy as np
import tensorflow as tf

from app.detection import coding
from app.detection.anchors import shaped
from app.detection.boxes import area, clipped
from app.detection.detector import AnchorDetector, flat
from app.detection.fitting import clusters
from app.detection.matching import balanced, seed_of
from app.detection.regions import region_detections, region_head, regions_loss
from custom_layers import Concatenate, Conv2D, Reshape, ReLU, RoIAlign
from custom_layers.detection_losses import smooth_l1
from custom_layers.losses import softmax_cross_entropy


@dataclass(frozen=True, kw_only=True)
class FasterRCNN(AnchorDetector):
    """Faster R-CNN: proposals of a small network, classified and refined on the same features.

    The model has two outputs: "rpn" (B, A, 4 + 2), offsets and the scores of object and background,
    and "regions", those of `region_head`. Both are trained at once ("approximate joint training").

    Source: Ren, He, Girshick, Sun, Faster R-CNN, NIPS 2015, section 3. Departs from it: a small
    residual trunk, anchors as parts of the image's shorter side, anchors across its border are
    trained too, RoIAlign for RoI pooling; true boxes are not among the proposals.

    Attributes:
        areas: the roots of the anchors' areas, over the image's shorter side.
        ratios: width / height of the anchors.
        proposals: regions of an image, R.
        candidates: anchors that suppression looks at.
        overlap: IoU from which on the worse of two proposals goes.
        sampled: anchors of an image that are trained, half of them positive.
        regions: regions of an image that are trained, a quarter of them positive.
        maps: channels of the proposal network.
        units: of the two layers of the second stage.
    """

    name: str = "faster-rcnn"
    strides: tuple[int, ...] = (8,)
    upper: float = 0.7
    lower: float = 0.3
    scales: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    areas: tuple[float, ...] = (0.12, 0.25, 0.5)
    ratios: tuple[float, ...] = (1.0, 0.5, 2.0)
    proposals: int = 64
    candidates: int = 512
    overlap: float = 0.7
    sampled: int = 256
    regions: int = 64
    maps: int = 128
    units: int = 256

    def fitted(self, sides, image_shape):
        found = clusters(np.sqrt(np.prod(sides, -1)) / min(image_shape[:2]), len(self.areas))
        return self if found is None else replace(
            self, areas=tuple(round(float(root), 3) for root in found))

    def sizes(self, image_shape):
        side = min(image_shape[:2])
        pairs = shaped([side * part for part in self.areas], self.ratios)
        return {stride: pairs for stride in self.strides}

    def predictions(self, parts, image_shape, classes, statistics):
        (stride,) = self.strides
        images, maps = parts.features(image_shape, self.strides, statistics)
        features, count = maps[stride], len(self.areas) * len(self.ratios)
        x = Conv2D(parts.scaled(self.maps), 3, padding="same", name="rpn_conv",
                   **parts.initial)(features)
        x = ReLU(name="rpn_relu")(x)
        rpn = Concatenate(-1, name="rpn")([
            flat([parts.predictor(count * size, f"rpn_{name}", kernel=1)(x)], size, f"rpn_{name}")
            for name, size in (("offsets", 4), ("scores", 2))])
        rois = self.proposed(image_shape, self.candidates, self.proposals)(rpn)
        pooled = RoIAlign(7, 1 / stride, name="pooled")(features, rois)
        pooled = Reshape((self.proposals, -1), name="pooled_flat")(pooled)
        regions = region_head(parts, pooled, rois, classes, self.units)
        return images, {"rpn": rpn, "regions": regions}

    def proposed(self, image_shape, candidates, count):
        """The layer that takes proposals, at most `count`, out of the proposal network's output."""
        return Proposals(self.anchors(image_shape).tolist(), image_shape[:2], candidates, count,
                         self.overlap, name="proposals")

    def targets(self, image_shape, labels):
        return {"rpn": super().targets(image_shape, labels), "regions": labels}

    @property
    def loss(self):
        return {"rpn": self.rpn_loss, "regions": self.regions_loss}

    def rpn_loss(self, y_true, y_pred):
        return rpn_loss(y_true, y_pred, self.sampled)

    def regions_loss(self, y_true, y_pred):
        return regions_loss(y_true, y_pred, count=self.regions, positives=self.regions // 4,
                            lower=0.0)

    def decode(self, outputs, image_shape, **settings):
        return region_detections(outputs["regions"], image_shape, **settings)


def rpn_loss(y_true, y_pred, sampled):
    """Softmax cross entropy of sampled anchors, smooth L1 of the offsets of the positive ones.

    Forward:   L = 1/n (sum over the n sampled of CE + sum over their positives of smooth L1)
    Shapes:    y_true (B, A, 5), y_pred (B, A, 4 + 2), object first -> a number
    Source:    Ren et al., Faster R-CNN, NIPS 2015, equation 1, smooth L1 with delta = 1/9 and one
               weight for both, as in its code.
    """
    classes = tf.cast(y_true[..., 4], tf.int32)
    chosen = balanced(classes, sampled, sampled // 2, seed_of(y_pred))
    positive = classes >= 0
    entropy = softmax_cross_entropy(y_pred[..., 4:], tf.where(positive, 0, 1))
    distance = tf.reduce_sum(smooth_l1(y_pred[..., :4], y_true[..., :4], delta=1 / 9), -1)
    total = (tf.reduce_sum(tf.where(chosen, entropy, 0.0))
             + tf.reduce_sum(tf.where(chosen & positive, distance, 0.0)))
    return total / tf.maximum(tf.reduce_sum(tf.cast(chosen, total.dtype)), 1.0)


@keras.saving.register_keras_serializable("handgrad")
class Proposals(keras.layers.Layer):
    """The best boxes of a proposal network: (B, A, 4 + 2) -> (B, R, 4), zeros where fewer.

    Boxes wholly outside the image are none. They are constants: no gradient flows through them.

    Args:
        anchors: (A, 4), a list.
        image_size: (height, width), that boxes are cut to.
        candidates: anchors of the highest scores, which suppression looks at.
        count: R.
        overlap: IoU from which on the worse of two goes.
    """

    def __init__(self, anchors, image_size, candidates, count, overlap, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.anchors, self.image_size = anchors, tuple(image_size)
        self.candidates, self.count, self.overlap = candidates, count, overlap

    def call(self, rpn):
        rpn = tf.cast(tf.stop_gradient(rpn), tf.float32)
        boxes = clipped(coding.decode(tf.constant(self.anchors), rpn[..., :4]), *self.image_size)
        scores, best = tf.math.top_k(tf.nn.softmax(rpn[..., 4:])[..., 0],
                                     min(self.candidates, len(self.anchors)))
        boxes = tf.gather(boxes, best, batch_dims=1)
        kept, count = tf.image.non_max_suppression_padded(
            boxes, scores, self.count, self.overlap, pad_to_max_output_size=True,
            sorted_input=True, canonicalized_coordinates=True)
        boxes = tf.gather(boxes, kept, batch_dims=1)
        there = tf.sequence_mask(count, self.count) & (area(boxes) > 0)
        return tf.stop_gradient(tf.where(there[..., None], boxes, 0.0))

    def compute_output_shape(self, input_shape):
        return input_shape[0], self.count, 4

    def get_config(self):
        return {**super().get_config(), "anchors": self.anchors, "image_size": self.image_size,
                "candidates": self.candidates, "count": self.count, "overlap": self.overlap}
