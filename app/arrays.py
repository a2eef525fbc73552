"""Images that come as arrays: IDX files (raw or .gz) and .npz archives, checked when read."""

import gzip
import math
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np

from app.errors import HandgradError, UsageError
from app.split import Source, Split

IMAGES_FILE = re.compile(r"images[-._]?idx3[-._]ubyte(\.gz)?$")
_MAGIC = {
    2051: "images: unsigned bytes, 3 dimensions",
    2049: "labels: unsigned bytes, 1 dimension",
}


def has_idx(folder):
    """Whether `folder` holds IDX images."""
    return any(IMAGES_FILE.search(path.name) for path in Path(folder).iterdir())


def read_idx(path, class_names=None):
    """Reads IDX files: `path` is a file of images, or a folder that holds one training set.

    The labels lie beside the images under the same name with `labels-idx1` for `images-idx3`;
    a file named like the training images with `t10k` or `test` for `train` is the test part.
    """
    path = Path(path)
    images = _training_images(path) if path.is_dir() else path
    if not IMAGES_FILE.search(images.name):
        raise UsageError(
            f"{images} is not named as IDX images are: expected a name that ends in "
            "images-idx3-ubyte or images-idx3-ubyte.gz"
        )
    train = _idx_pair(images)
    tests = (_sibling(images, "train", other) for other in ("t10k", "test"))
    test = next((_idx_pair(found) for found in tests if found), None)
    return Source(
        f"IDX files in {images.parent}", class_names or numbered(train, images), train, test=test
    )


def read_npz(path, class_names=None):
    """Reads an .npz archive: `x_train`, `y_train` and, where there are any, `x_val`, `y_val`,
    `x_test`, `y_test`; or `images` and `labels`. `class_names` is optional.

    Images are (N, H, W) or (N, H, W, C) with one or three channels: whole numbers in 0..255,
    or floats in [0, 1], which are scaled to 0..255 and rounded. Labels are (N,) or (N, 1).
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise HandgradError(f"{path} is no .npz archive, as `numpy.savez` writes them")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise HandgradError(f"{path} cannot be read as an .npz archive: {error}") from error
    names = {"train": ("x_train", "y_train"), "validation": ("x_val", "y_val")}
    names["test"] = ("x_test", "y_test")
    if "x_train" not in arrays and "images" in arrays:
        names = {"train": ("images", "labels")}
    parts = {}
    for part, (x, y) in names.items():
        if x in arrays and y in arrays:
            parts[part] = checked(arrays.pop(x), arrays.pop(y), f"{x} of {path}")
        elif part == "train" or x in arrays or y in arrays:
            raise HandgradError(
                f"{path} must hold x_train and y_train (and may hold x_val, y_val, x_test, "
                f"y_test), or images and labels. Received: {', '.join(arrays) or 'no arrays'}"
            )
    if "class_names" in arrays:
        class_names = tuple(str(name) for name in arrays["class_names"].ravel())
    return Source(str(path), class_names or numbered(parts["train"], path), **parts)


def checked(images, labels, where):
    """A `Split` of `images` and `labels`; an error that names `where` if they are no such pair."""
    images, labels = np.asarray(images), np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise HandgradError(
            f"The labels of {where} must be whole numbers of shape (N,). "
            f"Received: {labels.dtype} of shape {labels.shape}"
        )
    if len(images.shape) == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise HandgradError(
            f"The images, {where}, must have shape (N, H, W), (N, H, W, 1) or (N, H, W, 3) "
            f"and not be empty. Received: {images.shape}"
        )
    if len(images) != len(labels):
        raise HandgradError(
            f"{where} has {len(images)} images but {len(labels)} labels: it needs as many of both."
        )
    limits = np.iinfo(np.int32)
    if labels.min() < 0 or labels.max() > limits.max:
        raise HandgradError(
            f"The labels of {where} must be 0, 1, 2, ... Received: {labels.min()} to {labels.max()}"
        )
    return Split(_pixels(images, where), labels.astype(np.int32))


def numbered(split, where):
    """The class names "0", "1", ... of labels that have no names."""
    classes, present = int(split.labels.max()) + 1, np.unique(split.labels)
    if len(present) < classes:
        missing = np.flatnonzero(present != np.arange(len(present)))
        raise HandgradError(
            f"The labels of {where} must count the classes from 0 without a gap. Received: "
            f"labels up to {classes - 1}, but none that is {missing[0]}"
        )
    return tuple(str(label) for label in range(classes))


def _pixels(images, where):
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind not in "biuf":
        raise HandgradError(
            f"The images, {where}, must be whole numbers in 0..255 or floats in [0, 1]. "
            f"Received: {images.dtype}"
        )
    low, high = images.min(), images.max()
    if not np.isfinite([low, high]).all():
        flat = images.reshape(len(images), -1)
        bad = int(np.argmin(np.isfinite(flat).all(axis=1)))
        raise HandgradError(f"The images, {where}, hold NaN or infinity, first in image {bad}.")
    largest = 255 if images.dtype.kind in "iu" else 1
    if low < 0 or high > largest:
        kind = "Whole-number" if largest == 255 else "Float"
        raise HandgradError(
            f"{kind} images must lie in [0, {largest}]: {where} holds values from {low:g} to "
            f"{high:g}. Scale them, or save them as uint8 in 0..255."
        )
    if largest == 255:
        return images.astype(np.uint8)
    # One image at a time: the product of the whole array would be one more float copy of it.
    pixels = np.empty(images.shape, np.uint8)
    for row, image in zip(pixels, images):
        row[...] = np.rint(image * np.float32(255))
    return pixels


def _training_images(folder):
    found = sorted(p for p in folder.iterdir() if IMAGES_FILE.search(p.name))
    chosen = [p for p in found if "train" in p.name] or found
    if len(chosen) != 1:
        names = ", ".join(p.name for p in chosen) or "none"
        raise UsageError(
            f"{folder} must hold one file of IDX training images (for several, give the path "
            f"of the file). Received: {names}"
        )
    return chosen[0]


def _idx_pair(images):
    labels = _sibling(images, "images", "labels")
    if labels is None:
        raise HandgradError(
            f"{images} has no labels beside it: expected "
            f"{images.name.replace('images', 'labels').replace('idx3', 'idx1')}"
        )
    return checked(_read(images, 2051), _read(labels, 2049), str(images))


def _sibling(path, word, other):
    """The file beside `path` with `other` for `word` in its name, packed or not, if there is."""
    if word not in path.name:
        return None
    name = path.name.replace(word, other).removesuffix(".gz")
    if other == "labels":
        name = name.replace("idx3", "idx1")
    candidates = (path.with_name(name), path.with_name(name + ".gz"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _read(path, magic):
    """The array in an IDX file: magic number, sizes (big-endian int32), then the bytes."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise HandgradError(f"{path} cannot be read: {error}") from error
    received = int.from_bytes(data[:4], "big")
    if len(data) < 4 or received != magic:
        meaning = f" ({_MAGIC[received]})" if received in _MAGIC else ""
        raise HandgradError(
            f"{path} must begin with the magic number {magic} ({_MAGIC[magic]}). "
            + (f"Received: {received}{meaning}" if len(data) >= 4 else f"It has {len(data)} bytes.")
        )
    header = 4 + 4 * data[3]
    shape = [int.from_bytes(data[i:i + 4], "big") for i in range(4, header, 4)]
    expected = header + math.prod(shape)
    if len(data) != expected:
        raise HandgradError(
            f"{path} must have {expected} bytes unpacked: {header} + "
            f"{' x '.join(map(str, shape))}. Received: {len(data)}"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
