"""Lean training equals stock: one small network for each thing that could go wrong."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from lean_cases import CASES, image, unit, values
from lean_twins import MODES, assert_same, measured, precision, shaken

from custom_layers.lean import lean

XLA = ["residual units", "a chain of concatenations", "one normalization twice", "every noise",
       "a normalization told not to train", "unpooling by winners",
       "regions of interest"]
SMOOTH = ["a chain of units", "residual units", "a chain of concatenations", "other axes"]


def model_of(name):
    """(model, inputs) of a case."""
    inputs, outputs = CASES[name]()
    return shaken(keras.Model(inputs, outputs)), values(inputs)


@pytest.mark.parametrize("name", CASES)
def test_everything_is_stock_s(name):
    """Result, gradients of weights and inputs, losses and statistics of one step."""
    with precision("float64"):
        model, inputs = model_of(name)
        view = lean(model)
        assert_same(model, view, inputs, "eager")
        assert_same(model, view, inputs, "eager", training=False)
        assert_same(model, view, inputs, "eager", training=None)


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"far from zero"}))
def test_in_a_graph_everything_is_stock_s(name):
    """In float32, where some of TensorFlow's kernels are others."""
    model, inputs = model_of(name)
    assert_same(model, lean(model), inputs, "graph")


@pytest.mark.parametrize("name", XLA)
def test_compiled_by_xla_everything_is_stock_s(name):
    model, inputs = model_of(name)
    assert_same(model, lean(model), inputs, "xla")


def test_compiled_by_xla_ties_go_where_they_go_without():
    """To the first of a window. Stock's go elsewhere under XLA: on CPUs, where windows are padded,
    some to the last of the largest.
    """
    model, inputs = model_of("pooling of ties")
    assert_same(model, lean(model), inputs, "xla", stock_mode="graph")


def errors(name, policy, reference):
    """How far the gradients by a policy are from those in the dtype `reference`: stock's, lean's.

    Relative to the norm of the whole gradient.
    """
    def gradient(model, view, inputs):
        inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
        found = measured(view, inputs, model)
        return np.concatenate([np.asarray(v, "float64").ravel() for k, v in found.items()
                               if k.startswith(("gradient", "state"))])

    with precision(reference):
        exact, inputs = model_of(name)
        weights = exact.get_weights()
        expected = gradient(exact, exact, inputs)
    with precision(policy):
        model, inputs = model_of(name)
        model.set_weights(weights)
        sides = gradient(model, model, inputs), gradient(model, lean(model), inputs)
    return [np.linalg.norm(side - expected) / np.linalg.norm(expected) for side in sides]


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_is_no_less_precise_than_stock(name, policy):
    stock, ours = errors(name, policy, "float32")
    assert 0 < ours <= 2 * stock < 1, (stock, ours)


@pytest.mark.parametrize("name", ["far from zero", "residual units"])
def test_float32_is_no_less_precise_than_stock(name):
    stock, ours = errors(name, "float32", "float64")
    assert 0 < ours <= 2 * stock < 1e-2, (stock, ours)


@pytest.mark.parametrize("mode", MODES)
def test_the_backward_s_mask_is_the_forward_s(mode):
    """Of ones: what dropout let through is where the gradient comes back, by the same factor."""
    x = keras.Input((40, 30, 4))
    names = ("Dropout", "SpatialDropout2D")
    y = [layers.Activation("linear")(getattr(layers, n)(0.4, seed=i)(x))
         for i, n in enumerate(names)]
    y.append(layers.Dropout(0.3, seed=5)(layers.Dropout(0.5, seed=6)(x)))
    view, ones = lean(keras.Model(x, y)), tf.ones((2, 40, 30, 4))

    def run():
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(ones)
            outputs = view(ones, training=True)
        return outputs, [tape.gradient(y, ones) for y in outputs]

    step = MODES[mode](run)
    masks = []
    for _ in range(2):
        for y, dx in zip(*step(), strict=True):
            np.testing.assert_array_equal(y, dx)
            assert 0 < np.mean(np.asarray(y) == 0) < 1
            masks.append(np.asarray(y) == 0)
    assert all(np.any(a != b) for a, b in zip(masks[:3], masks[3:]))  # drawn anew each step


@pytest.mark.parametrize("save", ["float32", "bfloat16", "int8"])
def test_with_a_seed_two_steps_are_the_same(save):
    def steps():
        keras.utils.set_random_seed(0)
        model, inputs = model_of("every noise")
        view = lean(model, save=save, seed=7)
        return [measured(view, tf.constant(inputs), model, "graph") for _ in range(2)]

    for first, again in zip(steps(), steps(), strict=True):
        for (name, a), b in zip(first.items(), again.values(), strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)


def test_what_it_cannot_rewrite_runs_as_stock_and_is_listed():
    """A subclass with a call of its own is another layer, whatever its parent."""
    class Doubled(layers.Dense):
        def call(self, inputs):
            return 2 * super().call(inputs)

    x = keras.Input((6,))
    y = Doubled(4, name="doubled")(layers.Dense(6, activation="relu", name="plain")(x))
    y = layers.LSTM(3, name="recurrent")(layers.RepeatVector(2)(y))
    model = shaken(keras.Model(x, layers.BatchNormalization(name="normal")(y)))
    view = lean(model)
    assert_same(model, view, values(x))
    listed = str(view.plan.stock)
    assert "doubled" in listed and "recurrent" in listed
    assert "plain" not in listed and "normal" not in listed


def test_of_a_network_of_known_layers_nothing_runs_as_stock():
    for name in ("a chain of units", "residual units", "a chain of concatenations",
                 "layers of the first networks"):
        assert not lean(model_of(name)[0]).plan.stock, name


def test_the_plan_prints_as_a_table_of_every_layer():
    model, _ = model_of("residual units")
    table = str(lean(model).plan)
    for layer in model.layers:
        if not isinstance(layer, layers.InputLayer):
            assert layer.name in table


def test_the_original_computes_what_it_did():
    """Whatever the view did between: outputs, losses and the graph itself."""
    model, inputs = model_of("regularisers")
    config, before = model.to_json(), measured(model, tf.constant(inputs))
    view = lean(model)
    measured(view, tf.constant(inputs), model)
    after = measured(model, tf.constant(inputs))
    assert model.to_json() == config
    for name in before:
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)


class Unknowable(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, x):
        return self.dense(x)


def chain():
    x = image()
    return keras.Model(x, unit(x, 2))


@pytest.mark.parametrize(("make", "arguments", "words"), [
    (chain, {"save": "float8"}, ("save", "'float32'", "'bfloat16'", "'int8'", "float8")),
    (chain, {"save": None}, ("save", "None")),
    *((chain, {"budget": b}, ("budget", "between 0 and 1", str(b)))
      for b in (0, -0.5, 2, float("nan"), "half")),
    *((chain, {"seed": s}, ("seed", "integer", str(s))) for s in (0.5, "one", -1)),
    (Unknowable, {}, ("functional", "Unknowable")),
    (lambda: keras.Sequential([layers.Dense(2)], name="stack"), {}, ("built", "Input", "stack")),
    (lambda: layers.Dense(2), {}, ("functional", "Dense")),
    (lambda: None, {}, ("functional", "None")),
])
def test_errors_name_what_was_given_and_what_to_do(make, arguments, words):
    with pytest.raises((ValueError, TypeError)) as error:
        lean(make(), **arguments)
    for word in (*words, "Received: "):
        assert word in str(error.value)
