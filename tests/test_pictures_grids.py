"""Pictures of what a generator draws."""

import numpy as np
import pytest

from app.drawing import as_data_uri
from app.pictures.grids import interpolations, samples, slerp


def picture(figure):
    return figure.axes[0].images[0].get_array()


@pytest.mark.parametrize("channels", [1, 3])
def test_samples_lie_row_by_row(channels):
    images = np.random.default_rng(0).random((7, 4, 5, channels), np.float32)
    figure = samples(images, columns=3)
    shown = np.array(picture(figure)).reshape(14, 17, channels)
    for i, image in enumerate(images):
        y, x = 5 * (i // 3), 6 * (i % 3)
        np.testing.assert_array_equal(shown[y:y + 4, x:x + 5], image)
        shown[y:y + 4, x:x + 5] = 1
    assert (shown == 1).all()  # between them, and where there is none
    assert as_data_uri(figure).startswith("data:image/svg+xml")


def test_fewer_samples_than_columns():
    assert picture(samples(np.zeros((2, 4, 4, 1)))).shape == (4, 9)


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


def test_a_row_shows_what_is_drawn_on_the_way():
    first, last = np.eye(4, dtype=np.float32)[:2], np.eye(4, dtype=np.float32)[2:]
    figure = interpolations(lambda z: np.abs(z).reshape(-1, 2, 2, 1), first, last, steps=5)
    shown = picture(figure)
    assert shown.shape == (5, 14)
    np.testing.assert_allclose(shown[:2, :2].ravel(), first[0], atol=1e-6)
    np.testing.assert_allclose(shown[3:, 12:].ravel(), last[1], atol=1e-6)
    np.testing.assert_allclose(shown[:2, 6:8].ravel(), (first[0] + last[0]) / 2**0.5, atol=1e-6)
