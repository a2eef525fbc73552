"""Boxes drawn on images."""

import numpy as np
import pytest
from PIL import ImageColor

from app.pictures.boxes import COLOURS, drawn

RGB = [ImageColor.getrgb(colour) for colour in COLOURS]


def pixels(*args, **kwargs):
    return np.asarray(drawn(*args, **kwargs))


def is_colour(image, colour):
    return (image == colour).all(-1)


@pytest.mark.parametrize(("shape", "size"), [
    ((1, 60000, 3), (60000, 1)), ((2, 300, 1), (1200, 8)), ((64, 64, 1), (320, 320))])
def test_pictures_are_enlarged_within_bounds(shape, size):
    assert drawn(np.zeros(shape, np.uint8), [], [], ()).size == size


def test_a_box_is_the_border_of_its_pixels():
    """Enlarged twice; below, where no name is written."""
    image = np.full((60, 80, 3), 200, np.uint8)
    found = pixels(image, [[10, 20, 30, 50]], [1], ["a", "b"], side=120)
    assert found.shape == (120, 160, 3)
    coloured = np.argwhere(is_colour(found, RGB[1])[45:])
    assert (coloured.min(0) + [45, 0]).tolist() == [45, 20]
    assert (coloured.max(0) + [45, 0]).tolist() == [99, 59]
    assert (found[50:96, 24:56] == 200).all()


def test_the_score_is_written_and_empty_rows_are_not():
    image = np.zeros((64, 64, 1), np.float32)
    boxes = [[5, 5, 40, 40], [50, 50, 60, 60]]
    named = pixels(image, boxes, [0, -1], ["a"])
    scored = pixels(image, boxes, [0, -1], ["a"], scores=[0.5, 0.1])
    assert named.shape == (320, 320, 3)
    assert is_colour(scored, RGB[0]).sum() > is_colour(named, RGB[0]).sum() > 0
    assert not named[245:].any()


@pytest.mark.parametrize("box", [[0, 0, 8, 8], [60, 60, 64, 64], [3, 3, 3, 3]])
def test_a_box_at_the_border_has_its_name_in_the_picture(box):
    found = pixels(np.zeros((64, 64, 3), np.uint8), [box], [0], ["a long name"])
    white = np.argwhere(is_colour(found, (255, 255, 255)))
    assert len(white) and white[:, 1].max() < 318 and is_colour(found, RGB[0]).any()
