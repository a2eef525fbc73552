"""`differentiable` and `chain`: what they check and what they leave alone."""

import functools
import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import ops

from custom_layers import chain, differentiable
from custom_layers.activations import relu, tanh
from custom_layers.dense import dense
from custom_layers.gradient import forward_only


def op_with_gradients(*gradients):
    """An op of two tensors whose backward returns `gradients`, whatever they are."""

    @differentiable
    def product(x, w):
        return x * w, lambda dy: gradients

    return product


def take_gradient(op, *tensors, graph=False):
    def run():
        with tf.GradientTape() as tape:
            tape.watch([t for t in tensors if t is not None])
            y = op(*tensors)
        return tape.gradient(y, [t for t in tensors if t is not None])

    return tf.function(run)() if graph else run()


X, W = tf.constant([1.0, 2.0]), tf.constant([3.0, 4.0])


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize(
    ("gradients", "message"),
    [
        ((X,), "one gradient for each of its 2 tensors.*Received: 1"),
        ((X, W, W), "one gradient for each of its 2 tensors.*Received: 3"),
        ((X, tf.constant(1.0)), r"argument 1 a gradient of shape \(2,\).*shape=\(\)"),
        ((tf.constant([1.0, 2.0], tf.float64), W), "argument 0.*float32.*dtype=float64"),
    ],
)
def test_wrong_gradients_are_errors(gradients, message, graph):
    with pytest.raises(ValueError, match=message):
        take_gradient(op_with_gradients(*gradients), X, W, graph=graph)


def test_an_absent_tensor_has_no_gradient():
    x, w = tf.ones((2, 3)), tf.ones((3, 4))
    assert len(take_gradient(dense, x, w, None)) == 2
    assert len(take_gradient(dense, x, w)) == 2

    @differentiable
    def wrong(x, b=None):
        return x + 0.0, lambda dy: (dy, dy)

    with pytest.raises(ValueError, match="argument 1, which was not given"):
        take_gradient(wrong, x, None)


def test_the_op_keeps_its_gradient_as_argument_of_a_graph():
    @tf.function
    def gradient(op, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = op(x)
        return tape.gradient(y, x)

    @differentiable
    def odd(x):
        return x * x, lambda dy: dy * 7.0

    np.testing.assert_array_equal(gradient(odd, X), [7.0, 7.0])
    assert odd.__name__ == "odd" and not hasattr(odd, "__wrapped__")


def test_forward_only_leaves_no_custom_gradient_in_a_graph():
    def nodes():
        graph = tf.function(lambda x: relu(x)).get_concrete_function(X).graph
        return {node.type for node in graph.get_operations()}

    assert "IdentityN" in nodes()
    with forward_only():
        assert "IdentityN" not in nodes()
        np.testing.assert_array_equal(relu(-X), [0.0, 0.0])
    assert "IdentityN" in nodes()


def test_settings_are_keywords():
    with pytest.raises(TypeError, match="unexpected keyword"):
        relu(X, slope=0.1)


def test_chain_runs_the_backwards_in_reverse(gradient_check):
    op = chain(dense.pair, functools.partial(relu.pair, negative_slope=0.2), tanh.pair)
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(3, 4)), rng.normal(size=(4, 5)), rng.normal(size=5)
    gradient_check(op, [x, w, b])
    z = x @ w + b
    np.testing.assert_allclose(op(x, w, b), np.tanh(np.where(z > 0, z, 0.2 * z)))


def test_second_derivatives_are_right(gradient_check):
    gradient_check(tanh, np.linspace(-1, 1, 6), second_order=True)


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_a_graph_that_nobody_needs_is_let_go(jit_compile):
    """TensorFlow's registry of gradients holds every graph with a custom gradient for good."""
    gc.collect()
    registered, x = len(ops.gradient_registry.list()), tf.Variable([1.0, -1.0])

    def slope():
        with tf.GradientTape() as tape:
            y = chain(tanh.pair, relu.pair)(x)
        return tape.gradient(y, x)

    traced = tf.function(slope, jit_compile=jit_compile)
    np.testing.assert_allclose(traced(), [1 - np.tanh(1.0)**2, 0], rtol=1e-6)
    graph = weakref.ref(traced.get_concrete_function().graph)
    del traced
    gc.collect()
    assert graph() is None
    assert len(ops.gradient_registry.list()) == registered


def test_a_saved_function_keeps_its_gradient(tmp_path):
    module, x = tf.Module(), tf.constant([0.5, -1.0])
    module.call = tf.function(tanh, input_signature=[tf.TensorSpec((None,))])
    tf.saved_model.save(module, str(tmp_path))
    del module
    gc.collect()
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.saved_model.load(str(tmp_path)).call(x)
    np.testing.assert_allclose(tape.gradient(y, x), 1 - np.tanh(x)**2, rtol=1e-6)
