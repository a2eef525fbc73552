"""What all detectors share: how they are built, what they learn from, what they answer."""

import inspect
from dataclasses import dataclass

import tensorflow as tf

from app.detection import coding
from app.detection.anchors import anchors
from app.detection.decoding import detections
from app.detection.matching import match, matched
from app.detection.settings import model
from app.detection.trunk import Parts
from app.models.trunks import SMALL
from custom_layers import Concatenate, Reshape


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A detector: four functions, from images to boxes. Its fields are the settings they share.

    predictions(parts, image_shape, classes, statistics) -> (inputs, raw predictions) of a network
        whose features are those of the `trunk.Parts`.
    targets(image_shape, labels (B, M, 5)) -> what `loss` compares with, for `tf.data`'s map.
    loss(y_true, y_pred) -> a number; for a model of several outputs a dict of such functions.
    decode(outputs, image_shape, **settings) -> the `detections` of each image.
    """

    name: str

    def build(self, image_shape, classes, *, width=1.0, depth=1, trunk=SMALL, weights=None,
              weight_decay=0.0, statistics=None):
        """The network, from images (B, H, W, C) to raw predictions.

        Args: those of `trunk.Parts`, and
            statistics: (mean, std) of the training images, that the network normalises by.
        """
        parts = Parts(width, weight_decay, depth, trunk, weights)
        return model(self, *self.predictions(parts, image_shape, classes, statistics))

    def fitted(self, sides, image_shape):
        """The detector for boxes of these sides (n, 2), width and height in pixels."""
        return self

    @property
    def what(self):
        """A line on the detector."""
        return inspect.getdoc(type(self)).splitlines()[0]


@dataclass(frozen=True, kw_only=True)
class AnchorDetector(Detector):
    """A one-stage detector: from each anchor an offset to a box, and scores.

    Predictions are (B, A, 4 + scores), targets (B, A, 5): offsets and a class, which is NEGATIVE
    or IGNORED for an anchor without object.

    Attributes:
        strides: of the feature maps that are predicted from.
        upper, lower: see `match`.
        scales: that offsets are divided by.
    """

    strides: tuple[int, ...] = (8, 16, 32)
    upper: float = 0.5
    lower: float = 0.5
    scales: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2)

    def sizes(self, image_shape):
        """{stride: (width, height) of each anchor of a cell}, in pixels."""
        raise NotImplementedError

    def probabilities(self, logits):
        """(B, A, C) of the classes, out of their raw scores."""
        raise NotImplementedError

    def anchors(self, image_shape):
        """All anchors (A, 4) of an image."""
        return anchors(image_shape, self.sizes(image_shape))

    def targets(self, image_shape, labels):
        prior = self.anchors(image_shape)
        rows = match(prior, labels, upper=self.upper, lower=self.lower)
        boxes, classes = matched(labels, rows)
        offsets = coding.encode(prior, boxes, self.scales)
        offsets = tf.where(classes[..., None] >= 0, offsets, 0.0)
        return tf.concat([offsets, classes[..., None]], -1)

    def decode(self, outputs, image_shape, **settings):
        boxes = coding.decode(self.anchors(image_shape), outputs[..., :4], self.scales)
        return detections(boxes, self.probabilities(outputs[..., 4:]), image_shape, **settings)


def flat(maps, size, name="rows"):
    """Predictions of feature maps (B, h, w, k * size), in one list: (B, A, size)."""
    rows = [Reshape((-1, size), name=f"{name}_level{i}")(x) for i, x in enumerate(maps, 1)]
    return Concatenate(1, name=name)(rows) if len(rows) > 1 else rows[0]
