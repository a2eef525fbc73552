"""Classical baselines: on the same parts of the data, chosen on the validation part."""

import numpy as np
import pytest

from app import data as data_sets
from app.baselines import CLASSIFIERS, FEATURES, REDUCTIONS, baseline, gradients, pixels


@pytest.fixture(scope="module")
def digits():
    return data_sets.load("digits")


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_digits_are_recognised(digits, features, classifier):
    score = baseline(digits, FEATURES[features], None, classifier, name=features)
    assert score.test_accuracy > (0.97 if features == "pixels" else 0.8)
    assert score.features == features and score.seconds > 0


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_reductions_keep_what_tells_digits_apart(digits, reduction):
    score = baseline(digits, pixels, reduction, "knn", limit=400)
    assert score.values < 64 and score.test_accuracy > 0.85
    assert score.values == {"lda": 9}.get(reduction, score.values)


def test_the_limit_is_of_training_images(digits):
    few, many = (baseline(digits, pixels, None, "knn", limit=n) for n in (30, 600))
    assert few.test_accuracy < many.test_accuracy


def test_gradients_of_an_edge():
    """A vertical edge has horizontal gradients: the first of nine directions, in each cell."""
    image = np.zeros((1, 14, 14, 1), np.uint8)
    image[:, :, 7:] = 255
    found = gradients(image)
    assert found.shape == (1, 6 * 6 * 2 * 2 * 9)
    directions = found.reshape(-1, 9).sum(0)
    assert directions[0] > 0 and not directions[1:].any()


def test_the_features_of_a_run_stand_beside(command):
    assert command("train", "lenet5", "--epochs", "3", "--name", "net")[0] == 0
    code, value, _ = command("baseline", "--features", "pixels", "--classifier", "knn",
                             "--reduction", "none", "--run", "net")
    assert code == 0
    names = [row["features"] for row in value["baselines"]]
    assert names == ["pixels", "learned by net"] and value["baselines"][1]["values"] == 84
    assert value["network"] > 0.8 and value["baselines"][1]["test_accuracy"] > 0.9


@pytest.mark.parametrize("arguments, message", [
    (("--features", "hogg"), "Unknown feature 'hogg'. Did you mean 'hog'?"),
    (("--reduction", "pac"), "Unknown reduction 'pac'. Did you mean 'pca'?"),
    (("--classifier", "svn"), "Unknown classifier 'svn'. Did you mean 'svm'?"),
    (("--limit", "0"), "--limit must be at least 1. Received: 0"),
    (("--run", "nowhere"), "There is no run 'nowhere'"),
])
def test_wrong_requests(command, arguments, message):
    code, value, err = command("baseline", *arguments)
    assert (code, value) == (2, None) and message in err and err.count("\n") == 1
