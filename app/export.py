"""Exports a model as `<to>/<name>/<version>/`, a SavedModel that needs none of our code.

How it is written, checked and published: `app.publishing`.
"""

import numpy as np
import tensorflow as tf

from app import verification
from app.errors import HandgradError, UsageError
from app.folding import count_norms, folded
from app.formats import check_format, converted
from app.layer_view import activations, layer_outputs, write_layers
from app.model_card import model_card, of_file
from app.models import served
from app.publishing import exporting, publish, publish_file, verify, writing
from app.signatures import with_features, write_saved_model
from app.warmup import write_warmup


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
    _check_classes(class_names)
    _check_samples(sample_images)
    check_format(format, dtype)
    if getattr(model, "outputs", None):  # a subclass of Model has none
        model = served(model)
    pixels = np.round(np.asarray(sample_images) * 255).astype(np.uint8)
    reference = _reference(model, pixels, class_names)
    shape = pixels.shape[1:]
    with exporting(name, to) as folder:
        network = _folded(model, reference)
        known = model_card(model, name, class_names, shape,
                           {**card, "folded": count_norms(model) - count_norms(network)})
        with writing(folder) as aside:
            if format != "savedmodel":
                file = converted(network, shape, aside, format, dtype, calibration_images,
                                 reference)
                return publish_file(file, folder, {**known, **of_file(known, format, dtype)})
            more = {}
            if with_activations:
                more["activations"] = activations(model, shape)
                reference |= _activations(model, reference["images"])
            write_saved_model(network, class_names, shape, aside, more)
            verify(aside, reference)
            if with_activations:
                write_layers(model, shape, aside / "model" / "assets.extra")
            write_warmup(aside / "model" / "assets.extra", name, shape)
            return publish(aside / "model", folder, known)


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
