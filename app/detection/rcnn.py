"""R-CNN: each region cut out, warped to one size, and seen by the network by itself."""

from dataclasses import dataclass

import keras
import tensorflow as tf

from app.detection.boxes import centres, corners
from app.detection.fast_rcnn import FastRCNN
from app.detection.regions import region_head
from app.models.common import start_functional
from custom_layers import GlobalAveragePooling2D, RoIAlign


@dataclass(frozen=True, kw_only=True)
class RCNN(FastRCNN):
    """R-CNN: given regions, each warped and classified by itself, then linear SVMs and ridge.

    Trained as Fast R-CNN is (the paper's fine-tuning), then `app.detection.refitting.refit` puts
    linear SVMs and a ridge regression in place of what its last layers have learned.

    Source: Girshick, Donahue, Darrell, Malik, Rich Feature Hierarchies, CVPR 2014, section 2.
    Departs from it: a small residual trunk in place of AlexNet, regions warped to few pixels.

    Attributes:
        side: pixels that a region is warped to.
        context: the sides of what is cut out, over those of the region: 16 of 227 pixels on each
            side.
    """

    name: str = "rcnn"
    proposals: int = 128
    side: int = 32
    context: float = 227 / 195

    def predictions(self, parts, image_shape, classes, statistics):
        # A trunk with weights of its own knows how it expects images.
        images, normalised = start_functional(image_shape, None if parts.given else statistics)
        rois = keras.Input((self.proposals, 4), name="proposals")
        warped = RoIAlign(self.side, 1.0, name="warped")(
            normalised, Widened(self.context, name="widened")(rois))
        seen, maps = parts.features((self.side, self.side, image_shape[-1]), (self.stride,))
        features = GlobalAveragePooling2D(name="mean")(maps[self.stride])
        x = Each(keras.Model(seen, features, name="trunk"), name="each")(warped)
        regions = region_head(parts, x, rois, classes, self.units)
        return {"images": images, "proposals": rois}, regions


@keras.saving.register_keras_serializable("handgrad")
class Widened(keras.layers.Layer):
    """Boxes (B, R, 4) about their centres, their sides times a factor."""

    def __init__(self, factor, **kwargs):
        super().__init__(autocast=False, **kwargs)  # 16 bits do not count all pixels
        self.factor = factor

    def call(self, boxes):
        boxes = centres(boxes)
        return corners(tf.concat([boxes[..., :2], self.factor * boxes[..., 2:]], -1))

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable("handgrad")
class Each(keras.layers.Layer):
    """A network on each of the R images of a sample: (B, R, H, W, C) -> (B, R, n), in one call."""

    def __init__(self, network, **kwargs):
        super().__init__(**kwargs)
        self.network = network

    def call(self, x, training=None):
        found = self.network(tf.reshape(x, (-1, *x.shape[2:])), training=training)
        return tf.reshape(found, (-1, x.shape[1], found.shape[-1]))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:2], self.network.output_shape[-1])

    def get_config(self):
        return {**super().get_config(),
                "network": keras.saving.serialize_keras_object(self.network)}

    @classmethod
    def from_config(cls, config):
        network = keras.saving.deserialize_keras_object(config.pop("network"))
        return cls(network, **config)
