"""Max pooling with indices, and unpooling: NumPy, TensorFlow's argmax, errors."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers.examples import spread
from custom_layers.pooling import max_pool
from custom_layers.unpooling import (
    MaxPoolingWithIndices2D,
    MaxUnpooling2D,
    max_pool_with_indices,
    max_unpool,
)

SETTINGS = [
    {"pool_size": size, "strides": strides, "padding": padding}
    for size, strides in [((2, 2), (2, 2)), ((3, 3), (2, 2)), ((3, 2), (2, 1)), ((2, 2), (3, 3))]
    for padding in ["valid", "same"]
]
every_setting = pytest.mark.parametrize("settings", SETTINGS, ids=str)
modes = pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
IMAGE = (2, 7, 9, 3)


def naive_unpool(y, indices, size):
    x = np.zeros((y.shape[0], size[0] * size[1], y.shape[3]))
    for n, p, q, c in np.ndindex(y.shape):
        x[n, indices[n, p, q, c], c] += y[n, p, q, c]
    return x.reshape(y.shape[0], *size, y.shape[3])


@modes
@every_setting
def test_pooling_says_where_the_maximum_was(settings, jit):
    x = spread(IMAGE)
    op = tf.function(functools.partial(max_pool_with_indices, **settings), jit_compile=jit)
    y, indices = (t.numpy() for t in op(x))
    (kh, kw), (sh, sw) = settings["pool_size"], settings["strides"]
    expected, argmax = tf.nn.max_pool_with_argmax(
        x, (kh, kw), (sh, sw), settings["padding"].upper(), include_batch_in_index=False)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(indices, argmax // 3)
    flat = x.reshape(2, 63, 3)
    np.testing.assert_array_equal(
        y, np.take_along_axis(flat, indices.reshape(2, -1, 3), 1).reshape(y.shape))


@modes
@every_setting
def test_unpooling(settings, jit):
    indices = max_pool_with_indices(spread(IMAGE), **settings)[1]
    y = spread(indices.shape, seed=1)
    op = tf.function(functools.partial(max_unpool, output_size=(7, 9), **settings),
                     jit_compile=jit)
    np.testing.assert_allclose(op(y, indices), naive_unpool(y, indices, (7, 9)), atol=1e-12)


@every_setting
def test_gradients(settings, gradient_check):
    x = spread((2, 5, 6, 2))
    check = functools.partial(gradient_check, directions=2, elements=64, second_order=True)
    assert check(MaxPoolingWithIndices2D(**settings), x).error <= 1e-6
    indices = max_pool_with_indices(x, **settings)[1]
    unpool = functools.partial(max_unpool, output_size=(5, 6), **settings)
    assert check(lambda y: unpool(y, indices), [spread(indices.shape)]).error <= 1e-6


@pytest.mark.parametrize("settings", SETTINGS[:4], ids=str)
def test_channels_first_has_the_same_indices(settings, gradient_check):
    x = spread(IMAGE)
    y, indices = max_pool_with_indices(x, **settings)
    first = {"data_format": "channels_first", **settings}
    y1, indices1 = max_pool_with_indices(x.transpose(0, 3, 1, 2), **first)
    np.testing.assert_array_equal(y1, tf.transpose(y, (0, 3, 1, 2)))
    np.testing.assert_array_equal(indices1, tf.transpose(indices, (0, 3, 1, 2)))
    last = max_unpool(y, indices, output_size=(7, 9), **settings)
    unpooled = max_unpool(y1, indices1, output_size=(7, 9), **first)
    np.testing.assert_array_equal(unpooled, tf.transpose(last, (0, 3, 1, 2)))
    gradient_check(MaxPoolingWithIndices2D(**first), x.transpose(0, 3, 1, 2), elements=32)


@pytest.mark.parametrize("jit", [None, False, True], ids=["eager", "graph", "xla"])
def test_the_first_of_equals_wins_and_takes_the_gradient(jit):
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, indices = MaxPoolingWithIndices2D()(x)
        return indices, tape.gradient(y, x)

    run = run if jit is None else tf.function(run, jit_compile=jit)
    indices, dx = run(tf.ones((1, 4, 4, 1)))
    np.testing.assert_array_equal(indices[0, :, :, 0], [[0, 2], [8, 10]])
    expected = np.zeros((4, 4))
    expected[::2, ::2] = 1
    np.testing.assert_array_equal(dx[0, :, :, 0], expected)


def test_equals_max_pooling():
    x = tf.constant(spread((2, 8, 8, 3)))
    (y, _), backward = max_pool_with_indices.pair(x)
    expected, expected_backward = max_pool.pair(x)
    dy = tf.constant(spread(y.shape, seed=1))
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(backward(dy, None), expected_backward(dy))


def test_overlapping_windows_that_share_a_winner_add():
    x = np.zeros((1, 3, 3, 1))
    x[0, 1, 1] = 1
    settings = {"pool_size": (2, 2), "strides": (1, 1)}
    y, indices = max_pool_with_indices(x, **settings)
    np.testing.assert_array_equal(max_unpool(y, indices, output_size=(3, 3), **settings), 4 * x)


def test_keeps_a_byte_a_window():
    x = tf.constant(spread((2, 8, 8, 3), dtype="float32"))
    (y, indices), backward = max_pool_with_indices.pair(x)
    _, unpool_backward = max_unpool.pair(y, indices, output_size=(8, 8))
    for function in (backward, unpool_backward):
        kept = [c.cell_contents for c in function.__closure__ if tf.is_tensor(c.cell_contents)]
        assert [(t.dtype, t.shape) for t in kept] == [(tf.uint8, (2, 4, 4, 3))]


def network(size=(8, 10), output_size=None):
    image = keras.Input((*size, 3), name="image")
    y, indices = MaxPoolingWithIndices2D(name="pool")(image)
    y = keras.layers.Dense(3, name="between")(y)
    return keras.Model(image, MaxUnpooling2D(name="unpool")(y, indices, output_size=output_size))


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_in_a_model_under_every_policy(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    try:
        model = network((7, 9), (7, 9))
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.output_shape == (None, 7, 9, 3)
    assert model.get_layer("pool").output[1].dtype == "int64"
    x = spread((4, 7, 9, 3), dtype="float32")
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(x), model(x))
    model.compile("sgd", "mse")
    assert np.isfinite(model.fit(x, x, verbose=0).history["loss"]).all()


@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("settings", SETTINGS[:4], ids=str)
def test_unknown_sizes(settings, batch):
    pool, unpool = MaxPoolingWithIndices2D(**settings), MaxUnpooling2D(**settings)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))])
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, indices = pool(x)
            z = unpool(y, indices, output_size=tf.unstack(tf.shape(x)[1:3]))
        return z, tape.gradient(z, x)

    x = spread((batch, 7, 9, 3), dtype="float32")
    z, dx = run(x)
    assert z.shape == dx.shape == x.shape
    y, indices = pool(x)
    np.testing.assert_allclose(z, naive_unpool(y.numpy(), indices.numpy(), (7, 9)), rtol=1e-6)


def test_the_default_size_is_the_smallest_image_of_these_windows():
    y, indices = tf.zeros((1, 3, 4, 1)), tf.zeros((1, 3, 4, 1), tf.int64)
    assert MaxUnpooling2D(3, 2).compute_output_shape(y.shape, indices.shape) == (1, 7, 9, 1)
    assert MaxUnpooling2D(3, 2, "same").compute_output_shape(y.shape) == (1, 6, 8, 1)
    assert MaxUnpooling2D(2).compute_output_shape((None, None, 4, 2)) == (None, None, 8, 2)


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_indices_of_another_pooling(mode):
    y, indices = max_pool_with_indices(spread((2, 7, 9, 3), dtype="float32"))
    layer = MaxUnpooling2D(name="up")

    def unpool(y, indices, output_size=None):
        call = functools.partial(layer, output_size=output_size)
        return (call if mode == "eager" else tf.function(call))(y, indices)

    with pytest.raises(ValueError, match=r"`indices` of layer up .*indices.shape=\(2, 3, 3, 3\)"):
        unpool(y, indices[:, :, :3])
    with pytest.raises(ValueError, match="Received: indices.dtype=float32"):
        unpool(y, tf.cast(indices, tf.float32))
    with pytest.raises(ValueError, match=r"`output_size` of layer up .*output_size=\(5, 9\)"):
        unpool(y, indices, output_size=(5, 9))
    error = ValueError if mode == "eager" else tf.errors.InvalidArgumentError
    with pytest.raises(error, match="these come from another pooling"):
        unpool(y, indices)  # of a 6 x 8 image, not of 7 x 9
    for wrong in (-1, 10**6):
        with pytest.raises(error, match="these come from another pooling"):
            unpool(y, tf.fill(y.shape, tf.constant(wrong, tf.int64)), output_size=(7, 9))


def test_under_xla_a_wrong_index_is_dropped():
    indices = tf.constant([[0, 7]], tf.int64)[:, None, :, None]
    op = tf.function(functools.partial(max_unpool, output_size=(2, 4)), jit_compile=True)
    y = op(tf.ones((1, 1, 2, 1)), indices + tf.constant([0, -7], tf.int64)[:, None])
    np.testing.assert_array_equal(y[0, :, :, 0], [[1, 0, 0, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize("layer", [MaxPoolingWithIndices2D, MaxUnpooling2D])
def test_arguments(layer):
    with pytest.raises(ValueError, match="`pool_size` must .*Received: pool_size=-2"):
        layer(-2)
    with pytest.raises(ValueError, match="does not fit into its image"):
        MaxPoolingWithIndices2D(5)(tf.ones((1, 4, 4, 1)))
