"""Digit scenes: handwritten digits composed to pictures, whose contents are known exactly.

They make every task run anywhere, without a download: masks to segment, boxes to detect, a
sentence that describes. A scene of a part (training, validation, test) shows digits of that part
of scikit-learn's digits alone, so that no digit of a test scene was ever trained on.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from app.data import load
from app.errors import UsageError
from app.split import Source, Split

SIDE, MOST = 64, 3  # pixels, digits in a scene
PARTS = {"train": 2000, "validation": 400, "test": 600}  # scenes, by default
INK = 0.4  # from this part of full ink on, a pixel belongs to the digit
ROOM = 0.1  # of a digit's box, another one may cover at most this part


@dataclass(frozen=True)
class Placed:
    """A digit in a scene: its class, the place of its picture, and the picture in [0, 1]."""

    digit: int
    top: int
    left: int
    ink: np.ndarray

    @property
    def box(self):
        """(x1, y1, x2, y2) in pixels, tight around its ink, as lengths from the corner."""
        rows, columns = (np.flatnonzero((self.ink >= INK).any(axis)) for axis in (1, 0))
        return (self.left + columns[0], self.top + rows[0],
                self.left + columns[-1] + 1, self.top + rows[-1] + 1)


def check_size(size, side=SIDE):
    if size not in (None, (side, side)):
        raise UsageError(f"Digit scenes are {side}x{side} pixels here. "
                         f"Received: --image-size {size}")


def parts(seed, compose, more=1):
    """{part: [compose(digits, rng) for each scene]}, a function of the seed alone.

    more: the factor of the scenes to train on.
    compose: from a `Split` of digits and a `numpy.random.Generator` to a scene.
    """
    digits = load("digits", seed=seed).splits
    return {
        name: [compose(digits[name], np.random.default_rng((seed, number, scene)))
               for scene in range(more * count if name == "train" else count)]
        for number, (name, count) in enumerate(PARTS.items())
    }


def source(seed, compose, class_names, more=1):
    """`parts` as a `Source`: what `compose` gives are an image and its labels, as arrays."""
    made = parts(seed, compose, more)
    return Source("scikit-learn", class_names, **{
        name: Split(*map(np.stack, zip(*scenes))) for name, scenes in made.items()})


def place(digits, rng, most=MOST, sizes=(16, 28)):
    """1 to `most` digits of a `Split`, at places where they hardly cover each other."""
    placed = []
    for _ in range(rng.integers(1, most + 1)):
        for _ in range(20):  # a full scene may have no room left
            found = put(digits, rng, int(rng.integers(sizes[0], sizes[1] + 1)))
            if all(_overlap(found.box, other.box) <= ROOM for other in placed):
                placed.append(found)
                break
    return placed


def put(digits, rng, size, top=None, left=None):
    """A digit of a `Split`, of `size` pixels, at a place, or anywhere."""
    i = int(rng.integers(len(digits)))
    picture = Image.fromarray(digits.images[i, ..., 0]).resize((size, size), Image.BICUBIC)
    top = int(rng.integers(SIDE - size + 1)) if top is None else top
    left = int(rng.integers(SIDE - size + 1)) if left is None else left
    return Placed(int(digits.labels[i]), top, left, np.asarray(picture, np.float32) / 255)


def render(placed, rng, side=SIDE):
    """(image uint8 (side, side, 1), mask uint8 (side, side)): 0 is ground, 1 + d the digit d.

    The ground has a brightness, a slope and noise of its own, and each digit its own ink.
    """
    y, x = np.mgrid[:side, :side] / side - 0.5
    slope = rng.uniform(-0.1, 0.1, 2)
    picture = rng.uniform(0.1, 0.3) + slope[0] * y + slope[1] * x
    mask = np.zeros((side, side), np.uint8)
    for one in placed:
        size = len(one.ink)
        window = (slice(one.top, one.top + size), slice(one.left, one.left + size))
        picture[window] += (rng.uniform(0.7, 1.0) - picture[window]) * one.ink
        mask[window][one.ink >= INK] = 1 + one.digit
    picture += rng.normal(0, 0.04, picture.shape)
    return np.rint(255 * picture.clip(0, 1)).astype(np.uint8)[..., np.newaxis], mask


def _overlap(a, b):
    """The part of the smaller box that both cover."""
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return max(width, 0) * max(height, 0) / smaller
