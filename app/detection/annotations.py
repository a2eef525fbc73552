"""From what annotation files say to the labels of a data part: one array, in the pixels it has."""

import numpy as np
from PIL import Image

from app import images as image_files
from app.detection.boxes import NO_OBJECT
from app.errors import HandgradError


def loaded(files, annotated, names, size, channels=3):
    """Images uint8 (N, height, width, channels) and labels float32 (N, M, 5), as `Split` has them.

    An image is stretched to `size`, and its boxes with it, so that no object is cut off.

    Args:
        files: N image files, as paths or as objects to read from.
        annotated: for each a list of (x1, y1, x2, y2, class), in the pixels of the file.
        names: what errors call each.
        size: (height, width), or None for the size that all files have.
    """
    def read(file):
        with Image.open(file, formats=image_files.FORMATS) as image:
            pixels = image.convert("L" if channels == 1 else "RGB")
            own = image.height, image.width
        target = size or own
        pixels = pixels.resize(target[::-1], Image.Resampling.BILINEAR)
        return np.asarray(pixels).reshape(*target, channels), own

    if size:
        image_files.check_memory(len(files), size, channels)
    images = np.empty((len(files), *(size or (0, 0)), channels), np.uint8)
    labels = np.zeros((len(files), max([1, *map(len, annotated)]), 5), np.float32)
    labels[..., 4] = NO_OBJECT
    found = image_files.attempt(read, files, "images")
    for i, (result, rows, name) in enumerate(zip(found, annotated, names, strict=True)):
        if isinstance(result, str):
            raise HandgradError(f"The image of {name} cannot be read: {result}")
        pixels, own = result
        if i == 0 and not size:
            image_files.check_memory(len(files), own, channels)
            images = np.empty((len(files), *own, channels), np.uint8)
        if pixels.shape != images.shape[1:]:
            raise HandgradError(
                f"The images differ in size: the first is {images.shape[2]}x{images.shape[1]}, "
                f"that of {name} {own[1]}x{own[0]}. Give one size, with --image-size.")
        images[i] = pixels
        if rows:
            ratio = np.tile(np.divide(images.shape[2:0:-1], own[::-1]), 2)
            labels[i, :len(rows)] = checked(rows, *own, name) * [*ratio, 1]
    return images, labels


def checked(rows, height, width, name):
    """(x1, y1, x2, y2, class) rows as an array: each box has an area and lies inside its image.

    What stands over by a pixel or less, as rounding leaves it, is cut.
    """
    rows = np.asarray(rows, float)
    for x1, y1, x2, y2, _ in rows:
        box = f"({x1:g}, {y1:g}, {x2:g}, {y2:g})"
        if not (x1 < x2 and y1 < y2):
            raise HandgradError(f"{name}: a box must have an area. "
                                f"Received: {box}, of the corners (x1, y1, x2, y2)")
        if min(x1, y1) < -1 or x2 > width + 1 or y2 > height + 1:
            raise HandgradError(f"{name}: a box must lie inside its image of {width}x{height} "
                                f"pixels. Received: {box}, of the corners (x1, y1, x2, y2)")
    rows[:, :4] = rows[:, :4].clip(0, [width, height] * 2)
    return rows


def check_labels(labels, classes, origin):
    """The classes of labels (N, M, 5) are 0 .. classes - 1, or that of a row without object."""
    found = labels[..., 4]
    wrong = np.argwhere((found < NO_OBJECT) | (found >= classes) | (found != np.floor(found)))
    if len(wrong):
        image, row = wrong[0]
        raise HandgradError(
            f"The classes of the boxes of {origin} must be 0 .. {classes - 1}, or {NO_OBJECT} for "
            f"none. Received: {found[image, row]:g}, of box {row} of image {image}")
