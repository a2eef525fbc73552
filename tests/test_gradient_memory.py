"""What is kept is what a hand counts, and is said to be the layer's that made it."""

import keras
import pytest
import tensorflow as tf
from keras import layers
from memory_cases import B, floats, model_of, stock_of
from model_cases import ALL, small

import custom_layers
from custom_layers.gradient_memory import trace
from custom_layers.lean import lean
from custom_layers.lean_report import memory_report


# Counted by hand


def test_a_chain_counted_by_hand():
    report = memory_report(model_of(
        layers.Conv2D(8, 3, name="conv"), layers.BatchNormalization(name="norm"),
        layers.ReLU(name="relu"), layers.MaxPooling2D(name="pool"),
        layers.Dropout(0.5, name="drop"), layers.Conv2D(8, 3, activation="silu", name="silu"),
        layers.Flatten(name="flat"), layers.Dense(5, name="dense")), batch_size=B)
    assert {row.layer: row.stock for row in report.rows if row.stock} == {
        "conv": {"convolution output": floats(14, 14, 8)},  # batch normalisation's input
        "norm": {"statistics": 3 * 8 * 4},  # mean, 1 / deviation, gamma / deviation
        "relu": {"ReLU output": floats(14, 14, 8)},
        "pool": {"pooled maxima": floats(7, 7, 8)},
        "drop": {"Dropout output": floats(7, 7, 8), "mask": B * 7 * 7 * 8},
        "silu": {"convolution output": floats(5, 5, 8), "silu output": floats(5, 5, 8)},
    }
    assert [row.type for row in report.rows] == [
        "Conv2D", "BatchNormalization", "ReLU", "MaxPooling2D", "Dropout", "Conv2D"]
    assert report.stock == sum(row.stock_bytes for row in report.rows) == 70784
    assert report.batch_bytes == floats(16, 16, 3)
    assert report.without == 2 and report.unknown == []
    assert report.gradient_bytes == 4 * (9 * 3 * 8 + 8 + 2 * 8 + 9 * 8 * 8 + 8 + 200 * 5 + 5)
    assert report.weight_bytes >= report.gradient_bytes + 2 * 8 * 4


def test_lean_counted_by_hand():
    report = memory_report(model_of(
        layers.Conv2D(8, 3, name="conv"), layers.BatchNormalization(name="norm"),
        layers.ReLU(name="relu"), layers.Conv2D(4, 3, name="last"), shape=(16, 16, 5)),
        batch_size=B)
    rows = {row.layer: row for row in report.rows}
    assert set(rows) == {"conv", "norm", "relu"}
    assert rows["conv"].lean == rows["conv"].stock
    assert set(rows["norm"].lean) == {"statistics"}
    assert 2 * 8 * 4 <= rows["norm"].lean_bytes <= 4 * 8 * 4
    assert rows["relu"].lean == {} and rows["relu"].stock_bytes == floats(14, 14, 8)
    assert report.lean == rows["conv"].lean_bytes + rows["norm"].lean_bytes
    assert report.ratio == report.lean / report.stock < 0.51


@pytest.mark.parametrize("save, each", [("bfloat16", 2), ("int8", 1)])
def test_fewer_bits_are_counted_as_such(save, each):
    model = model_of(layers.Conv2D(8, 3, name="conv"), layers.BatchNormalization(name="norm"),
                     layers.ReLU(), layers.Conv2D(4, 3), shape=(16, 16, 5))
    row = memory_report(model, batch_size=B, save=save).rows[0]
    assert row.layer == "conv" and row.stock_bytes == floats(14, 14, 8)
    what, size = max(row.lean.items(), key=lambda x: x[1])
    assert what == {2: "bfloat16 copy", 1: "8-bit values"}[each]
    assert size == each * B * 14 * 14 * 8
    assert row.lean_bytes - size <= 2 * 4 * 8  # a range for each channel


@pytest.mark.parametrize("activation, what", [
    ("relu", {"ReLU output"}), ("tanh", {"tanh output"}), ("sigmoid", {"sigmoid output"}),
    ("linear", set()), ("gelu", {"Erfc result", "product"})])
def test_what_an_activation_keeps(activation, what):
    rows = stock_of(model_of(layers.Dense(6, activation=activation, use_bias=False, name="a"),
                             layers.GaussianNoise(0.0), shape=(5,)))
    kept = rows.get("a", {})
    assert set(kept) >= what and (what or not kept)
    assert all(size % floats(6) == 0 for size in kept.values())


def test_views_of_one_buffer_count_once():
    x = keras.Input((6, 6, 2))
    y = layers.ReLU(name="relu")(layers.Conv2D(4, 3, name="conv")(x))
    flat = layers.Dense(3)(layers.Flatten()(y))
    again = layers.Dense(3)(layers.Reshape((64,))(layers.Activation("linear")(y)))
    rows = layers.Dense(3)(layers.Flatten()(layers.Reshape((16, 4))(y)))
    mapped = layers.GlobalAveragePooling2D()(layers.Conv2D(3, 1)(y))
    model = keras.Model(x, layers.Add()([flat, again, rows, mapped]))
    assert stock_of(model) == {"relu": {"ReLU output": floats(4, 4, 4)}}


@pytest.mark.parametrize("chain", [
    [layers.Conv2D(4, 3)], [layers.Reshape((8, 4, 3)), layers.Conv2D(4, 3)],
    [layers.Flatten(), layers.Activation("linear"), layers.Dense(4)]])
def test_the_batch_is_not_counted_nor_a_view_of_it(chain):
    report = memory_report(model_of(*chain, shape=(4, 8, 3)), batch_size=B)
    assert report.rows == [] and report.stock == report.lean == 0 and report.ratio == 1
    assert report.batch_bytes == floats(4, 8, 3)
    assert report.largest_batch("1 GB") > 0


def test_what_only_its_shape_is_asked_of_is_not_kept():
    conv = layers.Conv2D(4, 3, name="frozen", trainable=False)
    model = model_of(layers.Conv2D(8, 3, name="conv"), conv)
    assert stock_of(model) == {}  # the frozen kernel's gradient would need it
    conv.trainable = True
    assert stock_of(model) == {"conv": {"convolution output": floats(14, 14, 8)}}


def test_weights_in_another_dtype_are_copies_of_weights():
    plain = model_of(layers.Dense(6), layers.Dense(7), shape=(5,))
    mixed = model_of(layers.Dense(6, dtype="mixed_bfloat16"), layers.Dense(
        7, dtype="mixed_bfloat16", name="last"), shape=(5,))
    spec = tf.TensorSpec((B, 5))
    assert trace(plain, spec).copies == 0
    assert trace(mixed, spec).copies == 2 * 6 * 7  # the first needs no gradient of its input
    kept = [by for by in trace(mixed, spec).kept.values()]
    assert sum(sum(by.values()) for by in kept) == 2 * B * (5 + 6)


def test_losses_of_activities_count():
    plain = model_of(layers.Dense(6, name="a"), layers.Dropout(0.0), shape=(5,))
    active = model_of(layers.Dense(6, name="a", activity_regularizer="l2"), layers.Dropout(0.0),
                      shape=(5,))
    assert stock_of(plain) == {}
    assert sum(stock_of(active)["a"].values()) >= floats(6)
    assert active.losses == []  # none that belongs to a graph


def test_loops_keep_a_list_of_states():
    steps, units, inputs = 7, 5, 6
    model = model_of(layers.LSTM(units, name="lstm"), layers.Dense(2), shape=(steps, inputs))
    kept = stock_of(model)["lstm"]
    # Of each step: four gates, the states before it, tanh of the cell, and its input.
    assert kept["states of all steps"] == steps * floats(7 * units + inputs)
    assert kept["LSTM output"] == floats(units)


def test_loops_as_they_run():
    """The lists hold as many bytes as when they are filled, but for the weights in them."""
    from benchmarks.memory import kept_bytes

    steps, units, inputs = 3, 4, 2
    layer = layers.LSTM(units, name="lstm")
    x = tf.zeros((B, steps, inputs))
    layer(x)
    whole = kept_bytes(layer, (x,))
    in_lists = steps * 4 * 4 * units * (units + inputs)
    model = model_of(layer, shape=(steps, inputs))
    kept = sum(stock_of(model)["lstm"].values())
    assert 0 <= whole - in_lists - kept <= floats(steps, inputs) + 64  # the inputs, and counters


def test_a_peak_counted_by_hand():
    model = model_of(layers.Dense(4, use_bias=False), layers.Dense(4, use_bias=False), shape=(8,))
    traced = trace(model, tf.TensorSpec((B, 8)))
    assert traced.size == floats(4)  # the second layer's input,
    assert traced.peak == 2 * floats(4)  # and its gradient beside it


def test_a_peak_is_of_the_worst_order():
    """Whether two branches run one after the other is not for the graph to say."""
    def branch():
        return keras.Sequential([layers.Dense(100, trainable=False),
                                 layers.Dense(2, trainable=False)])

    x = keras.Input((8,))
    y = layers.Dense(1)(layers.Add()([branch()(x), branch()(x)]))
    traced = trace(keras.Model(x, y), tf.TensorSpec((B, 8)))
    assert traced.size == floats(2)
    assert 2 * floats(100) <= traced.peak < 3 * floats(100)


# Whose it is


def test_shared_layers_are_one_row_and_no_neighbour_gets_theirs():
    dense = layers.Dense(6, activation="relu", name="dense")
    x = keras.Input((5,))
    y = layers.Dense(5, activation="relu", name="first")(dense(x))
    y = dense(layers.Dense(5, activation="relu", name="dense_1")(y))
    model = keras.Model(x, layers.Dense(2, name="dense_2")(y))
    assert stock_of(model) == {
        "dense": {"ReLU output": 2 * floats(6)}, "first": {"ReLU output": floats(5)},
        "dense_1": {"ReLU output": floats(5)}}


def test_nested_models_are_opened():
    x = keras.Input((8, 8, 2))
    inner = keras.Model(x, layers.ReLU(name="relu")(layers.Conv2D(4, 3, name="conv")(x)),
                        name="inner")
    middle = keras.Sequential([inner, layers.Conv2D(3, 3, activation="tanh", name="conv")],
                              name="middle")
    y = keras.Input((8, 8, 2))
    report = memory_report(keras.Model(y, layers.Dense(2)(layers.Flatten()(middle(y)))), B)
    assert {row.layer: row.stock for row in report.rows if row.stock} == {
        "middle/inner/relu": {"ReLU output": floats(6, 6, 4)},
        "middle/conv": {"tanh output": floats(4, 4, 3)}}
    assert report.without == 3


def test_layers_of_one_name_in_two_models_are_two():
    def backbone(name):
        return keras.Sequential([layers.Dense(6, activation="tanh", name="dense")], name=name)

    x = keras.Input((5,))
    both = layers.Concatenate(name="both")([backbone("left")(x), backbone("right")(x)])
    assert stock_of(keras.Model(x, layers.Dense(2)(both))) == {
        "left/dense": {"tanh output": floats(6)}, "right/dense": {"tanh output": floats(6)},
        "both": {"Concatenate output": floats(12)}}


def test_operations_that_are_no_layers_are_the_model_s():
    x = keras.Input((5,))
    y = layers.Dense(4, name="a")(x)
    model = keras.Model(x, layers.Dense(2)(keras.ops.exp(y) * 2), name="whole")
    assert sum(stock_of(model)["whole"].values()) == 2 * floats(4)
    model = keras.Model(x, layers.Dense(2)(y))
    assert stock_of(model) == {"a": {"Dense output": floats(4)}}


def test_several_inputs_and_outputs():
    a, b = keras.Input((5,), name="left"), keras.Input((3, 2), name="right")
    y = layers.Concatenate(name="both")([layers.Dense(4, name="a")(a), layers.Flatten()(b)])
    z = layers.Dense(6, activation="tanh", name="z")(y)
    expected = {"both": {"Concatenate output": floats(10)}, "z": {"tanh output": floats(6)}}
    for inputs in ([a, b], {"left": a, "right": b}):
        model = keras.Model(inputs, [y, z])
        report = memory_report(model, batch_size=B)
        assert {row.layer: row.stock for row in report.rows if row.stock} == expected
        assert report.batch_bytes == floats(5) + floats(6)
        for shapes in ([(5,), (3, 2)], {"left": (5,), "right": [3, 2]}):
            assert memory_report(model, shapes, B).rows == report.rows


@pytest.mark.parametrize("name", ALL)
def test_every_network_of_the_catalogue(name):
    model = small(name)
    report = memory_report(model, batch_size=8)
    assert report.stock <= report.stock_peak and report.unknown == []
    assert name.startswith("keras-") or set(lean(model).plan.stock) <= {"resize"}
    assert report.lean <= report.stock
    assert all(row.layer != "other" for row in report.rows)
    assert report.stock > 0 or name == "perceptron"


def test_open_shapes_are_given():
    model = model_of(layers.Conv2D(4, 3, name="conv"), layers.ReLU(name="relu"),
                     layers.GlobalAveragePooling2D(), shape=(None, None, 3))
    report = memory_report(model, (10, 12, 3), B)
    assert [(row.layer, row.stock_bytes) for row in report.rows] == [("relu", floats(8, 10, 4))]
    assert report.input_shape == (10, 12, 3)


@keras.saving.register_keras_serializable("tests")
class Positive(layers.Layer):
    """The sum of squares of what is positive: how many shows only when it runs."""

    def call(self, x):
        return tf.reduce_sum(tf.square(tf.boolean_mask(x, x > 0))) + tf.zeros_like(x)

    def compute_output_shape(self, shape):
        return shape


def test_what_cannot_be_known_is_said():
    report = memory_report(
        model_of(layers.Dense(4), Positive(name="positive"), shape=(5,)), batch_size=B)
    assert report.unknown == ["positive"]
    assert "Not counted, as its size shows only when it runs: what is kept by positive" in str(
        report)


# What lean leaves of links between an encoder and a decoder, and of regions


def test_unpooling_is_computed_again_from_who_won():
    x = keras.Input((16, 16, 3))
    y = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, padding="same", name="conv")(x))
    pooled, indices = custom_layers.MaxPoolingWithIndices2D(name="pool")(y)
    y = layers.Conv2D(4, 3, padding="same", name="middle")(pooled)
    y = custom_layers.MaxUnpooling2D(name="unpool")(y, indices)
    model = keras.Model(x, layers.Conv2D(2, 3, name="last")(y))
    stock, lean_kept = kept(model)
    assert stock["unpool"] == floats(16, 16, 4) + B * 8 * 8 * 4
    assert "unpool" not in lean_kept
    assert lean_kept["pool"] == floats(8, 8, 4) + B * 8 * 8 * 4
    assert lean_kept["middle"] == floats(8, 8, 4)


def test_within_a_budget_regions_are_aligned_again_from_where_they_lie():
    """Kept are of 4 places along an axis, for each of 7 bins, a number and a weight."""
    x, rois = keras.Input((8, 8, 32)), keras.Input((20, 4))
    features = layers.Conv2D(16, 3, padding="same", name="features")(x)
    pooled = custom_layers.RoIAlign(name="align")(features, rois)
    model = keras.Model([x, rois], layers.Dense(3)(layers.Reshape((20, -1))(pooled)))
    stock, lean_kept = kept(model, budget=0.5)
    places = 2 * B * 20 * 7 * 4 * (4 + 4)
    assert stock["align"] <= floats(20, 7, 7, 16) + places
    assert lean_kept["align"] <= places
    assert "features" not in lean_kept  # what they are computed from is given


def kept(model, **settings):
    """{layer: bytes} that stock keeps, and that lean does."""
    rows = memory_report(model, batch_size=B, **settings).rows
    return ({row.layer: row.stock_bytes for row in rows if row.stock_bytes},
            {row.layer: row.lean_bytes for row in rows if row.lean_bytes})
