"""`Split`: one part of a data set. `Source`: what a reader found. How parts are cut and joined."""

from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import train_test_split

from app.errors import HandgradError, UsageError


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set, in memory.

    images: uint8 (N, H, W, C).
    labels: int32 (N,), the class of each image; for other tasks (N, ...), see `app.tasks`.
    files: the file that each image came from, where images came from files.
    """

    images: np.ndarray
    labels: np.ndarray
    files: tuple[str, ...] | None = None

    def __len__(self):
        return len(self.labels)

    def take(self, indices):
        """The images at `indices`, as a split of their own."""
        files = None if self.files is None else tuple(self.files[i] for i in indices)
        return Split(self.images[indices], self.labels[indices], files)


@dataclass(frozen=True, eq=False)
class Source:
    """What a reader found: the parts that the source itself has, `None` where it has none."""

    origin: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split | None = None
    test: Split | None = None
    skipped: tuple[str, ...] = ()

    @property
    def parts(self):
        """The parts that are there, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in named.items() if part is not None}


def join(a, b):
    """The images of `a`, then those of `b`."""
    files = None if a.files is None or b.files is None else a.files + b.files
    return Split(
        np.concatenate([a.images, b.images]), np.concatenate([a.labels, b.labels]), files
    )


def divide(source, *, validation, test, seed):
    """Cuts what `source` does not divide itself; returns its (train, validation, test).

    `validation` and `test` are fractions of the images that the source has in its training
    part. The cut is stratified (each class has its share in each part), a function of `seed`
    alone, and keeps the images in their order.
    """
    _check_shapes(source)
    total = len(source.train)
    rest, tested, validated = np.arange(total), source.test, source.validation
    if tested is None:
        rest, taken = _cut(rest, "test", test, round(test * total), source, seed)
        tested = source.train.take(taken)
    if validated is None:
        rest, taken = _cut(rest, "validation", validation, round(validation * total), source, seed)
        validated = source.train.take(taken)
    _check_every_class(validated, source)
    train = source.train if len(rest) == total else source.train.take(rest)
    return train, validated, tested


def divide_evenly(source, *, seed, fraction=0.15):
    """The (train, validation, test) of a source whose labels are no classes of images.

    What it does not divide itself is cut from its training part by the seed, this fraction each.
    """
    _check_shapes(source)
    found, left = dict(source.parts), np.arange(len(source.train))
    missing = [part for part in ("test", "validation") if part not in found]
    count = round(fraction * len(left))
    if missing and not count:
        raise HandgradError(f"{source.origin} has {len(left)} images to train on, too few to cut a "
                            f"{missing[0]} part from them. Expected: at least 4.")
    order = np.random.default_rng(seed).permutation(left)
    for i, part in enumerate(missing):
        found[part] = source.train.take(np.sort(order[i * count:(i + 1) * count]))
    train = source.train.take(np.sort(order[len(missing) * count:])) if missing else source.train
    return train, found["validation"], found["test"]


def check_all_are_used(skip_corrupt):
    """Of images with more than a class no file is left out: what is broken is an error."""
    if skip_corrupt:
        raise UsageError("--skip-corrupt is for classification: of the images of other tasks none "
                         "is left out. Received: --skip-corrupt")


def _check_shapes(source):
    expected = source.train.images.shape[1:]
    for name, part in source.parts.items():
        if part.images.shape[1:] != expected:
            raise HandgradError(
                f"The images of the {name} part of {source.origin} must have the shape of the "
                f"training images, {expected}. Received: {part.images.shape[1:]}")


def _cut(indices, name, fraction, count, source, seed):
    """`indices` of training images without `count` of them, and these, both in order."""
    labels, classes = source.train.labels[indices], source.class_names
    counts = np.bincount(labels, minlength=len(classes))
    rarest = int(counts.argmin())
    too_few = HandgradError(
        f"The {name} part of {source.origin} would lack a class: it gets {fraction:g} of the "
        f"images, which is {count}, for {len(classes)} classes, and class '{classes[rarest]}' has "
        f"{np.count_nonzero(source.train.labels == rarest)} in all. Add images, or folders train, "
        "val and test that divide them."
    )
    if counts[rarest] < 2 or not len(classes) <= count <= len(indices) - len(classes):
        raise too_few
    parts = train_test_split(indices, test_size=count, stratify=labels, random_state=seed)
    for part in parts:
        if len(np.unique(source.train.labels[part])) < len(classes):
            raise too_few
    return tuple(np.sort(part) for part in parts)


def _check_every_class(split, source):
    counts = np.bincount(split.labels, minlength=len(source.class_names))
    if not counts.all():
        missing = source.class_names[int(counts.argmin())]
        raise HandgradError(
            f"The validation part of {source.origin} has no image of class '{missing}': "
            "add some, or remove that part to have it cut from the training images."
        )
