"""Exports a model as `<to>/<name>/<version>/`, a SavedModel that needs none of our code.

A version is written aside in a hidden folder, which TensorFlow Serving ignores, checked in a
fresh process (`app.verification`), and then renamed: it exists whole or not at all, and is
never written over.
"""

import errno
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import tensorflow as tf

from app import verification
from app.errors import HandgradError, UsageError
from app.layer_view import activations, write_layers
from app.model_card import model_card, write_card
from app.serving import versions
from custom_layers.gradient import forward_only

_ASIDE = ".writing-"
# ITU-R 601, as Pillow converts colour to grey.
_LUMA = (0.299, 0.587, 0.114)


def export(model, *, name, class_names, to="saved_models", card, sample_images,
           with_activations=False):
    """Writes the next version of `name` below `to`, and returns its folder.

    The SavedModel has two signatures, `serving_default` (`images`: float32 in [0, 1], NHWC)
    and `image_bytes` (`image_bytes`: encoded files, decoded and resized as `app.images` does).
    Both return `probabilities`, `label` and `score`. The labels lie in `assets/labels.txt`, the
    model card in `assets.extra/`.

    Args:
        model: a Keras model from images (N, H, W, C) in [0, 1] to logits (N, classes). It is
            exported as it predicts: dropout and augmentation are off.
        name: letters, digits, `.`, `_` and `-`, not digits alone.
        class_names: the label of each class.
        card: what is known of the model (data set, metrics, hyper-parameters), for its card.
        sample_images: float32 (n, H, W, C) in [0, 1]. The check predicts them; their size is
            the size of the export's images.
        with_activations: a third signature, `activations`, returns the output of each layer, and
            `assets.extra/layers.json` tells what it is computed from (`app.layer_view`).

    Raises:
        UsageError: where an argument is wrong.
        HandgradError: where the export cannot be written, or does not predict what the model
            does. Nothing is left of it then.
    """
    _check_name(name)
    _check_classes(class_names)
    _check_samples(sample_images)
    pixels = np.round(np.asarray(sample_images) * 255).astype(np.uint8)
    reference = _reference(model, pixels, class_names)
    shape = pixels.shape[1:]
    folder = Path(to) / name
    try:
        with _writing(folder) as aside:
            more = {"activations": activations(model, shape)} if with_activations else {}
            _write(model, class_names, shape, aside, more)
            _verify(aside, reference)
            if with_activations:
                write_layers(model, shape, aside / "model" / "assets.extra")
            known = model_card(model, name, class_names, shape, card)
            return _publish(aside / "model", folder, known)
    except HandgradError:
        raise
    except Exception as error:
        raise HandgradError(
            f"The export '{name}' could not be written to {folder}: {_reason(error)}. "
            "Nothing is left of it."
        ) from error


def _check_name(name):
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) or name.isdecimal():
        raise UsageError(
            "The name of an export must be letters, digits, '.', '_' and '-', and no number "
            f"(numbers are versions). Received: '{name}'"
        )


def _check_classes(class_names):
    bad = [name for name in class_names if not name or "\n" in name]
    if bad or len(set(class_names)) < len(class_names):
        raise UsageError(
            "The class names must be distinct, not empty and on one line each. "
            f"Received: {list(class_names)}"
        )


def _check_samples(images):
    images = np.asarray(images)
    if images.ndim != 4 or len(images) == 0 or images.shape[3] not in (1, 3):
        raise UsageError(
            "The sample images must have shape (n, height, width, channels), with 1 (grey) or 3 "
            f"(RGB) channels and n > 0. Received: {images.shape}"
        )
    if not ((images >= 0) & (images <= 1)).all():
        raise UsageError(
            "The sample images must lie in [0, 1]. "
            f"Received: values from {images.min():g} to {images.max():g}"
        )


def _reference(model, pixels, class_names):
    """What `app.verification` compares the export with."""
    images = (pixels / 255).astype(np.float32)
    # On the CPU, as the check: a GPU's TensorFloat-32 differs by more than is allowed.
    with tf.device("CPU"):
        probabilities = tf.nn.softmax(_logits(model, images)).numpy()
    if probabilities.shape != (len(images), len(class_names)):
        raise UsageError(
            f"The model must return one logit for each of the {len(class_names)} classes. "
            f"Received: outputs of shape {probabilities.shape} for {len(images)} images"
        )
    if not np.isfinite(probabilities).all():
        raise HandgradError(
            "The model predicts NaN for the sample images, so there is nothing to export. "
            "Its training diverged: try a smaller learning rate."
        )
    half = any(layer.compute_dtype in ("float16", "bfloat16") for layer in model._flatten_layers())
    return {
        "images": images,
        "pixels": pixels,
        "probabilities": probabilities,
        "labels": np.array(class_names, str),
        # TensorFlow fuses operations, and so rounds to half precision at other places.
        "tolerance": 2e-2 if half else 1e-5,
    }


def _logits(model, images):
    return tf.cast(model(images, training=False), tf.float32)


@contextmanager
def _writing(folder):
    """A folder inside `folder` to write in, and removed in the end, as is `folder` if empty.

    What killed exports have left is removed as well, where nobody else is writing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        # Not all network file systems can lock a folder: then leftovers stay.
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in folder.glob(_ASIDE + "*"):
                shutil.rmtree(left)
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_SH)
        aside = tempfile.mkdtemp(prefix=_ASIDE, dir=folder)
        try:
            yield Path(aside)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    finally:
        os.close(lock)
        with suppress(OSError):
            folder.rmdir()


def _write(model, class_names, shape, aside, more):
    """Writes the SavedModel of `model` to `aside/model`, with `more` signatures."""
    labels = aside / "labels.txt"
    labels.write_text("\n".join(class_names) + "\n", encoding="utf-8")
    names = tf.constant(list(class_names))

    @tf.function(input_signature=[tf.TensorSpec((None, *shape), tf.float32, name="images")])
    def predict(images):
        probabilities = tf.nn.softmax(_logits(model, images))
        return {
            "probabilities": probabilities,
            "label": tf.gather(names, tf.argmax(probabilities, axis=-1)),
            "score": tf.reduce_max(probabilities, axis=-1),
        }

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")])
    def predict_encoded(image_bytes):
        images = tf.map_fn(
            lambda contents: _decode(contents, *shape),
            image_bytes,
            fn_output_signature=tf.TensorSpec(shape, tf.float32),
        )
        return predict(images)

    # Not the Keras model: tracked as well, it would store every weight a second time.
    module = tf.Module()
    module.labels = tf.saved_model.Asset(str(labels))
    with forward_only():
        module.weights = list(predict.get_concrete_function().variables)
        tf.saved_model.save(
            module,
            str(aside / "model"),
            signatures={"serving_default": predict, "image_bytes": predict_encoded, **more},
            options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
        )


def _decode(contents, height, width, channels):
    """An encoded image as float32 (height, width, channels) in [0, 1], as `app.images` does."""
    image = tf.io.decode_image(contents, expand_animations=False)
    size = tf.shape(image)
    box_height = tf.clip_by_value(size[1] * height // width, 1, size[0])
    box_width = tf.clip_by_value(size[0] * width // height, 1, size[1])
    top, left = (size[0] - box_height) // 2, (size[1] - box_width) // 2
    image = image[top:top + box_height, left:left + box_width]
    image = tf.image.resize(image, (height, width), antialias=True)
    # One or two channels are grey and alpha, three or four are RGB and alpha.
    image = tf.gather(image, tf.where(size[2] > 2, [0, 1, 2], [0, 0, 0]), axis=-1)
    if channels == 1:
        image = tf.reduce_sum(image * _LUMA, axis=-1, keepdims=True)
    return image / 255


def _verify(aside, reference):
    """Runs `app.verification` over the SavedModel in `aside`, in a fresh process."""
    file = aside / "reference.npz"
    np.savez(file, **reference)
    command = [sys.executable, "-P", verification.__file__, aside / "model", file]
    # The GPU's memory belongs to this process.
    quiet = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, env=os.environ | quiet, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"ended by {done.returncode}"]
        raise HandgradError(
            "The export failed its check in a process that has TensorFlow only, and nothing is "
            f"left of it: {reason[0]}"
        )


def _publish(written, folder, card):
    """Moves `written` to the next version in `folder`, and returns that."""
    while True:
        version = max(versions(folder), default=0) + 1
        write_card({"name": card["name"], "version": version, **card}, written / "assets.extra")
        _flush(written)
        try:
            os.rename(written, folder / str(version))
        except OSError as error:
            # Another export was faster.
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        else:
            _fsync(folder)
            return folder / str(version)


def _flush(folder):
    """Brings all below `folder` to the disk, before the rename that makes it count."""
    for where, _, files in os.walk(folder):
        for file in files:
            _fsync(os.path.join(where, file))
        _fsync(where)


def _fsync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error):
    """One line that says what went wrong."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    return text.strip().splitlines()[0].rstrip(".")
