"""Augmentation: what each kind does to an image, and within which bounds."""

import numpy as np
import pytest
import tensorflow as tf

from app import augmentation
from app.augmentation import AUGMENTATIONS, Draws, apply, displacements, draw, parse
from app.errors import UsageError

SIDE = 9


def textured(count=4, height=SIDE, width=SIDE, channels=1):
    shape = count, height, width, channels
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def maps(augment, count=2000, epoch=0):
    """What is drawn for a kind, as an array (count, 6): a, b, c, d, x, y."""
    drawn = draw(parse(augment), count, SIDE, SIDE, 1, tf.constant(epoch, tf.int64))
    return drawn["map"].numpy()


def moved(images, **drawn):
    drawn = {name: tf.constant(value, tf.float32) for name, value in drawn.items()}
    return np.rint(apply(tf.constant(images), drawn).numpy() * 255).astype(np.uint8)


def test_a_quarter_turn_is_exact():
    images = textured(2)
    draws = Draws(2, SIDE, SIDE, 0, tf.constant(0, tf.int64), 1)
    turned = augmentation._centred(draws, 0.0, -1.0, 1.0, 0.0)["map"]
    np.testing.assert_array_equal(moved(images, map=turned), np.rot90(images, 1, axes=(1, 2)))


def test_rotation_stays_within_its_angle_and_uses_it():
    a, b, c, d, _, _ = maps("rotate=15").T
    angles = np.degrees(np.arctan2(c, a))
    assert np.abs(angles).max() <= 15 and angles.min() < -14 and angles.max() > 14
    np.testing.assert_allclose(a * d - b * c, 1, rtol=1e-5)


@pytest.mark.parametrize("augment", ["rotate", "scale", "squeeze", "shear"])
def test_the_centre_stays(augment):
    a, b, c, d, x, y = maps(augment).T
    centre = (SIDE - 1) / 2
    np.testing.assert_allclose(a * centre + b * centre + x, centre, atol=1e-4)
    np.testing.assert_allclose(c * centre + d * centre + y, centre, atol=1e-4)


def test_scale_squeeze_and_shear_stay_within_their_amounts():
    a, b, c, d, _, _ = maps("scale=0.2").T
    np.testing.assert_array_equal(a, d)
    assert 0.8 <= (1 / a).min() < 0.82 and 1.18 < (1 / a).max() <= 1.2001
    a, b, c, d, _, _ = maps("squeeze=0.2").T
    np.testing.assert_allclose(a * d, 1, rtol=1e-5)
    assert 0.8 <= a.min() < 0.82 and 1.18 < a.max() <= 1.2
    a, b, c, d, _, _ = maps("shear=0.3").T
    assert (a == 1).all() and (d == 1).all() and (c == 0).all()
    assert -0.3 <= b.min() < -0.28 and 0.28 < b.max() <= 0.3


def test_maps_compose_in_their_order():
    """Turned, then moved: the pixel is looked up where it was moved from, then turned back."""
    both, first, second = maps("rotate,shift"), maps("rotate"), maps("shift")
    a, b, c, d, x, y = first.T
    u, v = second[:, 4], second[:, 5]
    np.testing.assert_allclose(both[:, 4], a * u + b * v + x, atol=1e-5)
    np.testing.assert_allclose(both[:, 5], c * u + d * v + y, atol=1e-5)


def test_alternate_flip_mirrors_in_every_second_epoch():
    even, odd, again = (maps("alternate-flip", epoch=epoch)[:, 0] for epoch in range(3))
    np.testing.assert_array_equal(even, -odd)
    np.testing.assert_array_equal(even, again)
    assert 0.4 < (even < 0).mean() < 0.6


def test_brightness_is_added_and_pixels_stay_in_range():
    images = textured()
    np.testing.assert_array_equal(
        moved(images, brightness=[0.2, -0.2, 0, 1]),
        np.clip(images + np.array([51, -51, 0, 255]).reshape(4, 1, 1, 1), 0, 255))
    drawn = draw(parse("brightness=0.3"), 1000, SIDE, SIDE, 0, tf.constant(0, tf.int64))
    low, high = (f(drawn["brightness"].numpy()) for f in (np.min, np.max))
    assert -0.3 <= low < -0.28 and 0.28 < high <= 0.3


def test_contrast_is_about_the_mean_and_a_gain_is_by_channel():
    images = np.random.default_rng(0).integers(60, 190, (3, 4, 5, 3)).astype(np.uint8)
    mean = images.mean((1, 2, 3), keepdims=True)
    factors = np.array([0.5, 1, 9]).reshape(3, 1, 1, 1)
    np.testing.assert_allclose(moved(images, contrast=factors.ravel()),
                               np.clip(mean + factors * (images - mean), 0, 255), atol=0.51)
    gain = np.array([[1, 1, 1], [0.5, 1, 2], [1.1, 0.9, 1]])
    np.testing.assert_allclose(moved(images, gain=gain),
                               np.clip(images * gain[:, None, None], 0, 255), atol=0.51)
    grey = images[..., :1]
    np.testing.assert_allclose(moved(grey, gain=gain), np.clip(
        grey * gain[:, None, None, :1], 0, 255), atol=0.51)
    drawn = draw(parse("contrast,colour=0.2"), 1000, SIDE, SIDE, 0, tf.constant(0, tf.int64))
    assert drawn["contrast"].shape == 1000 and drawn["gain"].shape == (1000, 3)
    for values, amount in ((drawn["contrast"], 0.3), (drawn["gain"], 0.2)):
        assert 1 - amount <= np.min(values) < 1 - 0.9 * amount
        assert 1 + 0.9 * amount < np.max(values) <= 1 + amount


# Elastic


def test_fields_are_smooth_and_of_deviation_one():
    fields = displacements(28, 28, 3, tf.constant(0, tf.int64)).numpy()
    assert fields.shape == (augmentation.fields(28, 28), 28, 28, 2)
    assert fields.std() == pytest.approx(1, rel=0.05)
    neighbours = np.corrcoef(fields[:, :, 1:].ravel(), fields[:, :, :-1].ravel())[0, 1]
    assert neighbours > 0.95
    assert np.abs(np.corrcoef(fields[..., 0].ravel(), fields[..., 1].ravel())[0, 1]) < 0.1


def bent(images, bank, reach=(1.0, 1.0), **drawn):
    count = len(images)
    drawn = {"field": tf.range(count) % len(bank), "reach": tf.constant([reach] * count), **drawn}
    return np.rint(apply(tf.constant(images), drawn, tf.constant(bank)).numpy() * 255)


def test_a_field_moves_each_pixel_by_its_own_vector():
    images = textured(2, 7, 9, 3)
    bank = np.random.default_rng(1).integers(-2, 3, (2, 7, 9, 2)).astype("float32")
    found = bent(images, bank)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    for n in range(2):
        for y in range(7):
            for x in range(9):
                dx, dy = bank[n, y, x].astype(int)
                np.testing.assert_array_equal(found[n, y, x], padded[n, y + dy + 2, x + dx + 2])


def test_between_pixels_values_are_interpolated():
    image = np.array([[0, 100], [200, 44]], np.uint8).reshape(1, 2, 2, 1)
    bank = np.zeros((1, 2, 2, 2), "float32")
    bank[0, 0, 0] = 0.25, 0.5
    expected = 0.5 * (0.75 * 0 + 0.25 * 100) + 0.5 * (0.75 * 200 + 0.25 * 44)
    assert bent(image, bank)[0, 0, 0, 0] == pytest.approx(expected, abs=0.5)


def test_a_map_and_a_field_are_one_resampling():
    """Of whole pixels both are exact, so in turn and together are the same."""
    images = textured(3)
    move = tf.constant([[1.0, 0, 0, 1, 2, -1]] * 3)
    bank = np.zeros((1, SIDE, SIDE, 2), "float32")
    np.testing.assert_array_equal(bent(images, bank, map=move), moved(images, map=move))


def test_elastic_uses_many_fields_both_ways():
    drawn = draw(parse("elastic=0.1"), 5000, 28, 14, 0, tf.constant(0, tf.int64))
    fields, reach = drawn["field"].numpy(), drawn["reach"].numpy()
    assert set(fields) <= set(range(augmentation.fields(28, 14))) and len(set(fields)) > 400
    np.testing.assert_allclose(np.abs(reach), [[1.4, 2.8]] * 5000, rtol=1e-6)
    assert len(np.unique(np.sign(reach), axis=0)) == 4


# Requests


def test_amounts_are_given_or_usual():
    assert parse("flip, rotate=15") == (("flip", 0.5), ("rotate", 15.0))
    assert parse(None) == parse("") == parse("none") == ()
    assert set(AUGMENTATIONS) >= {"flip", "crop", "shift", "rotate", "scale", "brightness",
                                  "elastic"}


@pytest.mark.parametrize("augment, message", [
    ("rotate=", "'rotate' must be a number above 0, at most 180, as in rotate=10"),
    ("rotate=0", "Received: rotate=0"), ("shift=2", "at most 1"), ("scale=nan", "scale=nan"),
    ("flip=x", "Received: flip=x"), ("elastc", "Did you mean 'elastic'"),
])
def test_amounts_that_cannot_be(augment, message):
    with pytest.raises(UsageError, match=message):
        parse(augment)
