"""Data sets: loaded by name or path, divided once by seed, and read in batches."""

import hashlib
import os
import weakref
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Callable

import numpy as np
import tensorflow as tf

from app import augmentation, sources
from app.errors import HandgradError, UsageError
from app.sources import DATA_SETS
from app.split import Split, divide, join

__all__ = ["DATA_SETS", "Data", "Split", "batches", "join", "load", "steps"]

PREFETCHED = 4  # batches made ahead
_TENSORS = weakref.WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Data:
    """A data set, divided into a training, a validation and a test part.

    origin: where it was read from.
    skipped: the files that were left out, only with `skip_corrupt`.
    counted, count: what the labels say how much of there is of each class, and how much there is
        in labels (N, ...): an array by class.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    skipped: tuple[str, ...] = ()
    origin: str = ""
    counted: str = "images"
    count: Callable = lambda labels, classes: np.bincount(labels, minlength=classes)

    @property
    def image_shape(self):
        """(H, W, C) of every image."""
        return self.train.images.shape[1:]

    @property
    def splits(self):
        """The three parts by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def statistics(self):
        """(mean, standard deviation) a channel of the training images in [0, 1], as tuples."""
        return self._statistics

    @cached_property
    def _statistics(self):
        # By counting the 256 values: exact, and nothing of the images' size is made.
        channels = self.image_shape[2]
        counts = np.zeros((channels, 256), np.int64)
        for start in range(0, len(self.train), 256):
            block = self.train.images[start:start + 256]
            for channel in range(channels):
                counts[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
        values, weights = np.arange(256) / 255, counts / counts.sum(axis=1, keepdims=True)
        mean = weights @ values
        variance = (weights * (values - mean[:, np.newaxis]) ** 2).sum(axis=1)
        return tuple(mean.tolist()), tuple(np.sqrt(variance).tolist())

    @cached_property
    def fingerprint(self):
        """16 hexadecimal digits that tell this data set, divided this way, from any other.

        Made of names, sizes, all labels and the pixels of about 64 images a part.
        """
        digest = hashlib.sha256(repr((self.class_names, self.image_shape)).encode())
        for name, split in self.splits.items():
            digest.update(f"{name} {len(split)}".encode())
            digest.update(split.labels.tobytes())
            digest.update(split.images[::max(1, len(split) // 64)].tobytes())
        return digest.hexdigest()[:16]

    def describe(self):
        """What there is to know about the data set, in plain values."""
        classes = len(self.class_names)
        return {
            "name": self.name,
            "origin": self.origin,
            "classes": list(self.class_names),
            "image_shape": list(self.image_shape),
            "counts": {name: len(split) for name, split in self.splits.items()},
            f"{self.counted}_per_class": {
                name: self.count(split.labels, classes).tolist()
                for name, split in self.splits.items()
            },
            "skipped": list(self.skipped),
            "fingerprint": self.fingerprint,
        }


def load(source, *, image_size=None, seed=0, validation=0.15, test=0.15, skip_corrupt=False):
    """Loads a data set by its name (`DATA_SETS`) or from a path, and divides it.

    Args:
        source: a name, or the path of a folder of class folders, of IDX files or of an .npz.
        image_size: a side or (height, width) in pixels that images are resized to. By default
            images keep their size (for folders see `app.folder`).
        seed: decides which images go into which part.
        validation, test: fractions of the training images that are cut off for these parts.
            Where the source has a part of its own, that one is kept and nothing is cut for it.
        skip_corrupt: leave out files that cannot be decoded, and list them in `Data.skipped`.

    Raises:
        UsageError: for a request that is wrong.
        HandgradError: for data that are broken.
    """
    _check_request(seed, validation, test)
    found = sources.read(source, image_size=image_size, skip_corrupt=skip_corrupt)
    _check_classes(found)
    parts = divide(found, validation=validation, test=test, seed=seed)
    name = source if source in DATA_SETS else Path(source).resolve().name
    return Data(name, found.class_names, *parts, found.skipped, found.origin)


def steps(split, batch_size):
    """The number of batches in an epoch; the last one may be smaller."""
    return -(-len(split) // batch_size)


def batches(split, batch_size, *, epochs=1, first_epoch=0, shuffle_seed=None, augment=None,
            moved=None, chosen=None):
    """The epochs first_epoch .. epochs - 1 of a split, one after the other, in batches.

    Yields (images float32 in [0, 1] (B, H, W, C), labels (B, ...)), `steps(split, batch_size)`
    times an epoch. The order of an epoch and what augmentation does to an image
    are pure functions of (shuffle_seed, epoch, index of the image), so that training which is
    resumed at `first_epoch` sees exactly what it would have seen.

    Args:
        split: a `Split`.
        batch_size: images a batch. Larger than the split is an error in training, that is with
            `shuffle_seed`; without it, all images make one batch.
        shuffle_seed: shuffles each epoch anew; None keeps the order.
        augment: names out of `app.augmentation.AUGMENTATIONS`, each with an amount or without,
            such as "shift" or "flip,rotate=15".
        moved: (labels, maps (B, 6), see `app.augmentation.draw`, image shape) -> labels, where
            labels have a place in the image and move with it.
        chosen: (labels, numbers in [0, 1) (B,)) -> labels, where one of several is drawn in each
            epoch.
    """
    count, (height, width) = len(split), split.images.shape[1:3]
    changes = augmentation.parse(augment)
    bent = any(name == "elastic" for name, _ in changes)
    if bent and moved:
        raise UsageError("The augmentation 'elastic' moves pixels alone: masks and boxes would not "
                         f"lie over them any more. Received: {augment}")
    if batch_size < 1 or shuffle_seed is not None and batch_size > count:
        raise UsageError(
            f"The batch size must be 1 to {count}, the number of training images. "
            f"Received: {batch_size}"
        )
    seed = shuffle_seed or 0
    images, labels = _tensors(split)

    def epoch_batches(epoch):
        order = tf.range(count)
        if shuffle_seed is not None:
            order = tf.random.experimental.stateless_shuffle(order, tf.stack([seed, epoch]))
        drawn = augmentation.draw(changes, count, height, width, seed, epoch)
        if chosen:
            drawn["label"] = tf.random.stateless_uniform([count], tf.stack([seed, epoch]))
        drawn = {name: tf.gather(rows, order) for name, rows in drawn.items()}
        parts = tf.data.Dataset.from_tensor_slices((order, drawn)).batch(batch_size)
        if not bent:
            return parts
        bank = augmentation.displacements(height, width, seed, epoch)
        return tf.data.Dataset.zip(parts, tf.data.Dataset.from_tensors(bank).repeat())

    def gather(part, bank=None):
        indices, drawn = part
        found = tf.gather(labels, indices)
        if moved and "map" in drawn:
            found = moved(found, drawn["map"], images.shape[1:])
        if chosen:
            found = chosen(found, drawn["label"])
        return augmentation.apply(tf.gather(images, indices), drawn, bank), found

    dataset = tf.data.Dataset.range(first_epoch, epochs).flat_map(epoch_batches)
    dataset = dataset.map(gather if bent else lambda *part: gather(part),
                          num_parallel_calls=os.cpu_count(), deterministic=True)
    total = steps(split, batch_size) * max(0, epochs - first_epoch)
    # Tuning of itself goes on for seconds after the last batch, and an iterator's end waits for it.
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.apply(tf.data.experimental.assert_cardinality(total)).prefetch(
        PREFETCHED).with_options(options)


def _tensors(split):
    """The arrays of a split as tensors in host memory: made once, captured by every pipeline."""
    if split not in _TENSORS:
        with tf.device("CPU:0"):
            _TENSORS[split] = tf.convert_to_tensor(split.images), tf.convert_to_tensor(split.labels)
    return _TENSORS[split]


def _check_request(seed, validation, test):
    if not 0 <= seed < 2**32:
        raise UsageError(f"The seed must be a whole number in 0 .. 2**32 - 1. Received: {seed}")
    for name, fraction in (("validation", validation), ("test", test)):
        if not 0 < fraction < 1:
            raise UsageError(
                f"The {name} fraction must lie between 0 and 1, both excluded. "
                f"Received: {fraction}"
            )
    if validation + test >= 1:
        raise UsageError(
            "The validation and test fractions must leave images to train on: their sum must be "
            f"less than 1. Received: {validation} + {test} = {validation + test:g}"
        )


def _check_classes(found):
    """Every part has labels of the classes there are; the training part has every class."""
    classes = len(found.class_names)
    if classes < 2:
        raise HandgradError(
            f"Classification needs at least two classes. Received: {classes} in {found.origin} "
            f"('{found.class_names[0]}')"
        )
    twice = {name for name in found.class_names if found.class_names.count(name) > 1}
    if twice:
        raise HandgradError(
            f"The class names of {found.origin} must differ. Received '{min(twice)}' twice"
        )
    for name, split in found.parts.items():
        outside = np.flatnonzero(split.labels >= classes)
        if len(outside):
            raise HandgradError(
                f"The labels of the {name} part of {found.origin} must be 0 .. {classes - 1}, for "
                f"its {classes} classes. Received: {split.labels[outside[0]]} at {outside[0]}"
            )
    counts = np.bincount(found.train.labels, minlength=classes)
    if not counts.all():
        missing = found.class_names[int(counts.argmin())]
        raise HandgradError(
            f"Class '{missing}' has no image in the training part of {found.origin}. "
            "Add images of it, or remove the class."
        )
