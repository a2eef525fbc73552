"""Pictures of what a generator draws."""

import numpy as np
import pytest

from app.pictures.grids import slerp, tiled


@pytest.mark.parametrize("channels", [1, 3])
def test_images_lie_row_by_row(channels):
    images = np.random.default_rng(0).integers(0, 255, (7, 4, 5, channels), np.uint8)
    shown = tiled(images, columns=3)
    assert shown.shape == (14, 17, channels)
    for i, image in enumerate(images):
        y, x = 5 * (i // 3), 6 * (i % 3)
        np.testing.assert_array_equal(shown[y:y + 4, x:x + 5], image)
        shown[y:y + 4, x:x + 5] = 255
    assert (shown == 255).all()  # between them, and where there is none


def test_fewer_images_than_columns():
    assert tiled(np.zeros((2, 4, 4, 1), np.uint8)).shape == (4, 9, 1)


def test_the_way_is_a_great_circle_walked_at_one_speed():
    first, last = np.array([[2.0, 0, 0]]), np.array([[0, 2.0, 0]])
    way = slerp(first, last, 4)[0]
    angles = np.radians([0, 30, 60, 90])
    np.testing.assert_allclose(way, 2 * np.stack([np.cos(angles), np.sin(angles), 0 * angles], 1),
                               atol=1e-6)


@pytest.mark.parametrize("factor", [1, 3, -1])
def test_between_parallel_noises_the_way_is_straight(factor):
    first = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)
    way = slerp(first, factor * first, 3)
    np.testing.assert_allclose(way[:, 1], (1 + factor) / 2 * first, atol=1e-3)
