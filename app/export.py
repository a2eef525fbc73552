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
from app.checksums import write_checksums
from app.errors import HandgradError, UsageError
from app.folding import count_norms, folded
from app.formats import check_format, converted
from app.layer_view import activations, layer_outputs, write_layers
from app.model_card import model_card, of_file, write_card
from app.models import served
from app.signatures import with_features, write_saved_model
from app.warmup import write_warmup

_ASIDE = ".writing-"


def export(model, *, name, class_names, to="saved_models", card, sample_images,
           format="savedmodel", dtype="float32", calibration_images=None,
           with_activations=False):
    """Writes the next version of `name` below `to`, and returns its folder, or its file.

    The SavedModel has the signatures `serving_default` (`images`: float32 in [0, 1], NHWC) and
    `image_bytes` (`image_bytes`: encoded files, decoded and resized as `app.images` does), which
    return `probabilities`, `label` and `score`; `features` (`images`), which returns what the
    last layer with weights is given, if there is one such layer; and `classify` (`inputs`:
    serialized `tf.Example`s with `image_bytes`) for TensorFlow Serving's method of this name,
    which returns `classes` and `scores`.

    Batch normalisation is folded into the layers before it (`app.folding`), and the weights are
    constants of the graph up to a size (`app.signatures`). The labels lie in `assets/labels.txt`;
    the model card, requests to warm up with (`app.warmup`) and the sums of all files
    (`app.checksums`) in `assets.extra/`.

    Args:
        model: a Keras model from images (N, H, W, C) in [0, 1] to logits (N, classes). It is
            exported as it predicts: dropout, augmentation and auxiliary outputs are off.
        name: letters, digits, `.`, `_` and `-`, not digits alone.
        class_names: the label of each class.
        card: what is known of the model (data set, metrics, hyper-parameters), for its card.
        sample_images: float32 (n, H, W, C) in [0, 1]. The check predicts them; their size is
            the size of the export's images.
        format: `"savedmodel"`, `"onnx"` or `"litert"`: `app.formats`. The last two are files,
            `VERSION.onnx` and `VERSION.tflite`, with a model card beside.
        dtype: of `"litert"`: `"float32"`, `"float16"` or `"int8"`.
        calibration_images: like `sample_images`; what the ranges for `"int8"` are taken from.
        with_activations: of `"savedmodel"`: the signature `activations` returns the output of each
            layer, and `assets.extra/layers.json` tells what it is computed from
            (`app.layer_view`). The weights are stored once more for it.

    Raises:
        UsageError: where an argument is wrong.
        HandgradError: where the export cannot be written, or does not predict what the model
            does. Nothing is left of it then.
    """
    _check_name(name)
    _check_classes(class_names)
    _check_samples(sample_images)
    check_format(format, dtype)
    if getattr(model, "outputs", None):  # a subclass of Model has none
        model = served(model)
    pixels = np.round(np.asarray(sample_images) * 255).astype(np.uint8)
    reference = _reference(model, pixels, class_names)
    shape = pixels.shape[1:]
    folder = Path(to) / name
    try:
        network = _folded(model, reference)
        known = model_card(model, name, class_names, shape,
                           {**card, "folded": count_norms(model) - count_norms(network)})
        with _writing(folder) as aside:
            if format != "savedmodel":
                file = converted(network, shape, aside, format, dtype, calibration_images,
                                 reference)
                return _publish_file(file, folder, {**known, **of_file(known, format, dtype)})
            more = {}
            if with_activations:
                more["activations"] = activations(model, shape)
                reference |= _activations(model, reference["images"])
            write_saved_model(network, class_names, shape, aside, more)
            _verify(aside, reference)
            if with_activations:
                write_layers(model, shape, aside / "model" / "assets.extra")
            write_warmup(aside / "model" / "assets.extra", name, shape)
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
        logits, *features = with_features(model)(images)
        probabilities = tf.nn.softmax(logits).numpy()
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
        **({"features": features[0].numpy()} if features else {}),
    }


def _activations(model, images):
    """What `app.verification` compares the signature `activations` with."""
    with tf.device("CPU"):
        found = layer_outputs(model, tf.constant(images))
    return {verification.ACTIVATIONS + name: value.numpy() for name, value in found.items()}


def _folded(model, reference):
    """The model without the normalisation that folds away, or as it is where that is not equal."""
    candidate = folded(model)
    with tf.device("CPU"):
        logits, *features = with_features(candidate)(reference["images"])
    found = {"probabilities": tf.nn.softmax(logits).numpy(),
             **({"features": features[0].numpy()} if features else {})}
    equal = all(verification.distance(found[key], reference[key]) <= reference["tolerance"]
                for key in found)
    return candidate if equal else model


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
        version = _next(folder)
        write_card({"name": card["name"], "version": version, **card}, written / "assets.extra")
        write_checksums(written)
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


def _publish_file(written, folder, card):
    """Moves a file to `VERSION` with its suffix in `folder`, a card beside; returns that."""
    while True:
        version = _next(folder)
        target = folder / f"{version}{written.suffix}"
        write_card({"name": card["name"], "version": version, **card}, written.parent)
        _flush(written.parent)
        try:
            # Unlike a rename, it fails where the card of another export is.
            os.link(written.parent / "model_card.json", target.with_suffix(target.suffix + ".json"))
        except FileExistsError:
            continue
        os.rename(written, target)
        _fsync(folder)
        return target


def _next(folder):
    """The first number that no version has, a folder or a file as `3.onnx`."""
    numbers = (name.split(".")[0] for name in os.listdir(folder))
    return max((int(n) for n in numbers if n.isascii() and n.isdecimal()), default=0) + 1


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
