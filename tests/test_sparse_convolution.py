"""SparseConv2D and LearnedCombination2D: formulas in NumPy, gradients, what they learn, errors."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers import check_gradients
from custom_layers.convolution import conv2d
from custom_layers.examples import spread
from custom_layers.sparse_convolution import (
    LENET_C3,
    LearnedCombination2D,
    MixingEntropy,
    SparseConv2D,
    learned_combination2d,
    mixing_entropy,
    sparse_conv2d,
)

TABLE = ((0, 1), (2,), (2, 0, 1), (0, 2))


def softmax(v):
    e = np.exp(v - v.max(0))
    return e / e.sum(0)


def test_lenet_c3_is_lecuns_table():
    """Table I of the paper: which of the maps 0-5 (rows) each of the maps 0-15 (columns) sees."""
    table = """X . . . X X X . . X X X X . X X
               X X . . . X X X . . X X X X . X
               X X X . . . X X X . . X . X X X
               . X X X . . X X X X . . X . X X
               . . X X X . . X X X X . X X . X
               . . . X X X . . X X X X . X X X"""
    connected = np.array([line.split() for line in table.splitlines()]) == "X"
    for o, row in enumerate(LENET_C3):
        assert set(row) == set(np.flatnonzero(connected[:, o]))


def test_c3_has_1516_parameters():
    layer = SparseConv2D(LENET_C3, 5)
    layer.build((None, 14, 14, 6))
    assert layer.count_params() == 1516
    assert layer.compute_output_shape((None, 14, 14, 6)) == (None, 10, 10, 16)


@pytest.mark.parametrize("algorithm", ["native", "im2col", "toeplitz"])
def test_sparse_conv2d(algorithm):
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(2, 6, 7, 3)), rng.normal(size=(3, 2, 8)), rng.normal(size=4)
    expected, e = np.zeros((2, 4, 6, 4)), 0
    for o, row in enumerate(TABLE):
        for c in row:
            for p, q, i, j in itertools.product(range(4), range(6), range(3), range(2)):
                expected[:, p, q, o] += x[:, p + i, q + j, c] * w[i, j, e]
            e += 1
    expected += b
    y = sparse_conv2d(x, w, b, table=TABLE, algorithm=algorithm)
    np.testing.assert_allclose(y, expected, atol=1e-12)
    first = sparse_conv2d(x.transpose(0, 3, 1, 2), w, b, table=TABLE, algorithm=algorithm,
                          data_format="channels_first")
    np.testing.assert_allclose(np.transpose(first, (0, 2, 3, 1)), expected, atol=1e-12)


def test_a_map_that_is_not_seen_changes_nothing_and_gets_no_gradient():
    x, w = tf.constant(spread((1, 4, 4, 3))), tf.ones((3, 3, 2), tf.float64)
    y, backward = sparse_conv2d.pair(x, w, table=((1,), (1,)))
    dx, dw, _ = backward(tf.ones_like(y))
    assert not np.any(dx[..., 0]) and not np.any(dx[..., 2]) and np.all(dx[..., 1])
    assert dw.shape == w.shape
    changed = x + np.array([5.0, 0.0, -3.0])
    np.testing.assert_array_equal(sparse_conv2d(changed, w, table=((1,), (1,))), y)


def test_a_full_table_is_conv2d():
    rng = np.random.default_rng(0)
    x, w, b = (tf.constant(rng.normal(size=s)) for s in [(2, 6, 7, 3), (3, 2, 3, 4), (4,)])
    connections = tf.reshape(tf.transpose(w, (0, 1, 3, 2)), (3, 2, 12))
    settings = {"strides": (2, 1), "padding": "same"}
    table = ((0, 1, 2),) * 4
    y, backward = sparse_conv2d.pair(x, connections, b, table=table, **settings)
    expected, conv2d_backward = conv2d.pair(x, w, b, **settings)
    np.testing.assert_array_equal(y, expected)
    dy = tf.constant(rng.normal(size=y.shape))
    for ours, theirs in zip(backward(dy), conv2d_backward(dy)):
        if theirs.shape.rank == 4 and theirs.shape == w.shape:
            theirs = tf.reshape(tf.transpose(theirs, (0, 1, 3, 2)), (3, 2, 12))
        np.testing.assert_array_equal(ours, theirs)


def test_initial_values_fit_the_number_of_maps_that_each_map_sees():
    initializer = keras.initializers.VarianceScaling(1.0, "fan_in", "uniform", seed=1)
    layer = SparseConv2D(LENET_C3, 5, kernel_initializer=initializer)
    layer.build((None, 14, 14, 6))
    parts = np.split(layer.kernel.numpy(), np.cumsum([len(row) for row in LENET_C3])[:-1], 2)
    for row, part in zip(LENET_C3, parts):
        limit = np.sqrt(3 / (25 * len(row)))
        assert 0.9 * limit < np.abs(part).max() <= limit
    assert len(np.unique(layer.kernel.numpy())) > 1490  # no part is drawn twice


def test_learned_combination2d():
    rng = np.random.default_rng(0)
    x, w, v, b = (rng.normal(size=s) for s in [(2, 5, 6, 3), (3, 2, 3, 1), (1, 1, 3, 4), (4,)])
    a, expected = softmax(v[0, 0]), np.zeros((2, 3, 5, 4))
    for p, q, i, j, c, o in itertools.product(*map(range, (3, 5, 3, 2, 3, 4))):
        expected[:, p, q, o] += a[c, o] * x[:, p + i, q + j, c] * w[i, j, c, 0]
    np.testing.assert_allclose(learned_combination2d(x, w, v, b), expected + b, atol=1e-12)


def test_mixing_entropy():
    v = np.random.default_rng(0).normal(size=(1, 1, 5, 3))
    a = softmax(v[0, 0])
    np.testing.assert_allclose(mixing_entropy(v), -(a * np.log(a)).sum(), rtol=1e-12)
    np.testing.assert_allclose(mixing_entropy(np.zeros((1, 1, 5, 3))), 3 * np.log(5))
    sure = np.where(np.arange(5) == 2, 800.0, 0.0).reshape(1, 1, 5, 1)
    value, backward = mixing_entropy.pair(tf.constant(sure))
    assert value == 0
    np.testing.assert_array_equal(backward(tf.ones((), tf.float64)), np.zeros_like(sure))
    check_gradients(mixing_entropy, v, second_order=True).raise_if_failed()


@pytest.mark.parametrize("layer", [
    SparseConv2D(TABLE, 3, strides=2, padding="same", activation="tanh"),
    SparseConv2D(TABLE, (3, 2), data_format="channels_first", dilation_rate=(1, 2)),
    LearnedCombination2D(4, 3, activation="tanh"),
    LearnedCombination2D(2, 3, strides=2, padding="same", data_format="channels_first"),
], ids=lambda layer: layer.name)
def test_gradients_of_both_orders(layer):
    shape = (2, 3, 5, 6) if layer.data_format == "channels_first" else (2, 5, 6, 3)
    report = check_gradients(layer, spread(shape) / 4, second_order=True, directions=2,
                             elements=60)
    report.raise_if_failed()
    assert set(report.errors) == {"eager", "graph", "xla"}


def test_the_penalty_is_added_to_the_loss_and_makes_the_combinations_sparse():
    x = np.random.default_rng(0).normal(size=(64, 6, 6, 5)).astype("float32")
    target = np.stack([x[..., 3], x[..., 1]], -1)
    entropies = {}
    for sparsity in (0.0, 0.1):
        keras.utils.set_random_seed(1)
        layer = LearnedCombination2D(2, 1, sparsity=sparsity)
        model = keras.Sequential([keras.Input(x.shape[1:]), layer])
        entropy = float(mixing_entropy(layer.pointwise_kernel))
        assert len(layer.losses) == (sparsity > 0)
        if sparsity:
            np.testing.assert_allclose(layer.losses[0], sparsity * entropy, rtol=1e-6)
        model.compile(keras.optimizers.Adam(0.1), "mse")
        for _ in range(80):
            model.train_on_batch(x, target)
        entropies[sparsity] = float(mixing_entropy(layer.pointwise_kernel))
        np.testing.assert_allclose(layer.combination.numpy().sum(0), 1, rtol=1e-6)
    assert entropies[0.1] < 0.5 * entropies[0.0]


@pytest.mark.parametrize("layer", [
    SparseConv2D(np.array([[0, 1], [1, 2]]), 3, padding=1, algorithm="im2col", strict=True),
    LearnedCombination2D(4, 3, sparsity=0.2, depth_multiplier=2),
], ids=lambda layer: layer.name)
def test_config(layer):
    config = layer.get_config()
    again = type(layer).from_config(config)
    assert again.get_config() == config
    registered = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(registered) is type(layer)
    registered.build((None, 6, 6, 3))
    layer.build((None, 6, 6, 3))
    assert [w.shape for w in registered.weights] == [w.shape for w in layer.weights]
    assert [bool(w.regularizer) for w in registered.weights] == [
        bool(w.regularizer) for w in layer.weights]
    regularizer = keras.regularizers.serialize(MixingEntropy(0.3))
    assert keras.regularizers.deserialize(regularizer).strength == 0.3


@pytest.mark.parametrize("table", [(), ((0, 1), ()), ((0, 0),), ((-1,),), ((0.5,),), 3, (0, 1),
                                   "ab"], ids=str)
def test_a_wrong_table_is_an_error(table):
    with pytest.raises(ValueError, match="`table` must have a row for each.*Received: table="):
        SparseConv2D(table, 3)


def test_what_is_wrong_is_said():
    message = r"names maps \[6, 9\], but its input has maps 0 to 5. Received: input_shape=\(None, 9"
    with pytest.raises(ValueError, match=message):
        SparseConv2D(((0, 6), (9, 2)), 3).build((None, 9, 9, 6))
    with pytest.raises(ValueError, match="maps 0 to 2"):
        SparseConv2D(((0, 6),), 3, data_format="channels_first").build((None, 3, 9, 9))
    with pytest.raises(ValueError, match="no groups.*Received: groups=2"):
        SparseConv2D(((0, 1), (1, 0)), 3, groups=2)
    with pytest.raises(ValueError, match="Received: sparsity=-1"):
        LearnedCombination2D(2, 3, sparsity=-1)
    with pytest.raises(ValueError, match="Received: strength=-1"):
        MixingEntropy(-1)
