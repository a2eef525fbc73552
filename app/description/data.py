"""Images with sentences: digit scenes, and data in Flickr8k's or COCO's layout."""

from pathlib import Path

import numpy as np

from app import images, scenes
from app.data import Data
from app.description.captions import FLICKR_TOKENS, read_coco, read_flickr8k
from app.description.scenes import SIDE, compose
from app.description.vocabulary import encode, longest, vocabulary
from app.errors import UsageError, unknown
from app.sources import DataSet
from app.split import Source, Split, check_all_are_used, divide_evenly

RARE = 5  # words that occur less often in a large data set are unknown
LARGE = 5000  # sentences


def digit_scenes(size, seed):
    """({part: images}, {part: [sentences]}) of scenes of one or two digits on 32x32 pixels."""
    scenes.check_size(size, SIDE)
    made = {name: tuple(zip(*part)) for name, part in scenes.parts(seed, compose, more=4).items()}
    return ({name: np.stack(pictures) for name, (pictures, _) in made.items()},
            {name: [[said] for said in sentences] for name, (_, sentences) in made.items()})


DATA_SETS = {
    "digit-scenes": DataSet("9,000 scenes of one or two handwritten digits, 32x32 grey, a sentence "
                            "each; built in", digit_scenes),
}


def load(source, *, image_size=None, seed=0, skip_corrupt=False):
    """The `Data` of a name or a path; labels are token ids (N, K, T), class names the vocabulary.

    The words are those of the training sentences.
    """
    check_all_are_used(skip_corrupt)
    size = images.parse_size(image_size)
    if source in DATA_SETS:
        pictures, sentences = DATA_SETS[source].read(size, seed)
        files, name, origin = dict.fromkeys(pictures), source, "scikit-learn"
    else:
        path = Path(source).expanduser()
        pictures, sentences, files = _divided(_read(path, source, size), seed)
        name, origin = path.resolve().name, str(path)
    said = sentences["train"]
    words = vocabulary(said, RARE if sum(map(len, said)) >= LARGE else 1)
    captions = [of_image for part in sentences.values() for of_image in part]
    length, most = longest(captions), max(map(len, captions))
    parts = {part: Split(pictures[part], encode(sentences[part], words, length, most), files[part])
             for part in ("train", "validation", "test")}
    return Data(name, words, *parts.values(), origin=origin, counted="words", count=count_words)


def count_words(ids, classes):
    """How often each word of the vocabulary occurs."""
    return np.bincount(ids.ravel(), minlength=classes)


def _read(path, source, size):
    """The `Captions` at a path."""
    if path.is_dir() and (path / FLICKR_TOKENS).is_file():
        return read_flickr8k(path, size=size)
    if path.suffix == ".txt" and path.is_file():
        return read_flickr8k(path.parent, path.name, size=size)
    if path.suffix == ".json" and path.is_file():
        return read_coco(path, path.parent, size=size)
    raise UsageError(f"{unknown('data set', source, list(DATA_SETS))}, or a folder with images and "
                     f"{FLICKR_TOKENS} in it, that file, or a JSON file of COCO captions beside "
                     "its images")


def _divided(found, seed):
    """The images, sentences and files of each part, cut by the seed where there is no part."""
    whole = Split(np.arange(len(found.images)), np.arange(len(found.images)))
    given = {part: whole.take(indices) for part, indices in found.parts.items()}
    train, validation, test = divide_evenly(
        Source("the captions", (), **({"train": whole} | given)), seed=seed)
    indices = {"train": train.labels, "validation": validation.labels, "test": test.labels}
    return ({part: found.images[i] for part, i in indices.items()},
            {part: [found.sentences[k] for k in i] for part, i in indices.items()},
            {part: tuple(found.files[k] for k in i) for part, i in indices.items()})
