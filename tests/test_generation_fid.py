"""The Fréchet distance beside closed forms, and a classifier's view of images."""

import keras
import numpy as np
import pytest
import scipy.linalg

from app.data import batches
from app.generation import scoring
from app.generation.fid import Observer, frechet_distance, noise_like
from app.split import Split
from custom_layers import Dense, Flatten


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_set_and_itself_are_at_no_distance(rng):
    a = rng.normal(size=(40, 6))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    # Fewer images than features: a covariance without full rank.
    assert frechet_distance(a[:4], a[:4]) == pytest.approx(0, abs=1e-6)


def test_a_shift_is_its_squared_length(rng):
    a = rng.normal(size=(40, 3))
    assert frechet_distance(a, a + [1, 2, 3]) == pytest.approx(14)


def test_along_one_axis_it_is_the_difference_of_the_deviations(rng):
    a = rng.normal(size=(40, 1))
    expected = (a.mean() - 3 * a.mean()) ** 2 + (2 * a.std(ddof=1)) ** 2
    assert frechet_distance(a, 3 * a) == pytest.approx(expected)


def test_the_formula_with_the_root_of_the_product(rng):
    a, b = (rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5)) for _ in range(2))
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected)
    assert frechet_distance(b, a) == pytest.approx(expected)


@pytest.mark.parametrize("b", [np.zeros((3, 4)), np.zeros((1, 5)), np.zeros((3, 5, 1))])
def test_what_is_no_set_of_features(b):
    with pytest.raises(ValueError, match=r"at least two images.*b.shape=\("):
        frechet_distance(np.zeros((3, 5)), b)


def test_a_classifier_s_view(rng):
    classifier = keras.Sequential([
        keras.Input((2, 1, 1)), Flatten(), Dense(2, kernel_initializer="identity", name="hidden"),
        Dense(3, name="logits")])
    weights = np.array([[9.0, 0, 0], [0, 9.0, 0]])
    classifier.get_layer("logits").set_weights([weights, np.zeros(3)])
    real = rng.random((50, 2, 1, 1), np.float32)
    drawn = np.tile(np.float32([[[1]], [[0]]]), (4, 1, 1, 1))
    drawn[3] = drawn[3, ::-1]
    observer = Observer(classifier, real)
    found = observer.quality(drawn)
    assert observer.quality(real).fid == pytest.approx(0, abs=1e-6)
    assert found.fid == pytest.approx(frechet_distance(drawn[..., 0, 0], real[..., 0, 0]))
    np.testing.assert_allclose(found.coverage, [3 / 4, 1 / 4, 0])
    assert found.confidence == pytest.approx(np.exp(9) / (np.exp(9) + 2))
    some = observer.quality(drawn, compared=2)  # the distance alone is of some
    assert some.fid == observer.quality(drawn[:2]).fid
    np.testing.assert_array_equal(some.coverage, found.coverage)


def test_the_classifier_learns_all_classes_of_data_that_are_sorted(monkeypatch):
    monkeypatch.setattr(scoring, "MOST", 96)
    monkeypatch.setattr(scoring, "SEEN", 96)
    labels = np.repeat(np.arange(3, dtype=np.int32), 100)
    images = np.random.default_rng(0).integers(0, 255, (300, 8, 8, 1), np.uint8)
    seen = []

    def spied(part, *arguments, **more):
        seen.append(part)
        return batches(part, *arguments, **more)

    monkeypatch.setattr(scoring, "batches", spied)
    assert scoring.classifier(Split(images, labels)).output_shape == (None, 3)
    assert len(seen[0]) == 96 and set(seen[0].labels) == {0, 1, 2}


def test_noise_has_the_pixels_of_the_images_and_none_of_their_places():
    images = np.zeros((50, 4, 4, 1), np.float32)
    images[:, :2] = 0.25
    noise = noise_like(images)
    assert set(np.unique(noise)) == {0, 0.25} and noise.shape == images.shape
    assert (np.abs(noise.mean(0) - 0.125) < 0.06).all()
