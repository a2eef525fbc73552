"""Anchors that follow from the boxes: fitted, kept with the network, and better overlaps."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from app.detection import DETECTORS, detector_of
from app.detection.fitting import box_sides, clusters, extremes
from app.errors import HandgradError
from app.split import Split
from app.tasks import find_task

SHAPE = (96, 128, 3)
FITTED = ("ssd", "retinanet", "yolo-v2", "yolo-v3", "faster-rcnn")


def sides():
    """Boxes of about 16, 50 and 100 pixels, as many of each."""
    rng = np.random.default_rng(0)
    middles = np.repeat([16.0, 50.0, 100.0], 30)[:, None]
    return middles * rng.uniform(0.9, 1.1, (90, 2))


def best_overlaps(detector):
    """Of each box the IoU with the anchor that has the most similar shape."""
    pairs = np.concatenate([np.asarray(p) for p in detector.sizes(SHAPE).values()])
    common = np.minimum(pairs[None], sides()[:, None]).prod(-1)
    return (common / (pairs.prod(-1) + sides().prod(-1)[:, None] - common)).max(1)


@pytest.mark.parametrize("name", FITTED)
def test_fitted_anchors_overlap_more(name):
    before, after = (best_overlaps(detector)
                     for detector in (DETECTORS[name], DETECTORS[name].fitted(sides(), SHAPE)))
    assert after.mean() > before.mean()
    assert after.min() > (0.7 if name.startswith(("yolo", "faster")) else 0.45)


@pytest.mark.parametrize("name", FITTED)
def test_a_network_keeps_its_detector(name, tmp_path):
    fitted = DETECTORS[name].fitted(sides(), SHAPE)
    assert fitted != DETECTORS[name]
    network = fitted.build((64, 64, 1), 2, width=0.1)
    network.save(tmp_path / "it.keras")
    loaded = keras.models.load_model(tmp_path / "it.keras")
    assert detector_of(network) == fitted
    assert _listed(detector_of(loaded)) == _listed(fitted)
    np.testing.assert_array_equal(detector_of(loaded).anchors(SHAPE), fitted.anchors(SHAPE))


def _listed(detector):
    """A file of Keras has lists where there were tuples."""
    return keras.tree.map_structure(
        str, {name: np.asarray(value).tolist() if isinstance(value, (list, tuple)) and name !=
              "priors" else keras.tree.flatten(value) for name, value in vars(detector).items()})


def test_the_task_fits_to_the_training_part():
    labels = np.full((2, 3, 5), -1, np.float32)
    labels[0, 0], labels[1, 0] = (0, 0, 10, 10, 0), (4, 4, 44, 44, 1)
    part = Split(np.zeros((2, 64, 64, 1), np.uint8), labels)
    data = SimpleNamespace(train=part, image_shape=(64, 64, 1), class_names=("a", "b"))
    network = find_task("detect").build("ssd", data, width=0.1)
    assert detector_of(network) == DETECTORS["ssd"].fitted(box_sides(labels), (64, 64, 1))


def test_a_training_part_without_boxes_is_said():
    part = Split(np.zeros((2, 64, 64, 1), np.uint8), np.full((2, 3, 5), -1, np.float32))
    data = SimpleNamespace(train=part, image_shape=(64, 64, 1), class_names=("a", "b"), name="no")
    with pytest.raises(HandgradError, match="no has no box among its training images"):
        find_task("detect").build("ssd", data)


def test_clusters_are_typical_values():
    np.testing.assert_allclose(clusters(sides(), 3).mean(1), (16, 50, 100), rtol=0.03)
    assert clusters(np.ones((5, 2)), 3) is None  # one shape makes no three


def test_extremes_and_sides():
    labels = np.array([[[0, 0, 4, 9, 1], [0, 0, 0, 0, -1]]], np.float32)
    np.testing.assert_array_equal(box_sides(labels), [(4, 9)])
    np.testing.assert_array_equal(extremes(np.array([(4.0, 9.0)])), (6, 6))


@pytest.mark.parametrize("name", FITTED)
def test_too_few_boxes_leave_a_detector_that_works(name):
    detector = DETECTORS[name].fitted(np.array([(10.0, 10.0)]), SHAPE)
    assert np.isfinite(detector.anchors(SHAPE)).all()
