"""Images with masks: digit scenes, CamVid, and folders of one's own.

A folder holds `train/`, `val/` (or `validation/`) and `test/` with images, and beside each of them
`trainannot/`, `valannot/`, `testannot/` with masks, as CamVid's does; or `images/` and `masks/`,
which are divided by the seed. A mask has the name of its image, one byte a pixel, and the class in
it: 0 for the first line of `classes.txt`, 1 for the second ...; 255 is void, and counts nowhere.
"""

import hashlib
import tarfile
from pathlib import Path

import numpy as np

from app import images, scenes
from app.data import Data
from app.errors import HandgradError, UsageError, unknown
from app.sources import DIGITS, DataSet, archive, cache_folder
from app.segmentation import VOID
from app.split import Source, Split, check_all_are_used, divide_evenly

CAMVID = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car",
          "pedestrian", "bicyclist")
_PARTS = {"train": ("train",), "validation": ("val", "validation"), "test": ("test",)}


def digit_scenes(size, seed):
    """Scenes of 1 to 3 digits on 64x64 pixels; the ground is a class."""
    scenes.check_size(size)

    def compose(digits, rng):
        return scenes.render(scenes.place(digits, rng), rng)

    return scenes.source(seed, compose, ("ground", *DIGITS))


def camvid(size, seed):
    """CamVid: `camvid.tar` of $HANDGRAD_DATA, unpacked once to where archives are kept."""
    folder = unpacked(archive("camvid.tar", "camvid/train, camvid/trainannot ..."))
    return read_folder(folder / "camvid", size=size or (360, 480), class_names=CAMVID, void=11)


DATA_SETS = {
    "digit-scenes": DataSet("3,000 scenes of handwritten digits, 64x64 grey, 11 classes; built in",
                            digit_scenes),
    "camvid": DataSet("701 road scenes, 480x360 colour, 11 classes", camvid),
}


def load(source, *, image_size=None, seed=0, skip_corrupt=False):
    """The `Data` of a name or a folder; labels are masks uint8 (N, H, W), void is 255."""
    check_all_are_used(skip_corrupt)
    size = images.parse_size(image_size)
    if source in DATA_SETS:
        found, name = DATA_SETS[source].read(size, seed), source
    else:
        path = Path(source).expanduser()
        if not path.is_dir():
            raise UsageError(f"{unknown('data set', source, list(DATA_SETS))}, or a folder of "
                             "images and masks: train/, trainannot/, val/, valannot/ ..., or "
                             "images/, masks/")
        found, name = read_folder(path, size=size), path.resolve().name
    parts = divide_evenly(found, seed=seed)
    if np.count_nonzero(count_pixels(parts[0].labels, len(found.class_names))) < 2:
        raise HandgradError(f"The training masks of {found.origin} must show at least two of the "
                            f"classes {', '.join(found.class_names)}, by the numbers 0, 1, ... "
                            f"Received: only {np.unique(parts[0].labels).tolist()}, where {VOID} "
                            "is void")
    return Data(name, found.class_names, *parts, origin=found.origin, counted="pixels",
                count=count_pixels)


def count_pixels(masks, classes):
    """The pixels of each class; void ones are none's."""
    return np.bincount(masks.ravel(), minlength=VOID + 1)[:classes]


def unpacked(file):
    """The folder that an archive was unpacked to, once for its contents."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    folder = cache_folder() / f"{file.stem}-{digest}"
    if not (folder / "whole").exists():
        with tarfile.open(file) as tar:
            tar.extractall(folder, filter="data")
        (folder / "whole").touch()
    return folder


def read_folder(root, *, size=None, class_names=None, void=VOID):
    """The `Source` of a folder of images and masks."""
    folders = _folders(root)
    class_names = class_names or _class_names(root)
    listed = {part: _pairs(*found) for part, found in folders.items()}
    files = [image for pairs in listed.values() for image, _ in pairs]
    headers = images.attempt(images.probe, files, "Reading headers")
    for file, header in zip(files, headers):
        if isinstance(header, str):
            raise HandgradError(f"{file} cannot be read: {header}.")
    size = size or images.default_size([header[:2] for header in headers])
    channels = 1 if all(header[2] for header in headers) else 3
    images.check_memory(len(files), size, channels + 1)
    parts = {part: _read(pairs, size, channels, class_names, void)
             for part, pairs in listed.items()}
    return Source(f"images in {root}", class_names, **parts)


def _class_names(root):
    file = root / "classes.txt"
    if not file.is_file():
        raise HandgradError(f"{file} is missing. Expected: the name of a class on each line, in "
                            "the order of their numbers in the masks.")
    names = tuple(file.read_text(encoding="utf-8").split("\n"))
    names = names[:-1] if names[-1] == "" else names
    if len(names) < 2 or len(set(names)) < len(names) or "" in names:
        raise HandgradError(f"{file} must name at least two classes, each once. "
                            f"Received: {', '.join(names) or 'nothing'}")
    return names


def _folders(root):
    """{part: (folder of images, folder of masks)}; parts may be missing but for "train"."""
    found = {}
    for part, names in _PARTS.items():
        for name in names:
            if (root / name).is_dir():
                found[part] = (root / name, root / f"{name}annot")
    if not found and (root / "images").is_dir():
        found = {"train": (root / "images", root / "masks")}
    if "train" not in found:
        raise HandgradError(f"{root} holds neither train/ and trainannot/ nor images/ and masks/.")
    return found


def _pairs(folder, masks):
    """(image, mask) of each image of a folder, in the order of their names."""
    found = []
    for image in sorted(filter(images.is_image, folder.iterdir())):
        mask = masks / f"{image.stem}.png"
        if not mask.is_file():
            raise HandgradError(f"{image} has no mask. Expected: {mask}")
        found.append((image, mask))
    if not found:
        raise HandgradError(f"{folder} holds no image ({', '.join(sorted(images.SUFFIXES))}).")
    return found


def _read(pairs, size, channels, class_names, void):
    pixels = np.empty((len(pairs), *size, channels), np.uint8)
    masks = np.empty((len(pairs), *size), np.uint8)

    def fill(i):
        image, mask = pairs[i]
        shapes = [images.size_of(file) for file in (image, mask)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"it has {_by(shapes[1])} pixels, its image {image.name} has "
                             f"{_by(shapes[0])}")
        pixels[i], masks[i] = images.decode(image, size, channels), images.decode_mask(mask, size)
        masks[i][masks[i] == void] = VOID
        beyond = masks[i][(masks[i] >= len(class_names)) & (masks[i] != VOID)]
        if len(beyond):
            raise ValueError(f"its label {beyond[0]} is beyond the {len(class_names)} classes, "
                             f"0 to {len(class_names) - 1}; {void} is void")

    for (_, mask), reason in zip(pairs, images.attempt(fill, range(len(pairs)), "Decoding")):
        if reason is not None:
            raise HandgradError(f"{mask} does not fit: {reason}.")
    return Split(pixels, masks, tuple(str(image) for image, _ in pairs))


def _by(size):
    return f"{size[0]} x {size[1]}"
