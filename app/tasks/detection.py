"""Detection: where the objects of an image are, and what."""

from dataclasses import replace

import keras
import numpy as np
import tensorflow as tf

from app.answers import CERTAIN
from app.data import batches
from app.detection import DETECTORS, data as data_sets, detector_of, scoring
from app.detection.fitting import box_sides
from app.detection.moving import moved_boxes
from app.errors import HandgradError
from app.models import Network, build
from app.pictures.boxes import drawn
from app.pictures.masks import side_by_side
from app.signatures import decode_whole
from app.tasks.task import Task
from app.training import validated_at_once

SHOWN = 6  # images in a report


class Detection(Task):
    """Boxes: the networks give what their detector decodes."""

    name = "detect"
    data_sets = data_sets.DATA_SETS
    # Those that take regions beside the images are for Python: `app.detection`.
    networks = {name: Network(detector.build, {"width": 0.35}, (64, 64, 1))
                for name, detector in DETECTORS.items() if not hasattr(detector, "propose")}

    def load(self, source, **settings):
        return data_sets.load(source, **settings)

    def build(self, model, data, **settings):
        """With anchors that are fitted to the boxes of the training part."""
        network, sides = self.find(model), box_sides(data.train.labels)
        if not len(sides):
            raise HandgradError(f"{data.name} has no box among its training images: there is "
                                "nothing to learn.")
        detector = DETECTORS[model].fitted(sides, data.image_shape)
        fitted = replace(network, function=detector.build)
        return build(model, data.image_shape, len(data.class_names), {model: fitted}, **settings)

    def loss(self, network, model):
        return detector_of(network).loss

    def examples(self, network, model):
        shape = network.inputs[0].shape[1:]
        detector = detector_of(network)
        return lambda images, labels: (images, detector.targets(shape, labels))

    @staticmethod
    def moved(labels, maps, image_shape):
        return moved_boxes(labels, maps, *image_shape[:2])

    def callbacks(self, network, model, train, validation):
        return [] if validation is None else [Precisions(network, validation)]

    def evaluate(self, network, split, data):
        return scoring.score(predicted(in_graph(network), split), split.labels, data.class_names)

    def answer(self, network, class_names):
        names = tf.constant(list(class_names))

        def detect(images):
            found = detections(network, images)
            there = tf.sequence_mask(found["count"], tf.shape(found["classes"])[1])
            return {**found, "labels": tf.where(there, tf.gather(names, found["classes"]), "")}

        return detect

    def signatures(self, network, data):
        """Boxes of encoded files are in the pixels of each file's own image."""
        detect, shape = self.answer(network, data.class_names), data.image_shape

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")])
        def of_files(image_bytes):
            images, sizes = tf.map_fn(
                lambda one: decode_whole(one, *shape), image_bytes,
                fn_output_signature=(tf.TensorSpec(shape), tf.TensorSpec(2)))
            factors = tf.reverse(sizes, [-1]) / [shape[1], shape[0]]
            found = detect(images)
            return {**found, "boxes": found["boxes"] * tf.tile(factors, (1, 2))[:, None]}

        return {**super().signatures(network, data), "image_bytes": of_files}

    def returns(self, data):
        return {
            "boxes": f"float32, x1, y1, x2, y2 in pixels of images {data.image_shape}, with "
                     "`image_bytes` of the file's own image, as lengths from the corner, the most "
                     "certain first, zeros behind `count`, ('batch', most, 4)",
            "scores, classes, labels": "float32, int32 and string, of each box, ('batch', most)",
            "count": "int32, how many there are, ('batch',)",
        }

    def pictures(self, network, evaluation, split, data):
        shown = split.take(np.arange(min(SHOWN, len(split))))
        found = predicted(in_graph(network), shown)
        pairs = []
        for i, image in enumerate(shown.images):
            sure = found["scores"][i] >= CERTAIN
            true = drawn(image, shown.labels[i, :, :4], shown.labels[i, :, 4], data.class_names)
            ours = drawn(image, found["boxes"][i][sure], found["classes"][i][sure],
                         data.class_names, found["scores"][i][sure])
            pairs.append((side_by_side(np.asarray(true), np.asarray(ours)), f"test image {i}"))
        return [("Test images", f"True boxes, and those detected with a score of {CERTAIN} or "
                                "more.", pairs)]


def detections(network, images):
    """What a network's detector decodes, {"boxes", "scores", "classes", "count"}."""
    return detector_of(network).decode(network(images, training=False), network.inputs[0].shape[1:])


def in_graph(network):
    """(images) -> `detections`, as a graph that is made once."""
    return tf.function(lambda images: detections(network, images), reduce_retracing=True)


def predicted(step, split):
    """What a step `in_graph` detects in all images of a part, as arrays."""
    found = [step(images) for images, _ in batches(split, validated_at_once(split))]
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


class Precisions(keras.callbacks.Callback):
    """mAP@0.5 on the validation part after each epoch: decoded, it cannot be a metric."""

    def __init__(self, network, validation):
        super().__init__()
        self.step, self.validation = in_graph(network), validation
        self.classes = [str(i) for i in range(int(validation.labels[..., 4].max()) + 1)]

    def on_epoch_end(self, epoch, logs=None):
        found = predicted(self.step, self.validation)
        logs["val_map_50"] = scoring.score(found, self.validation.labels, self.classes).map_50


TASK = Detection()
