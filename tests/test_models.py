"""Networks: exact sizes, gradients, limits; what a perceptron can and cannot learn."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from app.errors import UsageError
from app.models import MODELS, build
from app.models.perceptron import gate, xor
from app.results import trainable_parameters
from custom_layers import SoftmaxCrossEntropy

PARAMETERS = {"perceptron": 7_850, "mlp": 45_360, "simpleconvnet": 433_890, "lenet5": 61_706}
BITS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "float32")
# The smallest square images that a network takes.
SMALLEST = {"simpleconvnet": 6, "deepconvnet": 4, "patternnet": 4}


def images(*shape):
    return np.random.default_rng(0).random(shape, "float32")


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_exact(name):
    assert trainable_parameters(build(name, (28, 28, 1), 10)) == PARAMETERS[name]


def test_lenet5_takes_28_and_32_pixels_alike():
    assert trainable_parameters(build("lenet5", (32, 32, 1), 10)) == PARAMETERS["lenet5"]
    assert trainable_parameters(build("lenet5", (8, 8, 1), 10)) == PARAMETERS["lenet5"]


@pytest.mark.parametrize("shape", [(28, 28, 1), (13, 17, 3)])
@pytest.mark.parametrize("name", MODELS)
def test_every_weight_gets_a_gradient(name, shape):
    model = build(name, shape, 4, statistics=([0.5] * shape[2], [0.3] * shape[2]))
    loss, labels = SoftmaxCrossEntropy(), np.arange(16) % 4
    with tf.GradientTape() as tape:
        value = loss(labels, model(images(16, *shape), training=True))
    gradients = tape.gradient(value, model.trainable_weights)
    for weight, gradient in zip(model.trainable_weights, gradients):
        assert gradient is not None and np.isfinite(gradient).all(), weight.path
        assert np.abs(gradient).max() > 0, weight.path


@pytest.mark.parametrize("name", SMALLEST)
def test_too_small_images_are_an_error_with_the_arithmetic(name):
    least = SMALLEST[name]
    assert build(name, (least, least + 3, 1), 2).output_shape == (None, 2)
    with pytest.raises(UsageError) as error:
        build(name, (least + 3, least - 1, 1), 2)
    message = str(error.value)
    assert f"at least {least}x{least} pixels" in message
    assert f"Received: {least + 3}x{least - 1}" in message
    assert f"--image-size {least}" in message and "(" in message


def test_unknown_model_names_the_closest():
    with pytest.raises(UsageError, match="Unknown model 'lenet'. Did you mean 'lenet5'?"):
        build("lenet", (28, 28, 1), 10)


@pytest.mark.parametrize("name", MODELS)
def test_the_normalisation_is_inside(name):
    """Images in [0, 1] go in; the network behind sees mean 0 and deviation 1."""
    mean, std = (0.2, 0.4, 0.6), (0.1, 0.2, 0.3)
    keras.utils.set_random_seed(0)
    inside = build(name, (12, 12, 3), 3, statistics=(mean, std))
    keras.utils.set_random_seed(0)
    plain = build(name, (12, 12, 3), 3)
    x = images(2, 12, 12, 3)
    np.testing.assert_allclose(inside(x), plain((x - mean) / std), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_the_gradient_of_weight_decay_is_lambda_w(name):
    model = build(name, (8, 8, 1), 3, weight_decay=0.02)
    with tf.GradientTape() as tape:
        penalty = tf.add_n(model.losses)
    gradients = tape.gradient(penalty, model.trainable_weights)
    decayed = 0
    for weight, gradient in zip(model.trainable_weights, gradients):
        if weight.name == "bias":
            assert gradient is None
        else:
            np.testing.assert_allclose(gradient, 0.02 * weight.numpy(), rtol=1e-5, atol=1e-9)
            decayed += 1
    assert decayed == len(model.trainable_weights) / 2
    assert not build(name, (8, 8, 1), 3).losses


def test_patternnet_branches_with_skip():
    chain = build("patternnet", (8, 8, 1), 3)
    branched = build("patternnet", (8, 8, 1), 3, skip=True)
    inputs = {layer.name: layer.input for layer in branched.layers}
    assert not isinstance(branched, keras.Sequential)
    assert len(inputs["add1"]) == len(inputs["add2"]) == 2
    assert trainable_parameters(branched) - trainable_parameters(chain) == (
        (1 * 16 + 16) + (16 * 32 + 32)
    )


def test_patternnet_is_as_deep_as_it_is_asked_to_be():
    model = build("patternnet", (16, 16, 1), 3, convolutions=2, stages=3, hidden=2, pool=False,
                  dropout=0.5)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["InputLayer"] + 6 * ["Conv2D"] + ["Flatten"] + 2 * ["Dense", "Dropout"] + [
        "Dense"]


@pytest.mark.parametrize("name, values", [
    ("AND", [0, 0, 0, 1]), ("NAND", [1, 1, 1, 0]), ("OR", [0, 1, 1, 1]),
])
def test_gates(name, values):
    np.testing.assert_array_equal(gate(name)(BITS)[:, 0], values)


def test_xor_takes_two_layers():
    np.testing.assert_array_equal(xor()(BITS)[:, 0], [0, 1, 1, 0])


def test_unknown_gate():
    with pytest.raises(UsageError, match="Unknown gate 'XR'. Did you mean 'OR'"):
        gate("XR")


@pytest.mark.parametrize("hidden, right", [((), False), ((8,), True)])
def test_one_layer_cannot_learn_xor_and_two_can(hidden, right):
    model = build("mlp", (1, 2, 1), 2, hidden=hidden)
    optimizer, loss = keras.optimizers.Adam(0.05), SoftmaxCrossEntropy()
    labels = np.array([0, 1, 1, 0])

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            value = loss(labels, model(x))
        optimizer.apply_gradients(zip(tape.gradient(value, model.trainable_weights),
                                      model.trainable_weights))

    optimizer.build(model.trainable_weights)
    for _ in range(300):
        step(BITS.reshape(4, 1, 2, 1))
    predicted = np.argmax(model(BITS.reshape(4, 1, 2, 1)), axis=1)
    assert ((predicted == labels).mean() == 1) == right
