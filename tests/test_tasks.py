"""The loss and the activation that belong to a task."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers.examples import spread
from custom_layers.losses import HalfSquares, SigmoidCrossEntropy, SoftmaxCrossEntropy
from custom_layers.tasks import TASKS, activation_for, loss_for


@pytest.mark.parametrize(("task", "loss", "activation"), [
    ("binary", SigmoidCrossEntropy, "sigmoid"),
    ("multi-label", SigmoidCrossEntropy, "sigmoid"),
    ("multi-class", SoftmaxCrossEntropy, "softmax"),
    ("regression", HalfSquares, "linear"),
])
def test_each_task_has_its_loss(task, loss, activation):
    assert type(loss_for(task)) is loss
    assert loss_for(task, reduction="sum").reduction == "sum"
    assert activation_for(task) == activation


@pytest.mark.parametrize("task", TASKS)
def test_loss_and_activation_belong_together(task):
    """The gradient by the outputs is (activation - target): the two cancel each other."""
    z = tf.constant(spread((4, 3), dtype="float32"))
    t = np.eye(3, dtype="float32")[[0, 2, 1, 1]]
    with tf.GradientTape() as tape:
        tape.watch(z)
        loss = loss_for(task, reduction="sum")(t, z)
    y = keras.activations.get(activation_for(task))(z)
    outputs = 3 if TASKS[task][0] is SigmoidCrossEntropy else 1  # it takes the mean over them
    np.testing.assert_allclose(tape.gradient(loss, z) * outputs, y - t, atol=1e-6)


def test_another_task_is_refused():
    for ask in (loss_for, activation_for):
        with pytest.raises(ValueError, match="one of binary, multi-label.*Received: task='ranks'"):
            ask("ranks")
