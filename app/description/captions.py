"""Images with sentences: the layouts of Flickr8k and of COCO.

Flickr8k: a folder of images, and a file of lines `image.jpg#0<TAB>A sentence.`; lists of files
`Flickr_8k.trainImages.txt`, `...devImages.txt`, `...testImages.txt` divide it, where they lie
beside that file; without the first, what the others do not name is the training part. COCO: a JSON
file with `images` (id, file_name) and `annotations` (image_id, caption), and a folder of images.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app import images
from app.errors import HandgradError

FLICKR_TOKENS = "Flickr8k.token.txt"
FLICKR_PARTS = {"train": "train", "dev": "validation", "test": "test"}


@dataclass(frozen=True, eq=False)
class Captions:
    """Images and what people said of them.

    images: uint8 (N, H, W, C).
    sentences: of each image, as they were written.
    files: each image's own.
    parts: the indices of the images of "train", "validation", "test", those that the source
        itself has.
    """

    images: np.ndarray
    sentences: tuple[tuple[str, ...], ...]
    files: tuple[str, ...]
    parts: dict[str, np.ndarray]


def read_flickr8k(folder, captions=FLICKR_TOKENS, *, size=None):
    """Reads the file `captions` of a folder in Flickr8k's layout.

    The images are looked for in the folder and below it. `size` is (height, width), else
    `app.images.default_size`.
    """
    path = Path(folder) / captions
    sentences = {}
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        name, tab, sentence = line.partition("\t")
        name, mark, _ = name.rpartition("#")
        if not (tab and mark):
            raise HandgradError(f"{path} must have lines such as `image.jpg#0<TAB>A sentence.` "
                                f"Received on line {number}: {line[:60]}")
        sentences.setdefault(name, []).append(sentence.strip())
    listed = {part: _text(found).split() for word, part in FLICKR_PARTS.items()
              if (found := path.with_name(f"Flickr_8k.{word}Images.txt")).is_file()}
    for part, names in listed.items():
        if missing := next((name for name in names if name not in sentences), None):
            raise HandgradError(f"{path} must have a sentence for each image of the {part} part. "
                                f"Received: none for '{missing}'")
    if listed and "train" not in listed:
        others = {name for names in listed.values() for name in names}
        listed["train"] = [name for name in sentences if name not in others]
        if not listed["train"]:
            raise HandgradError(f"{path} has no image to train on: the lists of the other parts "
                                "name all that it has")
    if listed:  # the list of all captions has images that no part has
        kept = {name for names in listed.values() for name in names}
        sentences = {name: said for name, said in sentences.items() if name in kept}
    return _decoded(path, Path(folder), sentences, listed, size)


def read_coco(path, folder, *, size=None):
    """Reads the COCO captions at `path` and their images in `folder`."""
    path = Path(path)
    try:
        found = json.loads(_text(path))
        names = {image["id"]: image["file_name"] for image in found["images"]}
        said = [(a["image_id"], " ".join(a["caption"].split())) for a in found["annotations"]]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise HandgradError(
            f"{path} must be JSON with `images` (id, file_name) and `annotations` (image_id, "
            f"caption). Received: {type(error).__name__}: {error}") from error
    sentences = {}
    for image, sentence in said:
        if image not in names:
            raise HandgradError(f"{path} has a caption of the image {image}, which is not among "
                                "its `images`")
        sentences.setdefault(names[image], []).append(sentence)
    return _decoded(path, Path(folder), sentences, {}, size)


def _text(path):
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise HandgradError(f"{path} cannot be read: {reason}") from error


def _decoded(path, folder, sentences, listed, size):
    """The `Captions` of a caption file at `path`, its images read from `folder`."""
    if not sentences:
        raise HandgradError(f"{path} has no sentence of an image in it.")
    below = {file.name: file for file in sorted(folder.rglob("*")) if images.is_image(file)}
    files = {name: folder / name if (folder / name).is_file() else below.get(name)
             for name in sentences}
    for name, file in files.items():
        if file is None:
            raise HandgradError(f"{path} names an image that is not in {folder}: '{name}'")
    files = list(files.values())
    headers = _all_good(images.attempt(images.probe, files, "Reading headers"), files)
    size = size or images.default_size([header[:2] for header in headers])
    channels = 1 if all(header[2] for header in headers) else 3
    images.check_memory(len(files), size, channels)
    pixels = images.attempt(lambda file: images.decode(file, size, channels), files,
                            "Decoding images")
    place = {name: i for i, name in enumerate(sentences)}
    parts = {part: np.array([place[name] for name in names]) for part, names in listed.items()}
    return Captions(np.stack(_all_good(pixels, files)), tuple(map(tuple, sentences.values())),
                    tuple(map(str, files)), parts)


def _all_good(results, files):
    """`results`, or the error of the first file that could not be read."""
    for result, file in zip(results, files):
        if isinstance(result, str):
            raise HandgradError(f"{file} cannot be used: {result}")
    return results
