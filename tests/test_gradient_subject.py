"""What the gradient checker takes: functions, layers, losses, models, and their inputs."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from planted_layers import layer, normal

from custom_layers.gradient_check import check_gradients


def test_integers_and_skipped_inputs_are_listed():
    report = check_gradients(
        lambda x, seed, labels: x * tf.cast(seed, x.dtype) + tf.stop_gradient(labels),
        [normal(3), np.array(2), normal(3)], skip=["labels"], modes=("eager",),
    )
    assert report.ok, report
    assert report.skipped == {"seed": "int64", "labels": "held constant"}
    assert report.tensors == ["x"]
    assert "Not differentiated by: seed (int64)" in str(report)


def test_argument_that_is_not_given():
    def affine(x, w, b):
        return x @ w if b is None else x @ w + b

    report = check_gradients(affine, [normal(2, 3), normal(3, 4), None])
    assert report.ok and report.skipped == {"b": "not given"}, report


@pytest.mark.parametrize(
    "build, shape",
    [
        (lambda: keras.layers.Dense(3, activation="tanh"), (4, 5)),
        (lambda: keras.layers.Dense(3, dtype="mixed_bfloat16"), (4, 5)),
        (lambda: keras.layers.Conv2D(3, 3, strides=2, padding="same"), (2, 5, 5, 2)),
        (lambda: keras.layers.MaxPooling2D(), (2, 4, 4, 2)),
        (lambda: keras.layers.BatchNormalization(), (6, 3)),
        (lambda: keras.layers.Dropout(0.4), (4, 5)),
        (lambda: keras.layers.LSTM(3), (2, 3, 4)),
    ],
)
def test_keras_layers_pass(build, shape):
    report = check_gradients(build(), normal(*shape).astype("float32"))
    assert report.ok, report
    assert report.error <= 1e-7


@pytest.mark.parametrize("training", [True, False, None])
def test_training_argument_reaches_the_layer(training):
    batch_norm = keras.layers.BatchNormalization(dtype="float64")
    batch_norm(normal(6, 3))
    batch_norm.moving_mean.assign([100.0, 200, 300])
    calls = []
    batch_norm.call = _recording(batch_norm.call, calls)
    assert check_gradients(batch_norm, normal(6, 3), training=training, modes=("eager",)).ok
    assert set(calls) == {training or False}


def _recording(call, calls):
    def recorded(inputs, training=None, mask=None):
        calls.append(training or False)
        return call(inputs, training=training, mask=mask)

    return recorded


def test_inputs_of_several_kinds():
    x, y = normal(2, 3), normal(2, 3, seed=1)
    report = check_gradients(keras.layers.Concatenate(), [x, y], modes=("eager",))
    assert report.ok and report.tensors == ["inputs[0]", "inputs[1]"], report
    attention = keras.layers.MultiHeadAttention(2, 3)
    report = check_gradients(attention, [normal(2, 3, 4), normal(2, 3, 4)], modes=("eager",))
    assert report.ok and report.tensors[:2] == ["query", "value"], report


def _model():
    image, extra = keras.Input((6, 6, 1), name="image"), keras.Input((3,), name="extra")
    y = keras.layers.Conv2D(2, 3)(image)
    y = keras.layers.BatchNormalization()(y)
    y = keras.layers.MaxPooling2D()(keras.layers.ReLU()(y))
    y = keras.layers.Concatenate()([keras.layers.Flatten()(y), extra])
    y = keras.layers.Dense(4)(keras.layers.Dropout(0.3)(y))
    return keras.Model([image, extra], y)


@pytest.mark.parametrize("as_dict", [False, True])
def test_model_with_two_inputs(as_dict):
    model, image, extra = _model(), normal(3, 6, 6, 1), normal(3, 3)
    inputs = {"image": image, "extra": extra} if as_dict else [image, extra]
    before = [v.numpy() for v in model.variables]
    report = check_gradients(model, inputs)
    assert report.ok, report
    assert len(report.tensors) == 2 + len(model.trainable_variables)
    assert all(np.array_equal(v.numpy(), b) for v, b in zip(model.variables, before))


def test_layer_and_state_are_left_as_they_were():
    target, x = layer()
    target(x)
    before = [v.numpy() for v in target.variables]
    assert check_gradients(target, x).ok
    assert all(np.array_equal(v.numpy(), b) for v, b in zip(target.variables, before))
    assert keras.config.floatx() == "float32"
    assert keras.config.dtype_policy().name == "float32"


def test_float32_layer_keeps_its_weights_in_the_copy():
    class NanUnlessNearFive(keras.layers.Dense):
        def call(self, x):
            near = tf.reduce_mean(tf.convert_to_tensor(self.kernel)) > 4
            return super().call(x) / tf.cast(near, x.dtype)

    target = NanUnlessNearFive(3)
    target.build((4, 5))
    target.kernel.assign(tf.fill([5, 3], 5.0))
    assert check_gradients(target, normal(4, 5), modes=("eager",)).ok


def test_layer_that_cannot_be_rebuilt_is_an_error():
    class Closed(keras.layers.Layer):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def call(self, x):
            return self.function(x)

    with pytest.raises(ValueError, match="cannot be rebuilt.*dtype=\"float64\""):
        check_gradients(Closed(object()), normal(3))


@pytest.mark.parametrize(
    "loss, y_true",
    [
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), np.array([0, 4, 2, 2])),
        (keras.losses.CategoricalCrossentropy(from_logits=True), np.eye(5)[[0, 4, 2, 2]]),
        (keras.losses.BinaryCrossentropy(from_logits=True), np.eye(5)[[0, 4, 2, 2]]),
        (keras.losses.MeanSquaredError(reduction=None), normal(4, 5)),
    ],
)
def test_losses(loss, y_true):
    report = check_gradients(loss, [y_true, normal(4, 5, seed=1)])
    assert report.ok, report
    assert report.tensors == ["y_pred"] and list(report.skipped) == ["y_true"]
    assert loss.dtype == "float32"


@pytest.mark.parametrize(
    "target, inputs, received",
    [
        (tf.math.abs, np.array([1 + 2j]), "x of dtype complex128"),
        (tf.add, [normal(3), tf.complex(1.0, 2.0)], "y of dtype complex64"),
        (tf.math.abs, [np.array([1.0, 2j])], "x of dtype complex128"),
        (tf.signal.rfft, normal(4), "output 0 of dtype complex128"),
    ],
)
def test_complex_tensors_are_refused(target, inputs, received):
    with pytest.raises(TypeError, match=f"two real tensors.*Received: {received}"):
        check_gradients(target, inputs)


def test_complex_input_is_refused_before_anything_is_computed():
    calls = []
    with pytest.raises(TypeError, match="Received: x of dtype complex64"):
        check_gradients(lambda x: calls.append(x), tf.complex([1.0], [2.0]))
    assert not calls


def test_complex_weights_are_refused():
    class Wave(keras.layers.Layer):
        def build(self, shape):
            self.phase = self.add_weight(shape=(3,), dtype="complex64", name="phase")

        def call(self, x):
            return tf.math.real(tf.cast(x, "complex64") * tf.convert_to_tensor(self.phase))

    with pytest.raises(TypeError, match="Received: phase of dtype complex64"):
        check_gradients(Wave(), normal(2, 3))


def test_complex_numbers_inside_and_held_constant_are_checked():
    report = check_gradients(lambda x: tf.abs(tf.signal.rfft(x)), normal(5))
    assert report.ok, report
    wave = np.array([1 + 2j, 3, 4j])
    report = check_gradients(
        lambda x, wave: x * tf.cast(tf.abs(wave), x.dtype), [normal(3), wave], skip=["wave"]
    )
    assert report.ok and report.skipped == {"wave": "complex128"}, report


def test_forward_that_raises_is_raised_on():
    with pytest.raises(tf.errors.InvalidArgumentError):
        check_gradients(tf.matmul, [normal(2, 3), normal(2, 3)])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((3, normal(3)), "Received: target=3"),
        ((tf.tanh, normal(3), {"modes": ("eagre",)}), r"eager, graph, xla. Received: .*eagre"),
        ((tf.tanh, normal(3), {"skip": ("y",)}), "`skip` must name inputs: x. Received"),
        ((tf.identity, np.arange(3)), "nothing to differentiate"),
        ((tf.tanh, np.zeros((0, 3))), r"Received: x of shape \(0, 3\)"),
    ],
)
def test_wrong_arguments(arguments, message):
    target, inputs, options = (*arguments, {})[:3]
    with pytest.raises((TypeError, ValueError), match=message):
        check_gradients(target, inputs, **options)
