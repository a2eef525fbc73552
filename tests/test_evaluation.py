"""Evaluation: measures against their formulas, and what it refuses."""

import io
import json

import keras
import numpy as np
import pytest
from rich.console import Console

from app import data as app_data
from app.data import Split
from app.errors import HandgradError
from app.evaluation import evaluate, score


@pytest.fixture(scope="module")
def digits():
    return app_data.load("digits")


def network(shape, classes):
    return keras.Sequential([
        keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(classes),
    ])


def random_case(seed, count=200, classes=7):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, classes)).astype(np.float32)
    labels = rng.integers(classes, size=count).astype(np.int32)
    return logits, labels, [f"class {i}" for i in range(classes)]


@pytest.mark.parametrize("seed", range(5))
def test_measures_equal_their_formulas(seed):
    logits, labels, names = random_case(seed)
    found = score(logits, labels, names)

    exponentials = np.exp(logits.astype(np.float64))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    predicted = logits.argmax(axis=1)
    confusion = np.zeros((7, 7), int)
    for true, guess in zip(labels, predicted):
        confusion[true, guess] += 1
    right = confusion.diagonal()
    precision, recall = right / confusion.sum(axis=0), right / confusion.sum(axis=1)

    np.testing.assert_array_equal(found.confusion, confusion)
    np.testing.assert_array_equal(found.support, np.bincount(labels, minlength=7))
    np.testing.assert_allclose(found.precision, precision, rtol=1e-12)
    np.testing.assert_allclose(found.recall, recall, rtol=1e-12)
    f1 = 2 * right / (confusion.sum(axis=0) + confusion.sum(axis=1))
    np.testing.assert_allclose(found.f1, f1, rtol=1e-12)
    np.testing.assert_allclose(found.probabilities, probabilities, rtol=1e-6)
    assert found.probabilities.dtype == np.float32
    assert found.accuracy == np.mean(predicted == labels)
    assert found.loss == pytest.approx(-np.log(probabilities[range(200), labels]).mean(), rel=1e-12)


def test_a_case_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.array([0, 0, 1, 1, 2, 2])
    found = score(np.log(np.where(np.eye(3)[predicted], 0.8, 0.1)), labels, ["a", "b", "c"])
    np.testing.assert_array_equal(found.confusion, [[2, 1, 0], [0, 1, 1], [0, 0, 1]])
    np.testing.assert_allclose(found.precision, [1, 1 / 2, 1 / 2])
    np.testing.assert_allclose(found.recall, [2 / 3, 1 / 2, 1])
    np.testing.assert_allclose(found.f1, [4 / 5, 1 / 2, 2 / 3])
    assert found.accuracy == 4 / 6
    assert found.loss == pytest.approx(-(4 * np.log(0.8) + 2 * np.log(0.1)) / 6)
    assert str(found) == "accuracy 0.6667, loss 0.9163 nats, 6 images"


def test_very_large_logits_have_a_finite_loss():
    found = score(np.array([[1e4, 0.0], [0.0, 1e4]]), np.array([1, 1]), ["a", "b"])
    assert found.loss == pytest.approx(5e3)


def test_what_the_images_cannot_tell_is_not_a_number():
    """Class b is never predicted, class c has no image: neither is a 0."""
    logits = np.array([[9.0, 0, 0], [9.0, 0, 0], [0, 0, 9.0]])
    found = score(logits, np.array([0, 1, 1]), ["a", "b", "c"])
    a, b, c = found.by_class()
    assert a == {"name": "a", "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3),
                 "images": 1}
    assert b == {"name": "b", "precision": None, "recall": 0.0, "f1": 0.0, "images": 2}
    assert c == {"name": "c", "precision": 0.0, "recall": None, "f1": 0.0, "images": 0}
    assert found.confusion.shape == (3, 3)
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["classes"] == [a, b, c]


def test_plain_values_hold_everything():
    logits, labels, names = random_case(0)
    found = score(logits, labels, names)
    plain = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert plain["images"] == 200
    assert (plain["loss"], plain["accuracy"]) == (found.loss, found.accuracy)
    assert plain["confusion"] == found.confusion.tolist()
    assert [row["name"] for row in plain["classes"]] == names


def test_worst_mistakes_are_the_most_confident_wrong_ones():
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.05, 0.95], [0.3, 0.7]])
    found = score(np.log(probabilities), np.array([0, 0, 0, 0, 1]), ["a", "b"])
    assert found.worst_mistakes(2).tolist() == [3, 2]
    assert found.worst_mistakes(10).tolist() == [3, 2, 1]
    np.testing.assert_allclose(found.confidence[found.worst_mistakes(2)], [0.95, 0.8])


def test_no_mistakes():
    assert score(np.eye(3) * 9, np.arange(3), ["a", "b", "c"]).worst_mistakes(5).size == 0


def test_table_shows_names_as_they_are():
    found = score(np.eye(2) * 9, np.array([0, 0]), ["[red]tick", "b"])
    console = Console(file=io.StringIO(), width=100)
    console.print(found.table())
    shown = console.file.getvalue()
    assert "[red]tick" in shown and "0.5000" in shown
    assert "accuracy 0.5000" in shown


@pytest.mark.parametrize("batch_size", [64, 1000])
def test_evaluate_predicts_every_image_once_in_order(digits, batch_size):
    keras.utils.set_random_seed(0)
    model = network((8, 8, 1), 10)
    found = evaluate(model, digits.test, digits.class_names, batch_size=batch_size)
    logits = model(digits.test.images.astype(np.float32) / 255).numpy()
    expected = score(logits, digits.test.labels, digits.class_names)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    np.testing.assert_array_equal(found.labels, digits.test.labels)


def test_a_model_for_any_size_takes_every_size(digits):
    model = keras.Sequential([
        keras.Input((None, None, 1)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10),
    ])
    assert evaluate(model, digits.test, digits.class_names).labels.size == len(digits.test)


@pytest.mark.parametrize("shape, classes, told", [
    ((28, 28, 1), 10, ("28 x 28 x 1", "Received: 8 x 8 x 1")),
    ((8, 8, 3), 10, ("8 x 8 x 3", "Received: 8 x 8 x 1")),
    ((64,), 10, ("shape 64 ", "Received: 8 x 8 x 1")),
    ((8, 8, 1), 7, ("7 classes", "Received: data of 10 classes")),
])
def test_a_model_for_other_data_is_refused(digits, shape, classes, told):
    with pytest.raises(HandgradError) as error:
        evaluate(network(shape, classes), digits.test, digits.class_names)
    message = str(error.value)
    assert "\n" not in message
    for part in told:
        assert part in message


def test_no_images_is_refused(digits):
    empty = Split(digits.test.images[:0], digits.test.labels[:0])
    with pytest.raises(HandgradError, match="no images"):
        evaluate(network((8, 8, 1), 10), empty, digits.class_names)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_diverged_model_is_refused(value):
    logits, labels, names = random_case(0)
    logits[[3, 17], 2] = value
    with pytest.raises(HandgradError, match="2 of 200 images, first for image 3: .* diverged"):
        score(logits, labels, names)
