"""Boxes and images move together."""

import numpy as np
import pytest
import tensorflow as tf

from app.augmentation import apply, draw, parse
from app.detection.moving import moved_boxes

HEIGHT, WIDTH = 48, 64
COUNT = 40


def rectangles():
    """Images with one white rectangle each, well inside, and its label beside an empty row."""
    rng = np.random.default_rng(0)
    images = np.zeros((COUNT, HEIGHT, WIDTH, 1), np.uint8)
    labels = np.tile(np.array([0, 0, 0, 0, -1], np.float32), (COUNT, 2, 1))
    for image, rows in zip(images, labels):
        x1, y1 = rng.integers(14, 30), rng.integers(12, 20)
        x2, y2 = x1 + rng.integers(6, 16), y1 + rng.integers(6, 14)
        image[y1:y2, x1:x2] = 255
        rows[0] = x1, y1, x2, y2, 3
    return images, labels


def seen(image):
    """The box around what is at least half white."""
    rows, columns = np.nonzero(image[..., 0] >= 0.5)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize("augment, off", [
    ("flip", 0), ("shift=0.15", 0), ("flip,shift", 0), ("squeeze=0.3", 1), ("scale=0.3", 1),
    ("flip,scale=0.2,squeeze=0.2,shift", 1), ("rotate=90", 1.5), ("shear=0.3", 1.5),
    ("rotate=180,scale=0.3,flip", 1.5),
])
def test_the_box_is_where_the_rectangle_is(augment, off):
    images, labels = rectangles()
    drawn = draw(parse(augment), COUNT, HEIGHT, WIDTH, 5, tf.constant(1, tf.int64))
    moved = moved_boxes(labels, drawn["map"], HEIGHT, WIDTH).numpy()
    pictures = apply(images, drawn).numpy()
    inside = [i for i, box in enumerate(moved[:, 0]) if box[0] > 0 and box[1] > 0
              and box[2] < WIDTH and box[3] < HEIGHT]
    assert len(inside) > COUNT / 3
    for i in inside:
        np.testing.assert_allclose(moved[i, 0, :4], seen(pictures[i]), atol=off + 1e-3)
    assert (moved[inside, 0, 4] == 3).all() and (moved[:, 1] == [0, 0, 0, 0, -1]).all()
    assert np.abs(moved - labels)[:, 0, :4].max() > 2


def moved_right(by, kept):
    """A box from column 50 to 60 of 64, moved so far to the right."""
    labels = tf.constant([[[50.0, 10, 60, 20, 1]]])
    maps = tf.constant([[1.0, 0, 0, 1, -by, 0]])
    return moved_boxes(labels, maps, HEIGHT, WIDTH, kept).numpy()[0, 0]


def test_of_a_box_that_leaves_the_rest_is_kept_while_it_is_enough():
    np.testing.assert_allclose(moved_right(4, 0.5), [54, 10, 64, 20, 1])
    np.testing.assert_allclose(moved_right(8, 0.5), [58, 10, 64, 20, 1])
    np.testing.assert_allclose(moved_right(10, 0.5), [0, 0, 0, 0, -1])
    np.testing.assert_allclose(moved_right(10, 0.3), [60, 10, 64, 20, 1])
