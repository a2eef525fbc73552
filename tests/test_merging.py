"""Sum, product and concatenation of several inputs: broadcasting, masks, Keras's layers."""

import functools
import operator

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers import merging
from custom_layers.examples import spread
from custom_layers.merging import Add, Concatenate, Multiply, add, concatenate, fill, multiply

SHAPES = [
    [(3, 4, 5)],
    [(3, 4, 5), (3, 4, 5)],
    [(3, 4, 5), (3, 4, 5), (3, 4, 5), (3, 4, 5)],
    [(3, 4, 5), (3, 1, 5), (3, 4, 1)],
    [(3, 1, 1, 5), (3, 4, 2, 5)],
    [(3, 1, 5), (3, 4, 1)],
    [(3, 4, 5), (3, 5)],
    [(3, 2), (3, 4, 5, 2), (3, 5, 1)],
]
every_shape = pytest.mark.parametrize("shapes", SHAPES, ids=str)
both = pytest.mark.parametrize(("layer", "fold"), [(Add, operator.add), (Multiply, operator.mul)])
JOINED = [(-1, [(3, 4, 5), (3, 4, 2), (3, 4, 1)]), (1, [(3, 4, 5), (3, 2, 5)]), (2, [(2, 3, 4)]),
          (-2, [(2, 3, 4, 5), (2, 3, 1, 5)])]
joined = pytest.mark.parametrize(("axis", "shapes"), JOINED, ids=str)


def inputs_of(shapes, dtype="float64"):
    return [tf.constant(spread(shape, seed), dtype) for seed, shape in enumerate(shapes)]


def gradients(layer, xs, dy):
    with tf.GradientTape() as tape:
        tape.watch(xs)
        y = layer(xs)
    return [y, *tape.gradient(y, xs, dy)]


def assert_equal_to_keras(ours, stock, shapes, jit):
    xs = inputs_of(shapes, "float32")
    dy = tf.constant(spread(ours.compute_output_shape(shapes), 9), tf.float32)
    run = tf.function(gradients, jit_compile=jit)
    for a, b in zip(run(ours, xs, dy), run(stock, xs, dy), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@both
@every_shape
def test_the_value_in_numpy(layer, fold, shapes):
    """Keras aligns inputs of lower rank after the batch: (3, 5) is (3, 1, 5), not (1, 3, 5)."""
    xs, rank = [x.numpy() for x in inputs_of(shapes)], max(map(len, shapes))
    aligned = [x.reshape(len(x), *[1] * (rank - x.ndim), *x.shape[1:]) for x in xs]
    y = layer(dtype="float64")(xs)
    np.testing.assert_allclose(y, functools.reduce(fold, aligned), rtol=1e-12)


@both
@every_shape
def test_gradients_and_second_derivatives(layer, fold, shapes, gradient_check):
    if len(shapes) > 1:
        gradient_check(layer(), inputs_of(shapes), directions=2, elements=96, second_order=True)


@both
@every_shape
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_sum_and_product_equal_keras(layer, fold, shapes, jit):
    assert_equal_to_keras(layer(), getattr(keras.layers, layer.__name__)(), shapes, jit)


@pytest.mark.parametrize("op", [add, multiply])
def test_ops_broadcast_as_numpy_does(op, gradient_check):
    gradient_check(op, [spread((4, 3)), spread((3,), 1), spread((2, 1, 3), 2), np.array(0.7)],
                   second_order=True)


def test_product_with_zeros_has_the_right_gradient():
    """Not y / x: where one factor is 0 its gradient is the product of the others."""
    x, dy = np.array([2.0, 0.0, 0.0]), tf.constant([1.0, 10.0, 100.0], tf.float64)
    y, backward = multiply.pair(*(tf.constant(v) for v in (x, x + 3, 0 * x)))
    da, db, dc = backward(dy)
    np.testing.assert_array_equal(y, [0, 0, 0])
    np.testing.assert_array_equal(dc, dy * x * (x + 3))
    np.testing.assert_array_equal([da, db], np.zeros((2, 3)))


@joined
def test_concatenation(axis, shapes, gradient_check):
    xs = inputs_of(shapes)
    np.testing.assert_array_equal(concatenate(*xs, axis=axis),
                                  np.concatenate([x.numpy() for x in xs], axis))
    if len(xs) > 1:
        gradient_check(Concatenate(axis), xs, directions=2, elements=64, second_order=True)


@joined
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_concatenation_equals_keras(axis, shapes, jit):
    assert_equal_to_keras(Concatenate(axis), keras.layers.Concatenate(axis), shapes, jit)


@pytest.mark.parametrize("layer", [Add(), Multiply(), Concatenate(), Concatenate(1)], ids=[
    "Add", "Multiply", "Concatenate", "Concatenate rows"])
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_unknown_sizes(layer, batch):
    """What is broadcast is found when the graph runs, where the shapes do not say it."""
    xs = [tf.constant(spread((batch, 4, 5), s), tf.float32) for s in (0, 1)] if batch else [
        tf.zeros((0, 4, 5))] * 2
    if isinstance(layer, (Add, Multiply)):
        xs[1] = xs[1][:, :1]
    spec = [tf.TensorSpec((None, None, 5))] * 2
    run = tf.function(lambda xs: gradients(layer, xs, None), input_signature=[spec])
    results = run(xs)
    for a, b in zip(results, gradients(layer, xs, None), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert [g.shape for g in results[1:]] == [x.shape for x in xs]


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_half_precision_is_summed_in_float32(dtype):
    """A float16 (bfloat16) sum of ones stops at 2048 (256)."""
    b = tf.zeros((1,), dtype)
    for op in (add, multiply):
        _, backward = op.pair(tf.ones((4000, 1), dtype), b)
        db = backward(tf.ones((4000, 1), dtype))[1]
        assert db.dtype == dtype
        np.testing.assert_allclose(tf.cast(db, tf.float32), [4000], rtol=1e-2)


@pytest.mark.parametrize("op", [add, concatenate])
def test_sum_and_concatenation_keep_shapes_alone(op):
    xs = inputs_of([(3, 4, 5), (3, 4, 5)])
    kept, seen = [], [op.pair(*xs)[1]]
    while seen:
        for cell in seen.pop().__closure__ or ():
            value = cell.cell_contents
            for v in value if isinstance(value, list) else [value]:
                seen += [v] if callable(v) and hasattr(v, "__closure__") else []
                kept += [v] if tf.is_tensor(v) else []
    assert not kept


def masked(masks):
    """Inputs of ones, twos, ... with the masks that a Masking layer would attach."""
    xs = []
    for i, mask in enumerate(masks):
        x = np.full((1, 3, 2), i + 2.0, "float32")
        xs.append(tf.constant(x))
        if mask is not None:
            x[0, ~np.array(mask)] = 0
            xs[-1] = keras.layers.Masking()(x)
    return xs


@pytest.mark.parametrize("masks", [
    [[True, False, False], [True, True, False]],
    [[True, False, True], None],
    [None, None],
    [[False, True, False], [False, False, True], [True, False, False]],
], ids=str)
@pytest.mark.parametrize("name", ["Add", "Multiply", "Concatenate"])
def test_masks_are_those_of_keras(name, masks):
    ours, stock = getattr(merging, name)(), getattr(keras.layers, name)()
    results = []
    for layer in (ours, stock):
        xs = masked(masks)
        y, *dxs = gradients(layer, xs, None)
        mask = keras.src.backend.get_keras_mask(y)
        results.append([y, *dxs, np.array(-1) if mask is None else mask])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_product_with_masks_in_numbers():
    x1, x2 = masked([[True, False, False], [True, True, False]])
    np.testing.assert_array_equal(Multiply()([x1, x2])[0, :, 0], [6, 3, 0])
    y, backward = fill.pair(tf.constant([1.0, 2.0]), tf.constant([True, False]), value=7)
    np.testing.assert_array_equal(y, [1, 7])
    np.testing.assert_array_equal(backward(tf.constant([3.0, 4.0]))[0], [3, 0])


@pytest.mark.parametrize("name", ["Add", "Multiply", "Concatenate"])
def test_integers_and_mixed_types_are_as_in_keras(name):
    ours, stock = getattr(merging, name)(), getattr(keras.layers, name)()
    whole = np.arange(6, dtype="int32").reshape(2, 3)
    for xs in ([whole, whole], [whole, whole.astype("float32") / 2]):
        a, b = ours(xs), stock(xs)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("layer", "shapes", "message"),
    [
        (Add(), [(2, 3), (2, 4)], "Inputs have incompatible shapes"),
        (Multiply(), [(2, 3), (4, 3)], "different batch sizes"),
        (Concatenate(), [(2, 3, 4), (2, 5, 4)], "matching shapes except for the concatenation"),
        (Add(), (2, 3), "should be called on a list of inputs. Received:"),
    ],
    ids=str,
)
def test_wrong_inputs_are_named(layer, shapes, message):
    with pytest.raises(ValueError, match=message):
        layer([tf.ones(s) for s in shapes] if isinstance(shapes, list) else tf.ones(shapes))
