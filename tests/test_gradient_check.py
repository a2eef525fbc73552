"""The gradient checker: it catches planted bugs, and raises no alarm where all is right."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from planted_bugs import BUGS, OPTIONS, relu
from planted_layers import batch_norm, conv2d, dense, max_pooling, normal
from planted_modes import float32_alone, several_upstreams
from random_functions import random_function

from custom_layers.gradient_check import check_gradients

ALL_BUGS = [(build, bug) for build, bugs in BUGS.items() for bug in bugs]


def _named(value):
    return getattr(value, "__name__", value)


def test_there_are_enough_bugs():
    assert len(ALL_BUGS) >= 100


@pytest.mark.parametrize("build", BUGS, ids=_named)
def test_right_op_passes(build):
    report = check_gradients(*build(), **OPTIONS[build] | {"modes": ("eager", "graph", "xla")})
    assert report.ok, report
    assert report.error <= 1e-8
    assert set(report.errors) == {"eager", "graph", "xla"}


@pytest.mark.parametrize("build, bug", ALL_BUGS, ids=_named)
def test_planted_bug_is_caught(build, bug):
    report = check_gradients(*build(bug), **OPTIONS[build])
    found = {(failure.kind, failure.tensor) for failure in report.failures}
    assert not report.ok
    assert BUGS[build][bug] in found, report


@pytest.mark.parametrize(
    "seeds", [range(400), pytest.param(range(400, 10_000), marks=pytest.mark.slow)], ids=len
)
def test_no_false_alarm_in_random_cases(seeds):
    alarms = []
    for seed in seeds:
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


@pytest.mark.parametrize(
    "bug, cause",
    [
        ("padding off by one", "shifted by one along axis 1"),
        ("averaged over positions", "divided by 9: averaged"),
        ("height and width swapped", "axes 0 and 1 are swapped"),
        ("kernel gradient flipped", "reversed along axis 0 and 1"),
    ],
)
def test_report_says_what_is_wrong_with_a_convolution(bug, cause):
    assert cause in str(check_gradients(*conv2d(bug), modes=("eager",)))


def test_missing_mean_term_is_named():
    report = check_gradients(*batch_norm("no mean term"), modes=("eager",))
    assert "constant over axes (0,)" in str(report)


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


def test_zero_gradient_is_no_alarm():
    report = check_gradients(lambda x, w: tf.nn.relu(x) + 0 * w, [-np.ones((2, 3)), np.ones(3)])
    assert report.ok, report
    assert report.error == 0


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


def test_what_is_lost_in_rounding_is_counted_and_no_alarm():
    def saturated_then_normalised(x):
        y = tf.tanh(x)
        mean, variance = tf.nn.moments(y, 0)
        return (y - mean) * tf.math.rsqrt(variance + 1e-3)

    report = check_gradients(saturated_then_normalised, 15 + normal(4, 3), modes=("eager",))
    assert report.ok, report
    assert report.undecided > 0 and report.kinks == 0
    assert f"their derivative is lost in rounding: {report.undecided}" in str(report)


def test_rounding_excuses_no_wrong_gradient():
    @tf.custom_gradient
    def shifted(x):
        return (x + 1e6) - 1e6, lambda dy: dy * 1.01

    report = check_gradients(shifted, normal(4, 3), modes=("eager",))
    assert [failure.kind for failure in report.failures] == ["gradient"]
    assert report.failures[0].ratio == pytest.approx(1.01, rel=1e-4)


@pytest.mark.parametrize(
    "function, inputs",
    [
        (tf.identity, 15 + normal(4, 3)),
        (lambda x: tf.nn.softmax(100 * x), normal(4, 3)),
        (lambda x: tf.tanh(x) * 1e-6, 8 + normal(4, 3)),
        (lambda x, b: (x + b) - tf.reduce_mean(x + b, 0), [normal(4, 3), normal(3)]),
        (lambda x: tf.math.log(tf.reduce_sum(tf.exp(x), -1)), 20 + normal(4, 3)),
        (lambda x: x / (1e-7 + tf.abs(x)), normal(4, 3)),
    ],
)
def test_rounding_of_float32_is_no_alarm(function, inputs):
    report = check_gradients(function, inputs, modes=("eager",))
    assert report.ok, report


def test_report_says_what_is_wrong_in_float32():
    report = check_gradients(*float32_alone("doubled"), modes=("eager",))
    (failure,) = report.failures
    assert (failure.mode, failure.ratio) == ("float32", pytest.approx(2, rel=1e-4))
    assert "x [float32]: right in float64, wrong in float32 at" in str(report)


@pytest.mark.parametrize("layer", [
    keras.layers.Dense(3, activation="tanh"), keras.layers.BatchNormalization(),
    keras.layers.LayerNormalization(), keras.layers.Dropout(0.5, seed=1),
])
def test_batched_upstream_gradients(layer):
    assert check_gradients(layer, normal(4, 5), modes=("eager",), batched_upstream=True).ok


def test_batched_upstream_is_asked_for():
    op, x = several_upstreams("leaves TensorFlow")
    assert check_gradients(op, x, modes=("eager",)).ok
    report = check_gradients(op, x, modes=("eager",), batched_upstream=True)
    assert "several upstream gradients at once (`batched_upstream`): ValueError" in str(report)


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
