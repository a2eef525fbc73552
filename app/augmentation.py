"""Augmentation: each image a little different in each epoch, by one affine map an image."""

import tensorflow as tf

from app.errors import unknown

SHIFT = 0.1


def flip(count, height, width, seed):
    """Mirrors half of the images, left to right: for photos, not for digits or letters."""
    mirrored = tf.random.stateless_uniform([count], seed) < 0.5
    scale = tf.where(mirrored, -1.0, 1.0)
    return scale, tf.where(mirrored, width - 1.0, 0.0), tf.zeros([count])


def shift(count, height, width, seed):
    """Moves each image by whole pixels, up to a tenth of each side; black comes in."""
    reach = tf.constant([round(SHIFT * width), round(SHIFT * height)])
    draw = tf.random.stateless_uniform([count, 2], seed)
    moves = tf.floor(draw * tf.cast(2 * reach + 1, tf.float32)) - tf.cast(reach, tf.float32)
    return tf.ones([count]), moves[:, 0], moves[:, 1]


AUGMENTATIONS = {"flip": flip, "shift": shift}


def parse(augment):
    """The names in "flip,shift" as a tuple; an error for one that does not exist.

    None, "" and "none" are no augmentation.
    """
    names = tuple(name.strip() for name in (augment or "none").split(",") if name.strip())
    if names in ((), ("none",)):
        return ()
    for name in names:
        if name not in AUGMENTATIONS:
            raise unknown("augmentation", name, list(AUGMENTATIONS))
    return names


def draw(names, count, height, width, seed, epoch):
    """One map for each of `count` images: a pure function of (seed, epoch, index of the image).

    Returns float32 (count, 3): for the pixel at (x, y) of the result, the pixel
    (scale * x + move_x, y + move_y) of the image is taken.
    """
    scale, move_x, move_y = tf.ones([count]), tf.zeros([count]), tf.zeros([count])
    for name in names:
        stream = tf.random.experimental.stateless_fold_in(
            tf.stack([tf.cast(seed, tf.int64), epoch]), 1 + list(AUGMENTATIONS).index(name)
        )
        s, x, y = AUGMENTATIONS[name](count, height, width, stream)
        scale, move_x, move_y = scale * s, scale * x + move_x, move_y + y
    return tf.stack([scale, move_x, move_y], axis=1)


def apply(images, maps):
    """The `images` (N, H, W, C), each through its map (N, 3)."""
    scale, move_x, move_y = tf.unstack(maps, axis=1)
    zero, one = tf.zeros_like(scale), tf.ones_like(scale)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([scale, zero, move_x, zero, one, move_y, zero, zero], axis=1),
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )
    return tf.ensure_shape(moved, images.shape)
