"""Data: what is promised of the division, of batches and of augmentation."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import data
from app.augmentation import AUGMENTATIONS
from app.errors import HandgradError, UsageError
from app.split import Source, Split, divide


def numbered(count, classes=2, shape=(4, 6, 1)):
    """A split whose image i has the value i in every pixel."""
    images = np.broadcast_to(np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1), (count, *shape))
    return Split(images.copy(), np.arange(count, dtype=np.int32) % classes)


def textured(count, shape=(10, 12, 3)):
    """A split of random images, no pixel of which is black."""
    images = np.random.default_rng(0).integers(1, 256, (count, *shape), np.uint8)
    return Split(images, np.zeros(count, np.int32))


def read(dataset):
    """The batches of a dataset as (uint8 images, labels), in arrays."""
    return [(np.rint(x.numpy() * 255).astype(np.uint8), y.numpy()) for x, y in dataset]


def ids(dataset):
    """The indices of `numbered` images, batch by batch."""
    return [x[:, 0, 0, 0].tolist() for x, _ in read(dataset)]


def flat(parts):
    return [i for part in parts for i in part]


# Division


@settings(deadline=None, max_examples=40)
@given(
    counts=st.lists(st.integers(20, 60), min_size=2, max_size=5),
    validation=st.floats(0.1, 0.4),
    test=st.floats(0.1, 0.4),
    seed=st.integers(0, 2**32 - 1),
)
def test_division_is_disjoint_complete_and_stratified(counts, validation, test, seed):
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    images = np.arange(len(labels), dtype=np.int32).reshape(-1, 1, 1, 1)
    source = Source("here", tuple("abcde"[: len(counts)]), Split(images, labels))
    parts = divide(source, validation=validation, test=test, seed=seed)
    indices = np.concatenate([part.images.ravel() for part in parts])
    assert sorted(indices) == list(range(len(labels)))
    for part, fraction in zip(parts, (1 - validation - test, validation, test)):
        assert abs(len(part) - fraction * len(labels)) <= 1 + 1e-9  # two parts of it rounded
        np.testing.assert_array_equal(part.labels, labels[part.images.ravel()])
        for label, count in enumerate(counts):
            assert np.sum(part.labels == label) == pytest.approx(fraction * count, abs=2)
    again = divide(source, validation=validation, test=test, seed=seed)
    for a, b in zip(parts, again):
        np.testing.assert_array_equal(a.images, b.images)


def test_another_seed_divides_otherwise():
    a, b = data.load("digits", seed=0), data.load("digits", seed=1)
    assert a.fingerprint != b.fingerprint
    assert a.fingerprint == data.load("digits", seed=0).fingerprint


def test_parts_of_the_source_are_kept():
    train, own = numbered(100), numbered(7)
    source = Source("here", ("a", "b"), train, test=own)
    kept, validation, test = divide(source, validation=0.2, test=0.3, seed=0)
    assert test is own and (len(kept), len(validation)) == (80, 20)
    source = dataclasses.replace(source, validation=own)
    kept, validation, test = divide(source, validation=0.2, test=0.3, seed=0)
    assert kept is train and validation is own and test is own


@pytest.mark.parametrize("counts", [(100, 1), (100, 3), (4, 4)])
def test_a_class_too_small_to_divide_is_named(counts):
    labels = np.repeat(np.arange(2, dtype=np.int32), counts)
    source = Source("here", ("cat", "dog"), Split(np.zeros((len(labels), 1, 1, 1)), labels))
    with pytest.raises(HandgradError, match=f"would lack a class.* has {counts[1]} in all"):
        divide(source, validation=0.1, test=0.1, seed=0)


def test_validation_of_the_source_must_have_every_class():
    lacking = Split(np.zeros((2, 4, 6, 1), np.uint8), np.zeros(2, np.int32))
    source = Source("here", ("cat", "dog"), numbered(9), lacking, numbered(9))
    with pytest.raises(HandgradError, match="validation part of here has no image of class 'dog'"):
        divide(source, validation=0.1, test=0.1, seed=0)


def test_join():
    a, b = dataclasses.replace(numbered(2), files=("x", "y")), numbered(3)
    joined = data.join(a, b)
    assert joined.images[:, 0, 0, 0].tolist() == [0, 1, 0, 1, 2] and len(joined) == 5
    assert joined.labels.tolist() == [0, 1, 0, 1, 0] and joined.files is None
    assert data.join(a, a).files == ("x", "y", "x", "y")


@pytest.mark.parametrize(
    "request_, message",
    [
        ({"validation": 0}, "validation fraction .* Received: 0"),
        ({"test": 1.0}, "test fraction .* Received: 1.0"),
        ({"validation": float("nan")}, "validation fraction .* Received: nan"),
        ({"validation": 0.5, "test": 0.5}, "less than 1. Received: 0.5 [+] 0.5 = 1"),
        ({"seed": -1}, "seed .* Received: -1"),
        ({"image_size": 0}, "image size .* Received: 0"),
        ({"image_size": (3, 4, 5)}, r"image size .* Received: \(3, 4, 5\)"),
    ],
)
def test_wrong_requests(request_, message):
    with pytest.raises(UsageError, match=message):
        data.load("digits", **request_)


# What a data set tells


def test_statistics_are_those_of_the_training_images():
    loaded = data.load("digits")
    scaled = loaded.train.images / 255
    mean, std = loaded.statistics()
    np.testing.assert_allclose(mean, scaled.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, scaled.std(axis=(0, 1, 2)), rtol=1e-12)
    assert loaded.statistics() is loaded.statistics()
    coloured = textured(700)
    mean, std = dataclasses.replace(loaded, train=coloured).statistics()
    np.testing.assert_allclose(mean, (coloured.images / 255).mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (coloured.images / 255).std(axis=(0, 1, 2)), rtol=1e-12)


def test_describe_is_plain():
    described = data.load("digits").describe()
    assert described["counts"] == {"train": 1257, "validation": 270, "test": 270}
    assert described["image_shape"] == [8, 8, 1] and described["classes"] == list("0123456789")
    assert sum(described["images_per_class"]["test"]) == 270
    assert described["skipped"] == [] and described["name"] == "digits"


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_fingerprint_sees_labels_and_pixels(part):
    loaded = data.load("digits")
    split = loaded.splits[part]
    labels, images = split.labels.copy(), split.images.copy()
    labels[5] = (labels[5] + 1) % 10
    images[0] += 1
    for changed in (Split(split.images, labels), Split(images, split.labels)):
        assert dataclasses.replace(loaded, **{part: changed}).fingerprint != loaded.fingerprint


# Batches


def test_batches_in_order():
    split = numbered(7)
    dataset = data.batches(split, 3, epochs=2)
    assert ids(dataset) == [[0, 1, 2], [3, 4, 5], [6]] * 2
    assert dataset.cardinality() == 6 == 2 * data.steps(split, 3)
    for (x, y), wanted in zip(dataset, [[0, 1, 0], [1, 0, 1], [0]]):
        assert x.dtype == "float32" and y.dtype == "int32" and y.numpy().tolist() == wanted


def test_pixels_are_scaled_exactly():
    split = textured(5)
    (x, _), = data.batches(split, 5)
    np.testing.assert_array_equal(x, split.images.astype(np.float32) / np.float32(255))


def test_shuffling_covers_each_epoch_and_differs_between_them():
    epochs = [ids(data.batches(numbered(50), 8, epochs=e + 1, first_epoch=e, shuffle_seed=3))
              for e in range(3)]
    for epoch in epochs:
        assert sorted(flat(epoch)) == list(range(50)) and len(epoch) == 7
    orders = {tuple(flat(epoch)) for epoch in epochs} | {tuple(range(50))}
    assert len(orders) == 4
    assert flat(ids(data.batches(numbered(50), 8, shuffle_seed=4))) != flat(epochs[0])


def test_shuffled_labels_stay_with_their_images():
    for x, y in read(data.batches(numbered(50, classes=7), 8, shuffle_seed=0)):
        np.testing.assert_array_equal(x[:, 0, 0, 0] % 7, y)


@pytest.mark.parametrize("augment", [None, "shift", "flip,shift", "elastic,brightness,rotate"])
@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_resumed_batches_equal_uninterrupted_ones(augment, seed):
    split, settings_ = textured(20), {"shuffle_seed": seed, "augment": augment}
    whole = read(data.batches(split, 6, epochs=4, **settings_))
    resumed = read(data.batches(split, 6, epochs=4, first_epoch=2, **settings_))
    assert len(whole) == 16 and len(resumed) == 8
    for (x, y), (x_again, y_again) in zip(whole[8:], resumed):
        np.testing.assert_array_equal(x, x_again)
        np.testing.assert_array_equal(y, y_again)


def test_nothing_is_left_after_the_last_epoch():
    assert read(data.batches(numbered(4), 2, epochs=2, first_epoch=2, shuffle_seed=0)) == []


@pytest.mark.parametrize("size", [0, 9])
def test_batch_size_that_cannot_be(size):
    with pytest.raises(UsageError, match=f"1 to 8, .* Received: {size}"):
        data.batches(numbered(8), size, shuffle_seed=0)


def test_evaluation_takes_a_larger_batch():
    assert ids(data.batches(numbered(3), 100)) == [[0, 1, 2]]


# Augmentation


def augmented(split, augment, epoch=0):
    """The images of a split in their order, augmented."""
    (x, _), = read(data.batches(split, len(split), epochs=epoch + 1, first_epoch=epoch,
                                augment=augment))
    return x


def test_flip_mirrors_about_half_and_leaves_the_rest():
    split = textured(200)
    result = augmented(split, "flip")
    same = (result == split.images).all(axis=(1, 2, 3))
    mirrored = (result == split.images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same ^ mirrored).all() and 60 < mirrored.sum() < 140


def test_shift_moves_by_whole_pixels_within_reach():
    split = textured(300, shape=(20, 30, 1))
    seen = set()
    for image, result in zip(split.images, augmented(split, "shift")):
        padded = np.pad(image, ((2, 2), (3, 3), (0, 0)))
        found = [
            (dy, dx) for dy in range(5) for dx in range(7)
            if (padded[dy:dy + 20, dx:dx + 30] == result).all()
        ]
        assert len(found) == 1
        seen.update(found)
    assert {dy for dy, _ in seen} == set(range(5)) and {dx for _, dx in seen} == set(range(7))


def test_flip_and_shift_together():
    split = textured(200, shape=(10, 10, 3))
    both = set()
    for image, result in zip(split.images, augmented(split, "flip,shift")):
        found = [
            (flipped, dy, dx)
            for flipped, base in enumerate((image, image[:, ::-1]))
            for dy in range(3) for dx in range(3)
            if (np.pad(base, ((1, 1), (1, 1), (0, 0)))[dy:dy + 10, dx:dx + 10] == result).all()
        ]
        assert len(found) == 1
        both.update(found)
    assert len(both) == 18


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_augmentation_differs_by_epoch_and_not_by_batch(augment):
    split = textured(30)
    first = augmented(split, augment, 0)
    assert (first != augmented(split, augment, 1)).any() and (first != split.images).any()
    in_batches = [x for x, _ in read(data.batches(split, 7, augment=augment))]
    np.testing.assert_array_equal(np.concatenate(in_batches), first)


def test_unknown_augmentation():
    with pytest.raises(UsageError, match="Unknown augmentation 'flop'. Did you mean 'flip'?"):
        data.batches(numbered(4), 2, augment="flop")
