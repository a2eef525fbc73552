"""From what annotation files say to the labels of a data part: one array, in the pixels it has."""

from dataclasses import replace

import numpy as np

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
        return image_files.decode_whole(file, size, channels)

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
    inside = rows[:, :4].clip(0, [width, height] * 2)
    for box, cut in zip(rows[:, :4], inside):
        corners = ", ".join(f"{side:g}" for side in box)
        received = f"Received: ({corners}), of the corners (x1, y1, x2, y2)"
        if not (box[:2] < box[2:]).all():
            raise HandgradError(f"{name}: a box must have an area. {received}")
        if np.abs(box - cut).max() > 1 or not (cut[:2] < cut[2:]).all():
            raise HandgradError(f"{name}: a box must lie inside its image of {width}x{height} "
                                f"pixels. {received}")
    rows[:, :4] = inside
    return rows


def same_rows(source):
    """A `Source` whose parts have labels (N, M, 5) of the same M, so that they can be joined."""
    most = max(part.labels.shape[1] for part in source.parts.values())
    parts = {}
    for name, part in source.parts.items():
        labels = np.zeros((len(part), most, 5), np.float32)
        labels[..., 4] = NO_OBJECT
        labels[:, :part.labels.shape[1]] = part.labels
        parts[name] = replace(part, labels=labels)
    return replace(source, **parts)


def check_labels(labels, classes, origin):
    """The classes of labels (N, M, 5) are 0 .. classes - 1, or that of a row without object."""
    found = labels[..., 4]
    wrong = np.argwhere((found < NO_OBJECT) | (found >= classes) | (found != np.floor(found)))
    if len(wrong):
        image, row = wrong[0]
        raise HandgradError(
            f"The classes of the boxes of {origin} must be 0 .. {classes - 1}, or {NO_OBJECT} for "
            f"none. Received: {found[image, row]:g}, of box {row} of image {image}")
