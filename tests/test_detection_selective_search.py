"""Selective search finds what stands out, and what it consists of."""

import numpy as np

from app.detection.selective_search import proposals, selective_search


def scene():
    """A red and a green rectangle that touch, a blue one apart, on grey."""
    image = np.full((48, 64, 3), 128, np.uint8)
    image[8:24, 6:20] = 200, 20, 20
    image[8:24, 20:30] = 20, 180, 20
    image[30:42, 40:60] = 20, 20, 220
    return image


def test_the_rectangles_and_the_image_are_proposed():
    boxes = selective_search(scene(), sigma=0.0, smallest=5)
    found = {tuple(box) for box in boxes.astype(int).tolist()}
    assert {(6, 8, 20, 24), (20, 8, 30, 24), (40, 30, 60, 42), (0, 0, 64, 48)} <= found


def test_boxes_lie_in_the_image_and_differ():
    rng = np.random.default_rng(0)
    image = np.clip(scene() + rng.normal(0, 25, (48, 64, 3)), 0, 255).astype(np.uint8)
    found = selective_search(image)
    assert len(found) > 5 and len(np.unique(found, axis=0)) == len(found)
    assert (found[:, :2] >= 0).all() and (found[:, 2:] <= [64, 48]).all()
    assert (found[:, :2] < found[:, 2:]).all()
    np.testing.assert_array_equal(found, selective_search(image))


def test_the_largest_come_first_and_missing_ones_are_zeros():
    found = proposals(np.stack([scene(), scene()])[..., :1], 40)
    assert found.shape == (2, 40, 4) and found.dtype == np.float32
    assert found[0, 0].tolist() == [0, 0, 64, 48] and not found[:, -1].any()


def test_an_image_of_one_colour_is_one_region():
    assert selective_search(np.zeros((8, 9, 3), np.uint8)).tolist() == [[0, 0, 9, 8]]
