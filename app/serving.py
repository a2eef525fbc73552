"""Loads an export and predicts with it. Needs TensorFlow, and nothing that made the model.

    digits = load("saved_models/digits")            # its newest version
    digits.predict(images)["label"]                 # float32 (N, H, W, C) in [0, 1]
    digits.predict_files(["seven.png", "photos"])   # files, and folders of them
"""

import json
import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from app.answers import ANSWERS
from app.errors import HandgradError, UsageError, unknown
from app.image_header import count_pixels

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif"}
# Images predicted at a time, and pixels decoded at a time: an image of more pixels is refused,
# however small its file is, and so is a file of more bytes than the largest image takes.
BATCH = 64
MAX_PIXELS = 2**26
MAX_BYTES = 5 * MAX_PIXELS
_INPUTS = {"serving_default": "images", "image_bytes": "image_bytes"}
_OUTPUTS = {"probabilities", "label", "score"}


def load(path, version=None):
    """The export at `path`: `saved_models/NAME`, its newest version, or `saved_models/NAME/3`.

    Raises:
        UsageError: where there is no such export or version.
        HandgradError: where it cannot be loaded.
    """
    path = Path(path)
    if path.name.isdecimal():
        if version not in (None, int(path.name)):
            raise UsageError(f"{path} is version {int(path.name)}, but {version} is asked for.")
        path, version = path.parent, int(path.name)
    _check_folder(path)
    known = versions(path)
    if not known:
        inside = [child.name for child in _exports(path)]
        hint = f" Give one of the exports in it: {', '.join(inside)}" if inside else ""
        if (path / "config.json").is_file():
            hint = f" It is a run: make an export of it, with `handgrad export {path.name}`"
        raise UsageError(f"{path} holds no version of an export (a folder 1, 2, ...).{hint}")
    version = known[-1] if version is None else int(version)
    if version not in known:
        raise unknown(f"version of {path}", version, [str(number) for number in known])
    folder = path / str(version)
    task = task_of(folder)
    return Served(folder) if task == "classify" else ServedTask(folder, task)


def versions(folder):
    """The version numbers in the folder of an export, in order."""
    return sorted(int(name) for name in os.listdir(folder) if name.isascii() and name.isdecimal())


class Served:
    """One version of an export, loaded; or what `tf.saved_model.load` has given of it, `model`.

    Attributes:
        folder, name, version: where it lies, as in `saved_models/<name>/<version>`.
        class_names: the labels, in the order of the probabilities.
        image_shape: (height, width, channels) of the images that `predict` takes.
        card: the model card.
        signatures: TensorFlow's functions, by name: `serving_default`, `image_bytes`. They
            work as long as this object lives.
    """

    task = "classify"

    def __init__(self, folder, model=None):
        self.folder = Path(folder)
        self.name, self.version = self.folder.parent.name, int(self.folder.name)
        try:
            # Held, since the signatures do not keep the variables alive.
            self._model = tf.saved_model.load(str(folder)) if model is None else model
            labels = (self.folder / "assets" / "labels.txt").read_text(encoding="utf-8")
            self.card = _card(self.folder)
            self.class_names = tuple(labels.removesuffix("\n").split("\n"))
            self.signatures = self._model.signatures
            self.image_shape = self._check_signatures()
        # A damaged file can raise anything, out of TensorFlow, protobuf or zlib.
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise HandgradError(
                f"{folder} is no complete export of handgrad: {lines[0].rstrip('.')}. "
                "Export it again, or give another version."
            ) from error

    def predict(self, images):
        """`probabilities` (N, classes), `label` (N,) and `score` (N,) of `images`.

        Args:
            images: floats (N, height, width, channels) in [0, 1].

        Raises:
            UsageError: where they are not that.
        """
        images = np.asarray(images)
        if images.ndim != 4 or images.shape[1:] != self.image_shape:
            raise UsageError(
                f"{self.folder} takes images of shape {('N', *self.image_shape)}. "
                f"Received: {images.shape}"
            )
        if images.dtype.kind != "f" or not ((images >= 0) & (images <= 1)).all():
            raise UsageError(
                f"{self.folder} takes images as floats in [0, 1] (8-bit values divided by 255). "
                f"Received: {images.dtype.name} from {images.min()} to {images.max()}"
            )
        images = images.astype(np.float32)
        starts = range(0, max(1, len(images)), BATCH)
        parts = [self._run("serving_default", images[i:i + BATCH]) for i in starts]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def predict_files(self, paths):
        """A row for each image file in `paths`, in order; a folder stands for all below it.

        A row is `{"file", "label", "score", "probabilities": {class: probability}}`, or
        `{"file", "error"}` for a file that cannot be predicted; the others are all the same.
        """
        rows, batch, pixels = [], [], 0
        for file in _files(paths):
            row = {"file": str(file)}
            rows.append(row)
            try:
                contents, size = _read(file)
            except (OSError, ValueError) as error:
                row["error"] = getattr(error, "strerror", None) or str(error)
                continue
            if batch and (len(batch) == BATCH or pixels + size > MAX_PIXELS):
                self._fill(batch)
                batch, pixels = [], 0
            batch.append((row, contents))
            pixels += size
        self._fill(batch)
        return rows

    def _fill(self, batch):
        """Puts the predictions of `batch`, (row, contents) each, into its rows."""
        try:
            outputs = self._run("image_bytes", [contents for _, contents in batch])
        except tf.errors.InvalidArgumentError:
            # One bad image fails them all: the batch again, one by one, finds it.
            if len(batch) == 1:
                batch[0][0]["error"] = "corrupt or truncated image"
            else:
                for entry in batch:
                    self._fill([entry])
            return
        for i, (row, contents) in enumerate(batch):
            row |= self._row({name: values[i] for name, values in outputs.items()})

    def _row(self, answer):
        """What a row says of an image's answer."""
        return ANSWERS[self.task].row(answer, self.class_names)

    def _run(self, signature, values):
        """The outputs of a signature as NumPy arrays, strings as str."""
        name = _INPUTS[signature]
        values = tf.constant(values, tf.string if name == "image_bytes" else tf.float32)
        outputs = self.signatures[signature](**{name: values})
        return {name: _plain(values.numpy()) for name, values in outputs.items()}

    def _check_signatures(self):
        """The shape of the images."""
        for signature, name in _INPUTS.items():
            function = self.signatures[signature]
            inputs = function.structured_input_signature[1]
            if set(inputs) != {name} or set(function.structured_outputs) != _OUTPUTS:
                raise ValueError(f"its signature `{signature}` is another one")
        classes = function.structured_outputs["probabilities"].shape[1]
        if classes != len(self.class_names):
            raise ValueError(f"{len(self.class_names)} labels for {classes} classes")
        images = self.signatures["serving_default"].structured_input_signature[1]["images"]
        return tuple(images.shape[1:])


class ServedTask(Served):
    """One version of an export of another task than classification, loaded.

    `predict` returns what the task answers, as the model card says; a row of `predict_files` has
    what `app.answers` makes of it, and "answer", the arrays themselves by the output's name.
    """

    def __init__(self, folder, task, model=None):
        self.task = task
        super().__init__(folder, model)

    def answer(self, contents):
        """What `predict_files` says of the image file with these contents.

        Raises:
            UsageError: where it cannot be decoded.
        """
        row = {}
        self._fill([(row, contents)])
        if "error" in row:
            raise UsageError(f"The image cannot be decoded: {row['error']}")
        return row

    def draw(self, seeds):
        """Images uint8 (N, H, W, C) of a generator, each of its seed."""
        images = self.signatures["seeds"](seed=tf.constant(list(seeds), tf.int32))["images"]
        return np.rint(255 * images.numpy()).astype(np.uint8)

    def _row(self, answer):
        return {**super()._row(answer), "answer": answer}

    def _check_signatures(self):
        """The shape of the images, or () where the task takes none."""
        images = self.signatures["serving_default"].structured_input_signature[1]
        return tuple(images["images"].shape[1:]) if "images" in images else ()


def task_of(folder):
    """The task of an export by its card; of an export that is broken "classify"."""
    try:
        return _card(folder).get("task", "classify")
    except (OSError, ValueError, AttributeError):
        return "classify"


def _card(folder):
    return json.loads((folder / "assets.extra" / "model_card.json").read_text(encoding="utf-8"))


def _plain(values):
    if values.dtype != object:
        return values
    return np.array([text.decode() for text in values.ravel()], str).reshape(values.shape)


def _check_folder(path):
    """An error where the folder of an export is not there."""
    if path.is_dir():
        return
    if path.exists():
        raise UsageError(f"{path} is a file. Expected the folder of an export: saved_models/NAME")
    known = [str(child) for child in _exports(path.parent)]
    if not known:
        raise UsageError(
            f"There is no export at {path}, and none beside it. `handgrad export` makes one: "
            "saved_models/NAME"
        )
    raise unknown("export", path, known)


def _exports(folder):
    """The folders in `folder` that hold versions."""
    children = sorted(folder.iterdir()) if folder.is_dir() else []
    return [child for child in children if child.is_dir() and versions(child)]


def _files(paths):
    """The files that `paths` name, and the folders in which there are none."""
    for path in map(Path, paths):
        yield from (path.is_dir() and sorted(filter(_is_image, path.rglob("*")))) or [path]


def _is_image(path):
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _read(file):
    """The contents of an image file and the pixels in it."""
    size = file.stat().st_size
    if file.is_dir():
        raise ValueError(f"no image in this folder ({', '.join(sorted(SUFFIXES))})")
    if not file.is_file():
        raise ValueError("neither a file nor a folder")
    if size > MAX_BYTES:
        raise ValueError(f"{size} bytes, more than the {MAX_BYTES} that are read")
    contents = file.read_bytes()
    pixels = count_pixels(contents)
    if pixels > MAX_PIXELS:
        raise ValueError(f"{pixels} pixels, more than the {MAX_PIXELS} that are decoded")
    return contents, pixels
