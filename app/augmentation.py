"""Augmentation: each training image a little different in each epoch.

What happens to an image is a pure function of (seed, epoch, index of the image): a few numbers
that are drawn for all images at the start of an epoch, and applied batch by batch.
"""

import math
from dataclasses import dataclass
from typing import Callable

import tensorflow as tf

from app.errors import UsageError, unknown

FIELDS = 2**18  # pixels of all displacement fields of an epoch together


class Draws:
    """Random numbers of one augmentation in one epoch, for each of `count` images."""

    def __init__(self, count, height, width, seed, epoch, number):
        self.count, self.height, self.width, self.epoch = count, height, width, epoch
        self.seed = tf.stack([tf.cast(seed, tf.int64), epoch])
        self.first = tf.stack([tf.cast(seed, tf.int64), tf.constant(-1, tf.int64)])
        self.number = number

    def uniform(self, *shape, low=-1.0, high=1.0, stream=0, once=False):
        """Uniform numbers (count, *shape); `once`: those of the seed alone, in every epoch."""
        seed = tf.random.experimental.stateless_fold_in(
            self.first if once else self.seed, 16 * self.number + stream)
        return tf.random.stateless_uniform([self.count, *shape], seed, low, high)


def flip(draws, amount):
    """Mirrors this part of the images (half), left to right: for photos, not for digits."""
    return _mirrored(draws, draws.uniform(low=0.0) < amount)


def alternate_flip(draws, amount):
    """Mirrors each image in every second epoch, half of them in the first.

    Source: Jordan, 94 % on CIFAR-10 in 3.29 Seconds on a Single GPU, 2024, section 3.6.
    """
    mirrored = draws.uniform(low=0.0, once=True) < amount
    return _mirrored(draws, tf.math.logical_xor(mirrored, draws.epoch % 2 == 1))


def shift(draws, amount):
    """Moves each image by whole pixels, up to this part of each side; black comes in."""
    reach = tf.constant([round(amount * draws.width), round(amount * draws.height)])
    unit = draws.uniform(2, low=0.0)
    moves = tf.floor(unit * tf.cast(2 * reach + 1, tf.float32)) - tf.cast(reach, tf.float32)
    return _maps(draws, move=moves)


def rotate(draws, amount):
    """Turns each image about its centre, by at most so many degrees."""
    angle = draws.uniform() * (amount * math.pi / 180)
    return _centred(draws, tf.cos(angle), -tf.sin(angle), tf.sin(angle), tf.cos(angle))


def scale(draws, amount):
    """Enlarges or reduces each image about its centre, by at most this part."""
    factor = 1 + amount * draws.uniform()
    return _centred(draws, 1 / factor, 0.0, 0.0, 1 / factor)


def squeeze(draws, amount):
    """Makes each image wider and lower, or narrower and higher, by at most this part."""
    factor = 1 + amount * draws.uniform()
    return _centred(draws, factor, 0.0, 0.0, 1 / factor)


def shear(draws, amount):
    """Slants each image, by at most this part of its height."""
    return _centred(draws, 1.0, amount * draws.uniform(), 0.0, 1.0)


def brightness(draws, amount):
    """Adds a number up to this to all pixels of an image, and keeps them in [0, 1]."""
    return {"brightness": amount * draws.uniform()}


def contrast(draws, amount):
    """Draws the pixels of each image away from their mean, or towards it, by at most this part."""
    return {"contrast": 1 + amount * draws.uniform()}


def colour(draws, amount):
    """Makes each channel lighter or darker by itself, by at most this part: another light."""
    return {"gain": 1 + amount * draws.uniform(3)}


def elastic(draws, amount):
    """Moves each pixel by a smooth random field, of this part of the side as standard deviation.

    An image takes one of the epoch's fields, each axis mirrored or not.

    Source: Simard, Steinkraus, Platt, Best Practices for Convolutional Neural Networks Applied to
    Visual Document Analysis, 2003, section 2. Departs from it: a field is shared by some images
    of an epoch; its scale is stated by its deviation.
    """
    choice = tf.cast(draws.uniform(low=0.0, stream=1) * fields(draws.height, draws.width), tf.int32)
    signs = tf.sign(draws.uniform(2, stream=2))
    reach = amount * tf.constant([draws.width, draws.height], tf.float32)
    return {"field": choice, "reach": signs * reach}


def _mirrored(draws, mirrored):
    ones = tf.ones([draws.count])
    zeros = tf.zeros_like(ones)
    return _maps(draws, tf.where(mirrored, -1.0, 1.0), zeros, zeros, ones,
                 tf.stack([tf.where(mirrored, draws.width - 1.0, 0.0), zeros], 1))


def _centred(draws, a, b, c, d):
    """The map [[a, b], [c, d]] about the centre of the image."""
    a, b, c, d = (tf.broadcast_to(t, [draws.count]) for t in (a, b, c, d))
    x, y = (draws.width - 1) / 2, (draws.height - 1) / 2
    move = tf.stack([x - a * x - b * y, y - c * x - d * y], 1)
    return _maps(draws, a, b, c, d, move)


def _maps(draws, a=1.0, b=0.0, c=0.0, d=1.0, move=0.0):
    """For the pixel (x, y) of the result the pixel (ax + by, cx + dy) + move of the image."""
    rows = [tf.broadcast_to(t, [draws.count]) for t in (a, b, c, d)]
    return {"map": tf.concat([tf.stack(rows, 1), tf.broadcast_to(move, [draws.count, 2])], 1)}


@dataclass(frozen=True)
class Augmentation:
    """A kind of change, its usual amount and the largest one."""

    function: Callable
    amount: float
    most: float = 1.0


AUGMENTATIONS = {
    "flip": Augmentation(flip, 0.5),
    "alternate-flip": Augmentation(alternate_flip, 0.5),
    "shift": Augmentation(shift, 0.1),
    "crop": Augmentation(shift, 0.125),  # padded by 4 of 32 pixels, then cropped
    "rotate": Augmentation(rotate, 10.0, 180.0),
    "scale": Augmentation(scale, 0.1, 0.9),
    "squeeze": Augmentation(squeeze, 0.1, 0.9),
    "shear": Augmentation(shear, 0.1),
    "brightness": Augmentation(brightness, 0.2),
    "elastic": Augmentation(elastic, 0.04),
    # At the end: what is drawn follows from an augmentation's place.
    "contrast": Augmentation(contrast, 0.3),
    "colour": Augmentation(colour, 0.1),
}


def parse(augment):
    """"flip,rotate=15" as (("flip", 0.5), ("rotate", 15.0)): each name with its amount.

    None, "" and "none" are no augmentation.
    """
    items = [item.strip() for item in (augment or "none").split(",") if item.strip()]
    if items in ([], ["none"]):
        return ()
    return tuple(map(_parsed, items))


def _parsed(item):
    name, given, text = item.partition("=")
    if name not in AUGMENTATIONS:
        raise unknown("augmentation", name, list(AUGMENTATIONS))
    kind = AUGMENTATIONS[name]
    try:
        amount = float(text) if given else kind.amount
    except ValueError:
        amount = math.nan
    if not 0 < amount <= kind.most:
        raise UsageError(f"The amount of the augmentation '{name}' must be a number above 0, at "
                         f"most {kind.most:g}, as in {name}={kind.amount:g}. Received: {item}")
    return name, amount


def draw(chosen, count, height, width, seed, epoch):
    """What happens to each of `count` images in an epoch, as tensors with one row an image.

    "map" (count, 6): a, b, c, d and a move, as in `_maps`, all maps in one; "brightness" and
    "contrast" (count,); "gain" (count, 3); "field" (count,) and "reach" (count, 2), in pixels.
    """
    found = {}
    for name, amount in chosen:
        draws = Draws(count, height, width, seed, epoch, 1 + list(AUGMENTATIONS).index(name))
        new = AUGMENTATIONS[name].function(draws, amount)
        if "map" in new and "map" in found:
            new["map"] = _composed(found["map"], new["map"])
        found |= new
    return found


def _composed(first, second):
    """The map that takes a pixel through `second`, then through `first`."""
    a, b, c, d, x, y = tf.unstack(first, axis=1)
    e, f, g, h, u, v = tf.unstack(second, axis=1)
    return tf.stack([a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h,
                     a * u + b * v + x, c * u + d * v + y], axis=1)


def fields(height, width):
    """How many displacement fields an epoch has."""
    return min(max(FIELDS // (height * width), 16), 512)


def displacements(height, width, seed, epoch):
    """The fields of an epoch, (fields, height, width, 2): x and y, of deviation 1, smooth.

    Uniform draws, convolved with a Gaussian of a seventh of the smaller side (4 of 28 pixels).
    """
    sigma = min(height, width) / 7
    reach = math.ceil(3 * sigma)
    gauss = tf.exp(-tf.range(-reach, reach + 1, dtype=tf.float32) ** 2 / (2 * sigma**2))
    gauss *= tf.sqrt(3.0) ** 0.5 / tf.norm(gauss)  # the deviation of a uniform draw is 1 / sqrt 3
    drawn = Draws(fields(height, width), height, width, seed, epoch, 0).uniform(
        height + 2 * reach, width + 2 * reach, 2)
    for shape in ((-1, 1), (1, -1)):
        kernel = tf.tile(tf.reshape(gauss, (*shape, 1, 1)), (1, 1, 2, 1))
        drawn = tf.nn.depthwise_conv2d(drawn, kernel, (1, 1, 1, 1), "VALID")
    return drawn


def apply(images, drawn, bank=None):
    """Images uint8 (N, H, W, C) as float32 in [0, 1], each with what was drawn for it.

    bank: the epoch's `displacements`, where "field" was drawn.
    """
    pixels = tf.cast(images, tf.float32) / 255
    if "field" in drawn:
        pixels = _bent(pixels, drawn, bank)
    elif "map" in drawn:
        pixels = _moved(pixels, drawn["map"])
    if "gain" in drawn:
        pixels *= drawn["gain"][:, None, None, :images.shape[-1]]
    if "contrast" in drawn:
        mean = tf.reduce_mean(pixels, (1, 2, 3), keepdims=True)
        pixels = mean + tf.reshape(drawn["contrast"], (-1, 1, 1, 1)) * (pixels - mean)
    if "brightness" in drawn:
        pixels += tf.reshape(drawn["brightness"], (-1, 1, 1, 1))
    if drawn.keys() & {"gain", "contrast", "brightness"}:
        pixels = tf.clip_by_value(pixels, 0.0, 1.0)
    return tf.ensure_shape(pixels, images.shape)


def _moved(pixels, maps):
    a, b, c, d, x, y = tf.unstack(maps, axis=1)
    zero = tf.zeros_like(a)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=pixels, transforms=tf.stack([a, b, x, c, d, y, zero, zero], axis=1),
        output_shape=tf.shape(pixels)[1:3], fill_value=0.0, interpolation="BILINEAR",
        fill_mode="CONSTANT")


def _bent(pixels, drawn, bank):
    """Through the map, if there is one, and the field together: pixels are resampled once."""
    shape = tf.shape(pixels)
    height, width = shape[1], shape[2]
    x, y = tf.meshgrid(tf.range(width, dtype=tf.float32), tf.range(height, dtype=tf.float32))
    if "map" in drawn:
        a, b, c, d, u, v = (t[:, None, None] for t in tf.unstack(drawn["map"], axis=1))
        x, y = a * x + b * y + u, c * x + d * y + v
    moves = tf.gather(bank, drawn["field"]) * drawn["reach"][:, None, None]
    x, y = x + moves[..., 0], y + moves[..., 1]
    left, top = tf.floor(x), tf.floor(y)
    found = 0.0
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column, row = tf.cast(left, tf.int32) + dx, tf.cast(top, tf.int32) + dy
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        share = (1 - tf.abs(x - left - dx)) * (1 - tf.abs(y - top - dy)) * tf.cast(
            inside, tf.float32)
        place = tf.clip_by_value(row, 0, height - 1) * width + tf.clip_by_value(
            column, 0, width - 1)
        flat = tf.reshape(pixels, (shape[0], height * width, shape[3]))
        found += share[..., None] * tf.gather(flat, place, batch_dims=1)
    return found
