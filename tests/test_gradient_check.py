"""The gradient checker: it catches planted bugs, and raises no alarm where all is right."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from planted_bugs import BUGS, relu
from planted_layers import dense, layer, max_pooling, normal
from random_functions import random_function

from custom_layers.finite_differences import slope
from custom_layers.gradient_check import check_gradients

ALL_BUGS = [(build, bug) for build, bugs in BUGS.items() for bug in bugs]


def _named(value):
    return getattr(value, "__name__", value)


def test_there_are_enough_bugs():
    assert len(ALL_BUGS) >= 35


@pytest.mark.parametrize("build", BUGS, ids=_named)
def test_right_op_passes(build):
    report = check_gradients(*build())
    assert report.ok, report
    assert report.error <= 1e-8
    assert set(report.errors) == {"eager", "graph", "xla"}


@pytest.mark.parametrize("build, bug", ALL_BUGS, ids=_named)
def test_planted_bug_is_caught(build, bug):
    report = check_gradients(*build(bug), modes=("eager", "graph"))
    found = {(failure.kind, failure.tensor) for failure in report.failures}
    assert not report.ok
    assert BUGS[build][bug] in found, report


def test_no_false_alarm_in_1000_random_cases():
    alarms = []
    for seed in range(1000):
        function, inputs = random_function(seed)
        report = check_gradients(
            function, inputs, modes=("eager",), directions=1, elements=8, seed=seed
        )
        if not report.ok:
            alarms.append((seed, str(report)))
    assert not alarms, f"{len(alarms)} false alarms, the first: {alarms[0]}"


@pytest.mark.parametrize("seed", range(4))
def test_no_false_alarm_in_graphs_and_xla(seed):
    function, inputs = random_function(seed)
    report = check_gradients(function, inputs)
    assert report.ok, report


@pytest.mark.parametrize(
    "bug, causes",
    [
        ("sign", ["sign is flipped"]),
        ("factor 2", ["factor 2"]),
        ("averaged over the batch", ["divided by 3", "averaged"]),
        ("transposed", ["axes 0 and 1 are swapped"]),
        ("exchanged", ["it is the gradient of w"]),
        ("one weight wrong", ["this element only"]),
        ("last row zero", ["only at index 2 of axis 0"]),
        ("wrong for negative inputs", ["only where the tensor is negative"]),
        ("wrong for large inputs", ["only where the tensor is large"]),
        ("zero", ["gradient is zero"]),
        ("none", ["returns None"]),
        ("dy ignored", ["upstream gradient is ignored"]),
        ("wrong shape", ["expected shape (3, 3), got (1, 3, 3)"]),
        ("wrong dtype", ["expected dtype float64, got float32"]),
        ("raises", ["RuntimeError: out of ideas"]),
    ],
)
def test_report_says_what_is_wrong(bug, causes):
    report = check_gradients(*dense(bug), modes=("eager",))
    for cause in causes:
        assert cause in str(report)


def test_failure_names_element_and_numbers():
    report = check_gradients(*dense("one weight wrong"), modes=("eager",))
    (failure,) = report.failures
    assert (failure.tensor, failure.index, failure.mode) == ("w", (1, 1), "eager")
    assert failure.ratio == pytest.approx(2)
    assert f"analytic {failure.analytic:.10g}, numeric {failure.numeric:.10g}" in str(report)
    with pytest.raises(AssertionError, match=r"w \[eager\]: wrong gradient at \(1, 1\)"):
        report.raise_if_failed()


def test_mode_that_is_wrong_is_named():
    report = check_gradients(*dense("wrong in graphs"))
    assert {failure.mode for failure in report.failures} == {"graph", "xla"}
    assert report.errors["eager"] <= 1e-8 < 1 < report.errors["graph"]
    assert "w [graph xla]: wrong gradient" in str(report)


def test_one_wrong_element_of_many_is_found():
    @tf.custom_gradient
    def square(x):
        wrong = tf.tensor_scatter_nd_update(tf.ones_like(x), [[123, 45]], [1.01])
        return x * x, lambda dy: 2 * x * dy * wrong

    report = check_gradients(square, normal(200, 100), modes=("eager",), elements=20)
    (failure,) = report.failures
    assert failure.index == (123, 45)
    assert failure.ratio == pytest.approx(1.01)


def test_kinks_are_left_out_and_counted():
    op, x = relu()
    x[0, :3] = 0
    report = check_gradients(op, x)
    assert report.ok, report
    assert report.kinks == 3
    assert "kinks or jumps: 3" in str(report)


def test_ties_are_kinks():
    op, x = max_pooling()
    x[0, 0] = x[0, 1]
    report = check_gradients(op, x)
    assert report.ok, report
    assert report.kinks == 2


def test_too_many_kinks_are_a_failure():
    report = check_gradients(relu()[0], np.zeros((4, 5)))
    assert [failure.kind for failure in report.failures] == ["kinks"]
    assert "20 of 20" in str(report)


def test_kinks_in_a_large_tensor_leave_sound_directions():
    op, _ = relu()
    x = normal(50, 50)
    x.flat[:3] = 0
    report = check_gradients(op, x, modes=("eager",), elements=20, directions=1)
    assert report.ok, report
    assert report.kinks >= 3


@pytest.mark.parametrize("distance", [0, 1e-15, 1e-9, 1e-6, 5e-5, 1e-3])
def test_slope_near_a_kink_is_right_or_none(distance):
    found = slope(
        lambda t: np.abs(t + distance), np.abs(distance), step=2.0**-13, magnitude=1.0,
        tolerance=1e-6,
    )
    assert (found is None) if distance < 1e-8 else (found.value == pytest.approx(1, rel=1e-6))


def test_slope_at_a_jump_or_beyond_the_domain_is_none():
    options = {"step": 2.0**-13, "magnitude": 1.0, "tolerance": 1e-6}
    assert slope(lambda t: np.array(t >= 0, float), np.array(1.0), **options) is None
    with np.errstate(invalid="ignore"):
        assert slope(lambda t: np.sqrt(np.array(t)), np.array(0.0), **options) is None


def test_zero_gradient_is_no_alarm():
    report = check_gradients(lambda x, w: tf.nn.relu(x) + 0 * w, [-np.ones((2, 3)), np.ones(3)])
    assert report.ok, report
    assert report.error == 0


def test_integers_and_skipped_inputs_are_listed():
    report = check_gradients(
        lambda x, seed, labels: x * tf.cast(seed, x.dtype) + tf.stop_gradient(labels),
        [normal(3), np.array(2), normal(3)], skip=["labels"], modes=("eager",),
    )
    assert report.ok, report
    assert report.skipped == {"seed": "int64", "labels": "held constant"}
    assert report.tensors == ["x"]
    assert "Not differentiated by: seed (int64)" in str(report)


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


def test_second_order():
    report = check_gradients(tf.math.tanh, normal(3, 4), second_order=True)
    assert report.ok, report
    assert report.tensors[1:] == ["second order, x", "second order, upstream 0"]


def test_second_order_of_a_backward_that_is_not_differentiable():
    @tf.custom_gradient
    def tanh(x):
        y = tf.tanh(x)
        return y, lambda dy: dy * tf.stop_gradient(1 - y * y)

    assert check_gradients(tanh, normal(3, 4)).ok
    report = check_gradients(tanh, normal(3, 4), second_order=True)
    assert {f.tensor for f in report.failures} == {"second order, x"}


def test_dropout_in_xla_is_checked_against_its_own_mask():
    report = check_gradients(keras.layers.Dropout(0.5, seed=1), normal(8, 8))
    assert report.ok, report
    assert report.errors["xla"] <= 1e-8


def test_function_that_draws_new_numbers_each_time_is_a_failure():
    report = check_gradients(lambda x: x * tf.random.normal([3], dtype=x.dtype), normal(3))
    assert {f.kind for f in report.failures if f.mode == "eager"} == {"random"}


def test_forward_that_differs_in_graphs_is_a_failure():
    report = check_gradients(lambda x: x * (2 if tf.executing_eagerly() else 3), normal(3))
    assert ("modes", "graph") in {(f.kind, f.mode) for f in report.failures}


def test_function_that_casts_to_float32_is_a_failure():
    report = check_gradients(lambda x: tf.cast(x, "float32") ** 2, normal(3))
    assert [(f.kind, f.tensor) for f in report.failures] == [("dtype", "output 0")]
    assert "expected float64" in str(report)


def test_gradient_of_the_wrong_dtype_in_float32_is_a_failure():
    @tf.custom_gradient
    def identity(x):
        return x + 0, lambda dy: tf.cast(dy, "float64")

    report = check_gradients(identity, normal(3))
    assert [(f.kind, f.mode) for f in report.failures] == [("dtype", "float32")]


def test_function_that_only_runs_eagerly():
    def function(x):
        return tf.constant(float(x[0])) * x if not tf.executing_eagerly() else x * x

    assert check_gradients(function, normal(3), modes=("eager",)).ok
    report = check_gradients(function, normal(3), modes=("eager", "graph"))
    assert [(f.kind, f.mode) for f in report.failures] == [("exception", "graph")]


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
    ],
)
def test_wrong_arguments(arguments, message):
    target, inputs, options = (*arguments, {})[:3]
    with pytest.raises((TypeError, ValueError), match=message):
        check_gradients(target, inputs, **options)


def test_fixture(gradient_check):
    assert gradient_check(*dense()).error <= 1e-8
    with pytest.raises(pytest.fail.Exception, match=r"w \[eager graph xla\]: wrong gradient at"):
        gradient_check(*dense("factor 2"))


def test_plugin_imports_nothing_heavy():
    import ast
    import inspect

    import app.pytest_plugin

    top = [node for node in ast.parse(inspect.getsource(app.pytest_plugin)).body
           if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert [ast.unparse(node) for node in top] == ["import pytest"]
