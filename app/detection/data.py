"""Images with boxes: digit scenes, BCCD, and data in Pascal VOC's or COCO's layout."""

from pathlib import Path

import numpy as np

from app import images, scenes
from app.data import Data
from app.detection.annotations import check_labels, same_rows
from app.detection.boxes import NO_OBJECT
from app.detection.coco import read_coco
from app.detection.voc import BCCD, read_voc
from app.errors import UsageError, unknown
from app.sources import DIGITS, DataSet, archive
from app.split import check_all_are_used, divide_evenly


def digit_scenes(size, seed):
    """Scenes of 1 to 3 digits on 64x64 pixels, a tight box around each."""
    scenes.check_size(size)

    def compose(digits, rng):
        placed = scenes.place(digits, rng)
        labels = np.full((scenes.MOST, 5), NO_OBJECT, np.float32)
        labels[:len(placed)] = [(*one.box, one.digit) for one in placed]
        return scenes.render(placed, rng)[0], labels

    return scenes.source(seed, compose, DIGITS, more=2)


def bccd(size, seed):
    """BCCD: `bccd.tar` of $HANDGRAD_DATA."""
    return read_voc(archive("bccd.tar", "Pascal VOC's layout"), class_names=BCCD,
                    image_size=size or (240, 320))


DATA_SETS = {
    "digit-scenes": DataSet("5,000 scenes of handwritten digits, 64x64 grey, 10 classes; built in",
                            digit_scenes),
    "bccd": DataSet("364 photos of blood cells, colour, 3 classes", bccd),
}


def load(source, *, image_size=None, seed=0, skip_corrupt=False):
    """The `Data` of a name or a path; labels are float32 (N, M, 5): x1, y1, x2, y2, class."""
    check_all_are_used(skip_corrupt)
    size = images.parse_size(image_size)
    if source in DATA_SETS:
        found, name = DATA_SETS[source].read(size, seed), source
    else:
        path = Path(source).expanduser()
        found, name = _read(path, source, size), path.resolve().name
    found = same_rows(found)
    for part in found.parts.values():
        check_labels(part.labels, len(found.class_names), found.origin)
    return Data(name, found.class_names, *divide_evenly(found, seed=seed), origin=found.origin,
                counted="boxes", count=count_boxes)


def count_boxes(labels, classes):
    """The boxes of each class."""
    found = labels[..., 4]
    return np.bincount(found[found > NO_OBJECT].astype(int), minlength=classes)


def _read(path, source, size):
    voc = (".", "*")  # where its folders are: there, or one folder deeper
    if path.suffix == ".tar" or path.is_dir() and any(
            list(path.glob(f"{where}/{name}")) for where in voc
            for name in ("Annotations", "ImageSets")):
        return read_voc(path, image_size=size)
    if path.is_dir() or path.suffix == ".json" and path.is_file():
        return read_coco(path, image_size=size)
    raise UsageError(f"{unknown('data set', source, list(DATA_SETS))}, or a folder in Pascal VOC's "
                     "layout (JPEGImages, Annotations, ImageSets/Main) or in COCO's (train, valid, "
                     "test, each with images and a JSON file), or a JSON file of COCO's")
