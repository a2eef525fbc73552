"""Boxes, anchors, matching and sampling: by hand, and against pycocotools."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask

from app.detection.anchors import anchors, default_boxes, grid, shaped
from app.detection.boxes import area, centres, clipped, corners, iou, pairwise_iou
from app.detection.matching import IGNORED, NEGATIVE, balanced, match, matched, sample, seed_of

NONE = [0, 0, 0, 0, -1]


def random_boxes(rng, *shape, side=64):
    first, last = rng.uniform(0, side, (2, *shape, 2))
    return np.concatenate([np.minimum(first, last), np.maximum(first, last)], -1).astype("float32")


def coco_iou(a, b):
    """pycocotools' IoU of boxes, which it takes as corner and size."""
    a, b = (np.concatenate([x[:, :2], x[:, 2:] - x[:, :2]], 1).astype(float) for x in (a, b))
    return np.asarray(mask.iou(a, b, [0] * len(b)))


def test_areas_by_hand():
    boxes = tf.constant([[1.0, 2, 4, 6], [0, 0, 0, 5], [3, 3, 1, 1]])
    np.testing.assert_array_equal(area(boxes), [12, 0, 0])


def test_overlap_by_hand():
    a = tf.constant([[0.0, 0, 2, 2], [10, 10, 11, 11], [5, 5, 5, 5]])
    b = tf.constant([[1.0, 1, 3, 3], [0, 0, 2, 2]])
    np.testing.assert_allclose(iou(a, b), [[1 / 7, 1], [0, 0], [0, 0]], atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9))
@settings(deadline=None, max_examples=40)
def test_overlap_is_that_of_pycocotools(seed, m, n):
    rng = np.random.default_rng(seed)
    a, b = random_boxes(rng, m), random_boxes(rng, n)
    np.testing.assert_allclose(iou(a, b), coco_iou(a, b), atol=2e-5)
    np.testing.assert_allclose(pairwise_iou(a, a[::-1]), np.diag(coco_iou(a, a[::-1])), atol=2e-5)


def test_overlap_of_batches_is_that_of_each_image():
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 5), random_boxes(rng, 3, 4)
    np.testing.assert_allclose(iou(a, b), [coco_iou(a, each) for each in b], atol=2e-5)


def test_boxes_are_cut_to_their_image():
    found = clipped(tf.constant([[-3.0, 2, 70, 90]]), 48, 64)
    np.testing.assert_array_equal(found, [[0, 2, 64, 48]])


def test_corners_and_centres_are_inverse():
    boxes = random_boxes(np.random.default_rng(0), 7)
    np.testing.assert_allclose(corners(centres(boxes)), boxes, atol=1e-5)
    np.testing.assert_array_equal(centres(tf.constant([[2.0, 4, 6, 14]])), [[4, 9, 4, 10]])


def test_anchors_stand_around_the_centres_of_the_cells():
    found = anchors((16, 20, 3), {8: [(4, 2)], 16: [(8, 8), (2, 2)]})
    assert grid((16, 20, 3), 8) == (2, 3) and len(found) == 2 * 3 + 1 * 2 * 2
    np.testing.assert_array_equal(found[:2], [[2, 3, 6, 5], [10, 3, 14, 5]])
    np.testing.assert_array_equal(found[5], [18, 11, 22, 13])
    np.testing.assert_array_equal(found[6:8], [[4, 4, 12, 12], [7, 7, 9, 9]])


def test_shapes_have_their_areas_and_ratios():
    pairs = np.array(shaped([3, 6], (1, 2, 0.5)))
    np.testing.assert_allclose(pairs.prod(1), [9] * 3 + [36] * 3)
    np.testing.assert_allclose(pairs[:, 0] / pairs[:, 1], [1, 2, 0.5] * 2)


def test_default_boxes_are_those_of_the_paper():
    """Six strides from 0.2 to 0.9 of 300 pixels: 0.2, 0.34, ... and 1.04 as the next one's."""
    found = default_boxes(300, (8, 16, 32, 64, 128, 256), 0.2, 0.9)
    assert found[8][0] == pytest.approx((60, 60)) and found[256][0] == pytest.approx((270, 270))
    assert found[16][1] == pytest.approx((0.34 * 300 * 2**0.5, 0.34 * 300 / 2**0.5))
    assert found[256][-1] == pytest.approx((300 * (0.9 * 1.04) ** 0.5,) * 2)


def test_matching_by_hand():
    """IoU with the object 10 x 10: 1, 0.8, 0.5, 0.2, 0."""
    prior = tf.constant([[0.0, 0, 10, h] for h in (10, 8, 5, 2)] + [[50.0, 50, 60, 60]])
    labels = tf.constant([[[0.0, 0, 10, 10, 3], NONE]])
    found = match(prior, labels, upper=0.7, lower=0.3)
    np.testing.assert_array_equal(found, [[0, 0, IGNORED, NEGATIVE, NEGATIVE]])
    boxes, classes = matched(labels, found)
    np.testing.assert_array_equal(classes, [[3, 3, IGNORED, NEGATIVE, NEGATIVE]])
    np.testing.assert_array_equal(boxes[0, 0], [0, 0, 10, 10])


def test_each_object_gets_its_best_anchor():
    prior = tf.constant([[0.0, 0, 10, 10], [0, 0, 2, 10], [30, 30, 40, 40]])
    labels = tf.constant([[[0.0, 0, 10, 9, 0], [0, 0, 1, 10, 1], [80, 80, 90, 90, 2]]])
    found = match(prior, labels, upper=0.7, lower=0.3)
    np.testing.assert_array_equal(found, [[0, 1, NEGATIVE]])  # the third meets no anchor
    without = match(prior, labels, upper=0.7, lower=0.3, best=False)
    np.testing.assert_array_equal(without, [[0, IGNORED, NEGATIVE]])


def test_an_image_without_objects_has_negatives_alone():
    labels = tf.constant([[NONE, NONE]], tf.float32)
    found = match(tf.constant([[0.0, 0, 5, 5]]), labels, upper=0.5, lower=0.5)
    np.testing.assert_array_equal(found, [[NEGATIVE]])


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_matching_is_what_pycocotools_overlaps_say(seed):
    rng = np.random.default_rng(seed)
    prior, truth = random_boxes(rng, 30), random_boxes(rng, 4)
    labels = np.concatenate([truth, np.arange(4)[:, None]], 1)[None].astype("float32")
    found = match(prior, labels, upper=0.6, lower=0.3).numpy()[0]
    overlap = coco_iou(prior, truth)
    best = np.where(overlap.max(0) > 0, overlap.argmax(0), -1)  # an object may meet no anchor
    for i, row in enumerate(overlap):
        if i in best:
            assert best[found[i]] == i
        elif row.max() >= 0.6:
            assert found[i] == row.argmax()
        else:
            assert found[i] == (NEGATIVE if row.max() < 0.3 else IGNORED)


def test_a_sample_is_of_candidates_at_random():
    candidates = tf.constant([[True] * 50 + [False] * 50, [True] * 3 + [False] * 97])
    one, two = (sample(candidates, 10, [0, seed]).numpy() for seed in (1, 2))
    for found in (one, two):
        assert found.sum(1).tolist() == [10, 3] and not (found & ~candidates.numpy()).any()
    assert (one != two).any()
    np.testing.assert_array_equal(one, sample(candidates, 10, [0, 1]))


def test_every_candidate_is_as_likely():
    taken = sum(sample(tf.ones((100, 8), bool), 2, [0, seed]).numpy().sum(0) for seed in range(20))
    assert taken.sum() == 4000 and np.abs(taken - 500).max() < 90


def test_negatives_take_the_place_of_missing_positives():
    classes = np.full((2, 400), NEGATIVE)
    classes[0, :200], classes[1, :30], classes[:, 390:] = 2, 0, IGNORED
    chosen = balanced(tf.constant(classes), 256, 128, [0, 0]).numpy()
    for image, positives in zip((0, 1), (128, 30)):
        assert np.sum(chosen[image] & (classes[image] >= 0)) == positives
        assert np.sum(chosen[image] & (classes[image] == NEGATIVE)) == 256 - positives


def test_the_seed_is_another_for_other_predictions():
    a, b = tf.constant([1.0, 2.0]), tf.constant([1.0, 2.5])
    np.testing.assert_array_equal(seed_of(a), seed_of(a))
    assert (seed_of(a).numpy() != seed_of(b).numpy()).any()
