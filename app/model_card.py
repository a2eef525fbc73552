"""The model card: what an export is, as JSON for machines and Markdown for people."""

import json
import platform
from datetime import UTC, datetime
from importlib.metadata import version

PREPROCESSING = (
    "Encoded images (PNG, JPEG, BMP, GIF: its first frame) are decoded, transparency dropped, the "
    "EXIF orientation not applied; the largest box of the input's aspect is cut from the centre "
    "and resized by bilinear interpolation with antialiasing; colour becomes grey (0.299 R + "
    "0.587 G + 0.114 B) or grey colour, as the model needs; values are divided by 255."
)
LIMITS = (
    "Every image is given one of the classes, also one that shows none of them.",
    "The probabilities are the softmax of the network's outputs and are not calibrated.",
    "The metrics hold for images like those of the data set.",
    "One image that cannot be decoded fails its whole batch of `image_bytes`.",
    "BMP files with a colour palette are not decoded rightly; PNG files with one are.",
)


def model_card(model, name, class_names, image_shape, given):
    """The card of an export of `model`: the entries of `given`, and what is known here."""
    return {
        "name": name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **given,
        "parameters": model.count_params(),
        "classes": list(class_names),
        "inputs": {
            "serving_default": f"images: float32 in [0, 1], {('batch', *image_shape)}",
            "image_bytes": "image_bytes: string, encoded image files, ('batch',)",
            "features": f"images: as of serving_default, {('batch', *image_shape)}",
            "classify": "inputs: string, serialized tf.Examples with image_bytes, ('batch',)",
        },
        "outputs": {
            "probabilities": f"float32, ('batch', {len(class_names)})",
            "label": "string, the most probable class, ('batch',)",
            "score": "float32, its probability, ('batch',)",
            "features": "float32, what the last layer with weights is given (signature features; "
                        "an ensemble has none)",
            "classes, scores": f"string and float32, ('batch', {len(class_names)}) (signature "
                               "classify)",
        },
        "preprocessing": PREPROCESSING,
        "limits": list(LIMITS),
        "versions": _versions(),
    }


def task_card(task, model, name, data, given):
    """The card of an export of another task: `task.returns` says what it returns."""
    return {
        "name": name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **given,
        "parameters": model.count_params(),
        "classes": list(data.class_names),
        "inputs": task.takes(data),
        "outputs": task.returns(data),
        "preprocessing": PREPROCESSING,
        "limits": list(LIMITS[2:]),
        "versions": _versions(),
    }


def _versions():
    return {"python": platform.python_version(),
            **{package: version(package) for package in ("handgrad", "tensorflow", "keras")}}


def of_file(card, format, dtype):
    """What differs in the card of an .onnx or .tflite file, which has one input and one output."""
    return {
        "format": format,
        "dtype": dtype,
        "inputs": {"images": card["inputs"]["serving_default"].removeprefix("images: ")},
        "outputs": {"probabilities": card["outputs"]["probabilities"]},
        "preprocessing": "None: the images are given as they are to be seen.",
    }


def write_card(card, folder):
    """Writes `model_card.json` and `MODEL_CARD.md` into `folder`."""
    folder.mkdir(exist_ok=True)
    text = json.dumps(card, indent=2, ensure_ascii=False, default=str)
    (folder / "model_card.json").write_text(text + "\n", encoding="utf-8")
    (folder / "MODEL_CARD.md").write_text(_markdown(card), encoding="utf-8")


def _markdown(card):
    lines = [f"# {card['name']}, version {card['version']}", ""]
    for key, value in card.items():
        if key not in ("name", "version"):
            lines += [f"## {key.replace('_', ' ').capitalize()}", "", *_section(value), ""]
    return "\n".join(lines)


def _section(value):
    if isinstance(value, dict):
        return [f"- {key}: {item}" for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [f"- {item}" for item in value]
    return [str(value)]
