"""Segmentation: a class for each pixel of an image."""

import keras
import numpy as np
import tensorflow as tf

from app.models import Network
from app.pictures.masks import legend, overlay, side_by_side
from app.segmentation import VOID, data as data_sets, scoring
from app.segmentation.fcn import fcn
from app.segmentation.segnet import segnet, segnet_basic
from app.segmentation.unet import unet
from app.tasks.task import Task
from custom_layers import SoftmaxCrossEntropy, SoftmaxJaccard

SHOWN = 6


class Segmentation(Task):
    """Masks: the networks give logits (N, H, W, C)."""

    name, averaged = "segment", True
    loss_settings = ("class_weights", "jaccard")
    data_sets = data_sets.DATA_SETS
    networks = {
        "unet": Network(unet, {"filters": 16, "stem": 2}, image_shape=(64, 64, 1), classes=11),
        "unet-photo": Network(unet, {"levels": 4, "filters": 16, "most": 128, "finest": 1,
                                     "stem": 2, "by_image": True}, (360, 480, 3), 11),
        "segnet-basic": Network(segnet_basic, image_shape=(360, 480, 3), classes=11),
        "segnet-basic-photo": Network(segnet_basic, {"reduction": 2, "by_image": True},
                                      (360, 480, 3), 11),
        "segnet": Network(segnet, image_shape=(360, 480, 3), classes=11),
        **{f"fcn-{stride}s": Network(fcn, {"stride": stride}, (224, 224, 3), 21)
           for stride in (32, 16, 8)},
    }

    def load(self, source, **settings):
        return data_sets.load(source, **settings)

    def head(self, network):
        """Of FCN the scores of all strides, and what enlarges them."""
        scores = [layer.name for layer in network.layers
                  if layer.weights and layer.name.startswith(("score_", "upsample"))]
        return list(dict.fromkeys([*super().head(network), *scores]))

    def loss(self, network, model, class_weights=None, jaccard=0.0):
        settings = {"ignore_class": VOID, "class_weights": class_weights}
        return SoftmaxJaccard(jaccard, **settings) if jaccard else SoftmaxCrossEntropy(**settings)

    def metrics(self, network):
        return [keras.metrics.MeanIoU(network.output_shape[-1], name="mean_iou", ignore_class=VOID,
                                      sparse_y_pred=False)]

    @staticmethod
    def moved(masks, maps, image_shape):
        """Masks moved as `app.augmentation` moves images, by the nearest pixel; void comes in."""
        a, b, c, d, x, y = tf.unstack(maps, axis=1)
        zero = tf.zeros_like(a)
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=masks[..., None], transforms=tf.stack([a, b, x, c, d, y, zero, zero], axis=1),
            output_shape=tf.shape(masks)[1:], fill_value=float(VOID), interpolation="NEAREST",
            fill_mode="CONSTANT")[..., 0]

    def evaluate(self, network, split, data):
        return scoring.evaluate(network, split, data.class_names)

    def answer(self, network, class_names):
        def segment(images):
            logits = network(images, training=False)
            return {"mask": tf.argmax(logits, -1, tf.int32),
                    "score": tf.reduce_max(tf.nn.softmax(logits), -1)}

        return segment

    def returns(self, data):
        shape = ("batch", *data.image_shape[:2])
        return {"mask": f"int32, the class of each pixel, {shape}",
                "score": f"float32, its probability, {shape}"}

    def pictures(self, network, evaluation, split, data):
        classes = len(data.class_names)

        def shown(indices):
            predicted = network.predict_on_batch(split.images[indices].astype(np.float32) / 255)
            found = predicted.argmax(-1).astype(np.uint8)
            return [(side_by_side(image, overlay(image, true, classes),
                                  overlay(image, mask, classes)), f"IoU {iou:.2f}")
                    for image, true, mask, iou in zip(
                        split.images[indices], split.labels[indices], found,
                        evaluation.by_image[indices])]

        text = "Image, true mask, predicted mask."
        return [("Colours", "Of the classes, in masks.", legend(data.class_names)),
                ("Test images", text, shown(np.arange(min(SHOWN, len(split))))),
                ("The worst", text, shown(evaluation.worst()))]


TASK = Segmentation()
