"""What losses make of targets: shapes, dtypes, smoothing, ignored labels, sample weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers.examples import spread
from custom_layers.likelihood import CrossEntropy, NegativeLogLikelihood
from custom_layers.losses import SoftmaxCrossEntropy
from custom_layers.targets import class_targets, elementwise_targets, smooth

LABELS = np.array([0, 4, 2, 2, 1, 3])


def probabilities(shape=(6, 5)):
    e = np.exp(spread(shape))
    return (e / e.sum(-1, keepdims=True)).astype("float32")


def test_smooth():
    one_hot = np.eye(5)[LABELS]
    expected = np.where(one_hot == 1, 0.9 + 0.1 / 5, 0.1 / 5)
    np.testing.assert_allclose(smooth(tf.constant(one_hot), 0.1, 5), expected)
    np.testing.assert_allclose(smooth(tf.constant(LABELS), 0.1, 5), expected, rtol=1e-6)


def test_smoothed_loss_is_that_of_keras():
    y, one_hot = probabilities(), np.eye(5, dtype="float32")[LABELS]
    stock = keras.losses.CategoricalCrossentropy(label_smoothing=0.2)(one_hot, y)
    ours = CrossEntropy(label_smoothing=0.2)
    np.testing.assert_allclose(ours(one_hot, y), stock, rtol=1e-5)
    np.testing.assert_allclose(ours(LABELS, y), stock, rtol=1e-5)


@pytest.mark.parametrize("ignored", [-1, 2, 255])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize(("reduction", "jit"), [
    ("sum_over_batch_size", None), ("sum_over_batch_size", False), ("sum_over_batch_size", True),
    ("sum", None), ("none", None), ("mean_with_sample_weight", False),
])
def test_ignored_labels_are_those_of_keras(ignored, weighted, reduction, jit):
    """Loss and gradient, of samples and of pixels."""
    y = tf.constant(probabilities((2, 3, 4, 5)))
    labels = np.random.default_rng(0).integers(0, 5, (2, 3, 4))
    labels[0, :2, 1:] = ignored
    weights = np.abs(spread((2, 3, 4))).astype("float32") if weighted else None
    ours = CrossEntropy(ignore_class=ignored, reduction=reduction)
    stock = keras.losses.SparseCategoricalCrossentropy(ignore_class=ignored, reduction=reduction)

    def run(y, loss):
        with tf.GradientTape() as tape:
            tape.watch(y)
            value = loss(labels, y, weights)
        return value, tape.gradient(value, y)

    a, b = (tf.function(run, jit_compile=jit)(y, loss) if jit is not None else run(y, loss)
            for loss in (ours, stock))
    np.testing.assert_allclose(a[0], b[0], rtol=1e-4, atol=1e-6)
    # Keras divides y by its sum, so that its gradient differs by a constant a pixel.
    da, db = (t - np.sum(t * np.array(y), -1, keepdims=True) for t in (a[1], b[1]))
    np.testing.assert_allclose(da, db, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(np.array(a[1])[labels == ignored], 0)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "none"])
@pytest.mark.parametrize("ignored", [None, -1, 2])
def test_weights_of_classes_are_sample_weights_of_keras(ignored, reduction):
    """Loss and gradient, in a graph; pixels that are ignored weigh nothing and do not count."""
    logits = tf.constant(spread((2, 3, 4, 5)), tf.float32)
    labels = np.random.default_rng(0).integers(0, 5, (2, 3, 4))
    if ignored == -1:
        labels[0, :2, 1:] = -1
    weights = (0.5, 1.0, 3.0, 0.0, 2.0)
    ours = SoftmaxCrossEntropy(ignore_class=ignored, class_weights=weights, reduction=reduction)
    stock = keras.losses.SparseCategoricalCrossentropy(True, ignore_class=ignored,
                                                       reduction=reduction)

    @tf.function
    def run(loss, sample_weight):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(labels, logits, sample_weight)
        return value, tape.gradient(value, logits)

    a, b = run(ours, None), run(stock, tf.gather(weights, np.maximum(labels, 0)))
    for mine, theirs in zip(a, b):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_weights_of_classes_are_one_a_class_and_of_labels():
    loss = SoftmaxCrossEntropy(class_weights=(1, 2, 3))
    with pytest.raises(ValueError, match="5 numbers, one a class. Received: 3"):
        loss(LABELS, probabilities())
    with pytest.raises(ValueError, match="`class_weights` needs integer labels"):
        loss(np.eye(5)[LABELS], probabilities())


def test_nothing_is_left_where_all_is_ignored():
    loss = CrossEntropy(ignore_class=-1)
    assert loss(np.full(6, -1), probabilities()) == 0


def test_ignored_and_smoothed_together():
    y, labels = probabilities(), np.where(LABELS == 2, -1, LABELS)
    some = CrossEntropy(label_smoothing=0.1, ignore_class=-1)(labels, y)
    kept = CrossEntropy(label_smoothing=0.1)(LABELS[LABELS != 2], y[LABELS != 2])
    np.testing.assert_allclose(some, kept, rtol=1e-6)


@pytest.mark.parametrize("shape", [(6,), (6, 1)], ids=str)
def test_labels_in_both_shapes(shape):
    y = probabilities()
    expected = keras.losses.SparseCategoricalCrossentropy()(LABELS, y)
    for dtype in ("uint8", "int64", "float32"):
        np.testing.assert_allclose(CrossEntropy()(LABELS.reshape(shape).astype(dtype), y),
                                   expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(6, 4), (7,), (6, 5, 1), (6, 2, 5), ()], ids=str)
def test_class_targets_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"Received: y_true.shape=.*y_pred.shape=\(6, 5\)"):
        class_targets(tf.zeros(shape), tf.zeros((6, 5)))


def test_elementwise_targets():
    outputs = tf.zeros((6, 1))
    for shape in [(6,), (6, 1), (6, 1, 1)]:
        targets = elementwise_targets(tf.zeros(shape, tf.int32), outputs)
        assert targets.shape == (6, 1) and targets.dtype == tf.float32
    for shape in [(5,), (6, 2), (1, 6), ()]:
        with pytest.raises(ValueError, match="the shape of the outputs. Received: y_true.shape"):
            elementwise_targets(tf.zeros(shape), outputs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label_smoothing": 1}, r"in \[0, 1\). Received: label_smoothing=1"),
        ({"label_smoothing": -0.1}, "Received: label_smoothing=-0.1"),
        ({"ignore_class": 1.5}, "an integer or None. Received: ignore_class=1.5"),
        ({"delta": -1}, "at least 0. Received: delta=-1"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        CrossEntropy(**arguments)


def test_ignoring_needs_labels():
    with pytest.raises(ValueError, match="needs integer labels. Received: y_true.shape"):
        CrossEntropy(ignore_class=-1)(np.eye(5)[LABELS], probabilities())


@pytest.mark.parametrize("loss", [
    CrossEntropy(label_smoothing=0.1, ignore_class=255, delta=1e-5, reduction="sum", name="it"),
    NegativeLogLikelihood(from_logs=True, label_smoothing=0.1),
    SoftmaxCrossEntropy(class_weights=(0.5, 2)),
], ids=lambda loss: type(loss).__name__)
def test_config_brings_the_loss_back(loss):
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss) and again.get_config() == loss.get_config()
