"""A folder of class folders, `flowers/rose/1.jpg`, or of parts, `flowers/train/rose/1.jpg`.

Classes are the names of the class folders in alphabetical order; an image may lie deeper in
its class folder. Parts are `train` with `test` and `val` or `validation`, where there are any.
Hidden files and those beside the class folders that are no images (a README) are ignored. Any
other file that is not a readable PNG, JPEG, BMP or GIF is an error, or left out and counted
with `skip_corrupt`. Images are grey if all of them are, else RGB. How they are decoded and
resized: `app.images`.
"""

import os
from pathlib import Path

import numpy as np

from app import images
from app.errors import HandgradError
from app.split import Source, Split

PARTS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
_IGNORED = {"Thumbs.db", "desktop.ini"}
_NAMED = 3


def read_folder(path, *, size=None, skip_corrupt=False):
    """Reads the folder `path`; `size` is (height, width), else `app.images.default_size`."""
    root = Path(path)
    folders = _parts(root)
    class_names = tuple(folder.name for folder in _folders(folders["train"]))
    _check_classes(folders["train"], class_names)
    listed, problems = {}, {}
    for part, folder in folders.items():
        listed[part] = _list(folder, part, class_names, problems)

    files = [file for part in listed.values() for file, _ in part]
    headers = dict(zip(files, images.attempt(images.probe, files, "Reading headers")))
    problems |= {file: header for file, header in headers.items() if isinstance(header, str)}
    readable = [header for header in headers.values() if not isinstance(header, str)]
    if not readable:
        _refuse(root, problems)
    size = size or images.default_size([header[:2] for header in readable])
    channels = 1 if all(header[2] for header in readable) else 3
    images.check_memory(len(readable), size, channels)

    parts = {}
    for part, entries in listed.items():
        entries = [entry for entry in entries if entry[0] not in problems]
        parts[part] = _decode(entries, size, channels, part, problems)
    if problems and not skip_corrupt:
        _refuse(root, problems)
    return Source(f"images in {root}", class_names, **parts, skipped=tuple(sorted(problems)))


def _decode(entries, size, channels, part, problems):
    """The `Split` of the (file, label) `entries`; files that are broken go to `problems`."""
    pixels = np.empty((len(entries), *size, channels), np.uint8)

    def fill(i):
        pixels[i] = images.decode(entries[i][0], size, channels)

    results = images.attempt(fill, range(len(entries)), f"Decoding {part} images")
    good = [i for i, reason in enumerate(results) if reason is None]
    problems |= {entries[i][0]: reason for i, reason in enumerate(results) if reason is not None}
    return Split(
        pixels if len(good) == len(entries) else pixels[good],
        np.array([entries[i][1] for i in good], np.int32),
        tuple(entries[i][0] for i in good),
    )


def _parts(root):
    """The folders that hold class folders, by the name of their part."""
    names = [folder.name for folder in _folders(root)]
    found = [name for name in names if name in PARTS]
    if not found:
        return {"train": root}
    if "train" not in names or len(found) < len(names):
        others = [name for name in names if name not in PARTS]
        raise HandgradError(
            f"{root} holds {', '.join(found)}{' beside ' + ', '.join(others) if others else ''}: "
            "expected either class folders, or train (and test, val) with class folders in them."
        )
    if {"val", "validation"} <= set(names):
        raise HandgradError(f"{root} holds both val and validation: expected one of them.")
    return {PARTS[name]: root / name for name in found}


def _check_classes(folder, class_names):
    if len(class_names) < 2:
        found = f"one, '{class_names[0]}'" if class_names else "none"
        if not class_names and not any(folder.iterdir()):
            found = "an empty folder"
        raise HandgradError(
            f"{folder} must hold at least two class folders with images in them. Received: {found}"
        )


def _list(folder, part, class_names, problems):
    """The (file, label) of each image below `folder`; other files go to `problems`.

    Only the test part may lack a class.
    """
    entries = []
    for found in _visible(folder):
        if found.is_file() and images.is_image(found):
            problems[str(found)] = "lies outside the class folders"
    for class_folder in _folders(folder):
        if class_folder.name not in class_names:
            raise HandgradError(
                f"{class_folder} is a class that the training part does not have. "
                f"Expected: {', '.join(class_names)}"
            )
        label, before = class_names.index(class_folder.name), len(entries)
        for file in _walk(class_folder):
            if images.is_image(file):
                entries.append((file, label))
            else:
                problems[file] = "no PNG, JPEG, BMP or GIF"
        if len(entries) == before and part != "test":
            raise HandgradError(f"{class_folder} has no PNG, JPEG, BMP or GIF image in it.")
    if not entries:
        raise HandgradError(f"{folder} has no PNG, JPEG, BMP or GIF image in it.")
    return entries


def _walk(folder):
    """The files below `folder` in order, hidden ones left out."""
    def refuse(error):
        raise error

    for where, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and name not in _IGNORED:
                yield os.path.join(where, name)


def _visible(folder):
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def _folders(folder):
    return [p for p in _visible(folder) if p.is_dir()]


def _refuse(root, problems):
    first = sorted(problems.items())[:_NAMED]
    named = [f"{os.path.relpath(file, root)} ({reason})" for file, reason in first]
    if len(problems) > _NAMED:
        named.append(f"and {len(problems) - _NAMED} more")
    raise HandgradError(
        f"{len(problems)} of the files in {root} cannot be used: {', '.join(named)}. "
        "Repair or remove them, or leave them out with --skip-corrupt."
    )
