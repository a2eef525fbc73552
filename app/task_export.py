"""Exports of tasks beyond classification: what a network's outputs mean is decoded in the graph.

A version is written, checked in a fresh process and published as those of classifiers are
(`app.publishing`). Its signatures are the task's: for images `serving_default` (`images`: float32
in [0, 1], NHWC) and `image_bytes` (encoded files), with what the task answers.
"""

import keras
import numpy as np
import tensorflow as tf
from keras.src.models.functional import Functional

from app.folding import count_norms, folded
from app.model_card import task_card
from app.publishing import exporting, publish, verify, writing
from app.signatures import decode, write_functions
from app.verification import differing, plain
from app.warmup import write_warmup

SAMPLES = 4  # that the check asks for


def export_task(task, model, data, *, name, to="saved_models", card):
    """Writes the next version of `name` below `to`, and returns its folder.

    Args:
        task: the `app.tasks.task.Task` of the model.
        data: its `app.data.Data`: the class names, and images for the check.
        card: what is known of the model, for its card.

    Raises:
        HandgradError: where it cannot be written, or does not answer as the model does. Nothing
            is left of it then.
    """
    with exporting(name, to) as folder:
        samples = task.samples(data, SAMPLES)
        with tf.device("CPU"):
            expected = _answers(task.signatures(model, data), samples)
        network = _folded(task, model, data, samples, expected)
        known = task_card(task, model, name, data,
                          {**card, "folded": count_norms(model) - count_norms(network)})
        with writing(folder) as aside:
            write_functions(task.signatures(network, data), data.class_names, aside / "model")
            verify(aside, _reference(samples, expected))
            if "image_bytes" in samples:
                write_warmup(aside / "model" / "assets.extra", name, data.image_shape)
            return publish(aside / "model", folder, known)


def image_signatures(answer, shape):
    """The signatures of a task that answers on images of a shape: `answer(images)`."""

    @tf.function(input_signature=[tf.TensorSpec((None, *shape), tf.float32, name="images")])
    def predict(images):
        return answer(images)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")])
    def predict_encoded(image_bytes):
        return answer(tf.map_fn(lambda one: decode(one, *shape), image_bytes,
                                fn_output_signature=tf.TensorSpec(shape, tf.float32)))

    return {"serving_default": predict, "image_bytes": predict_encoded}


def image_samples(images, count):
    """{signature: {input: values}} of the first images, uint8 (N, H, W, C)."""
    pixels = images[:count]
    encoded = [tf.io.encode_png(image).numpy() for image in pixels]
    return {"serving_default": {"images": (pixels / 255).astype(np.float32)},
            "image_bytes": {"image_bytes": np.array(encoded, object)}}


def _answers(signatures, samples):
    """{(signature, output): values}"""
    return {(name, output): plain(value.numpy())
            for name, given in samples.items()
            for output, value in signatures[name](*map(tf.constant, given.values())).items()}


def _folded(task, model, data, samples, expected):
    """The model without the normalisation that folds away, or as it is where that is not equal."""
    if not isinstance(model, (Functional, keras.Sequential)):
        return model
    candidate = folded(model)
    with tf.device("CPU"):
        found = _answers(task.signatures(candidate, data), samples)
    return model if differing(found, expected) else candidate


def _reference(samples, expected):
    """What `app.verification` reads, as arrays that NumPy can write."""
    given = {f"given/{signature}/{name}": np.array([one.hex() for one in value])
             if value.dtype == object else value
             for signature, inputs in samples.items() for name, value in inputs.items()}
    return given | {f"wanted/{signature}/{name}": value
                    for (signature, name), value in expected.items()}
