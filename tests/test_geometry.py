"""ZeroPadding2D, Cropping2D, Reshape, Rescaling: NumPy, Keras's layers, adjoints."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers import geometry
from custom_layers.examples import spread
from custom_layers.geometry import Cropping2D, Rescaling, Reshape, ZeroPadding2D, crop, zero_pad

FIRST = "channels_first"
SIDES = [1, (1, 0), ((0, 2), (1, 0)), ((2, 1), (0, 0)), 0]
CASES = [(name, (2, 5, 6, 3), {argument: sides})
         for name, argument in (("ZeroPadding2D", "padding"), ("Cropping2D", "cropping"))
         for sides in SIDES]
CASES += [(name, (2, 3, 5, 6), {**arguments, "data_format": FIRST}) for name, _, arguments in CASES]
CASES += [
    ("Reshape", (2, 3, 4, 5), {"target_shape": (12, 5)}),
    ("Reshape", (2, 3, 4, 5), {"target_shape": (2, -1, 3)}),
    ("Reshape", (2, 3, 4), {"target_shape": (-1,)}),
    ("Reshape", (2, 1), {"target_shape": ()}),
    ("Rescaling", (2, 3, 4), {"scale": 0.5, "offset": -1}),
    ("Rescaling", (2, 3, 4), {"scale": 3}),
    ("Rescaling", (2, 5, 3), {"scale": [0.5, 1.0, 2.0], "offset": np.array([0.0, 1.0, 2.0])}),
]
every_case = pytest.mark.parametrize(("name", "shape", "arguments"), CASES, ids=str)


def gradients(layer, x, dy):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    return y, tape.gradient(y, x, dy)


@every_case
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_equals_keras_exactly(name, shape, arguments, jit):
    ours, stock = (getattr(m, name)(**arguments) for m in (geometry, keras.layers))
    x = tf.constant(spread(shape), tf.float32)
    dy = tf.constant(spread(stock.compute_output_shape(shape), 1), tf.float32)
    run = tf.function(gradients, jit_compile=jit)
    for a, b in zip(run(ours, x, dy), run(stock, x, dy)):
        if name == "Rescaling":
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
        else:
            np.testing.assert_array_equal(a, b)


@every_case
def test_gradients_and_second_derivatives(name, shape, arguments, gradient_check):
    gradient_check(getattr(geometry, name)(**arguments), spread(shape), directions=2, elements=48,
                   second_order=True)


@every_case
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_unknown_sizes_and_empty_batches(name, shape, arguments, batch):
    layer = getattr(geometry, name)(**arguments)
    known = {1} if arguments.get("data_format") == FIRST else {len(shape) - 1}
    spec = tf.TensorSpec([n if i in known else None for i, n in enumerate(shape)])
    run = tf.function(lambda x: gradients(layer, x, None), input_signature=[spec])
    x = tf.constant(spread((batch, *shape[1:])) if batch else np.zeros((0, *shape[1:])), tf.float32)
    y, dx = run(x)
    assert y.shape == layer.compute_output_shape(x.shape)
    np.testing.assert_allclose(y, layer(x))
    assert dx.shape == x.shape


@pytest.mark.parametrize("data_format", ["channels_last", FIRST])
def test_padding_and_cropping_in_numpy_and_adjoint(data_format):
    sides, axes = ((1, 2), (0, 3)), (1, 2) if data_format == "channels_last" else (2, 3)
    x = spread((2, 4, 5, 3) if axes == (1, 2) else (2, 3, 4, 5))
    widths = [(0, 0)] * 4
    for axis, side in zip(axes, sides):
        widths[axis] = side
    big, settings = np.pad(x, widths), {"data_format": data_format}
    np.testing.assert_array_equal(zero_pad(x, padding=sides, **settings), big)
    np.testing.assert_array_equal(crop(big, cropping=sides, **settings), x)
    dy = spread(big.shape, 1)
    padded, cropped = zero_pad(x, padding=sides, **settings), crop(dy, cropping=sides, **settings)
    np.testing.assert_allclose(np.vdot(padded, dy), np.vdot(x, cropped))


@pytest.mark.parametrize("arguments", [{"scale": 1 / 255}, {"scale": 2, "offset": 0.5}], ids=str)
def test_rescaling_makes_floats_of_bytes(arguments):
    x = np.arange(12, dtype="uint8").reshape(3, 4)
    y = Rescaling(**arguments)(x)
    assert y.dtype == tf.float32
    expected = x * arguments["scale"] + arguments.get("offset", 0.0)
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    data = tf.data.Dataset.from_tensor_slices(x).map(Rescaling(**arguments))
    np.testing.assert_allclose(np.stack([t.numpy() for t in data]), expected, rtol=1e-6)


def test_rescaling_of_channels_first_and_of_ragged_images():
    keras.config.set_image_data_format(FIRST)
    try:
        ours, stock = (m.Rescaling([1.0, 2.0, 3.0], 0.5) for m in (geometry, keras.layers))
        x = spread((2, 3, 4, 4), dtype="float32")
        np.testing.assert_array_equal(ours(x), stock(x))
    finally:
        keras.config.set_image_data_format("channels_last")
    ragged = tf.ragged.constant([[1.0, 2.0], [3.0]])
    np.testing.assert_array_equal(Rescaling(2.0).call(ragged).flat_values, [2.0, 4.0, 6.0])


def test_a_scale_wider_than_the_input_broadcasts_it(gradient_check):
    gradient_check(lambda x: geometry.rescale(x, scale=[1.0, 2.0, 3.0]), [spread((4, 1))])


@pytest.mark.parametrize("layer", [
    ZeroPadding2D(1), Cropping2D(1), Reshape((-1,)), Rescaling(0.5)], ids=lambda v: v.name)
def test_nothing_of_the_inputs_size_is_kept(layer):
    op, settings = {
        "ZeroPadding2D": (zero_pad, {}), "Cropping2D": (crop, {}),
        "Reshape": (geometry.reshape, {"target_shape": (-1,)}),
        "Rescaling": (geometry.rescale, {"scale": 2.0}),
    }[type(layer).__name__]
    _, backward = op.pair(tf.ones((2, 8, 8, 3)), **settings)
    kept = [c.cell_contents for c in backward.__closure__]
    assert all(tf.size(t) <= 4 for t in kept if tf.is_tensor(t))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ZeroPadding2D(-1), "`padding` cannot be negative. Received: padding="),
        (lambda: ZeroPadding2D((1, 2, 3)), "two elements. Received: padding="),
        (lambda: Cropping2D(-1), "`cropping` cannot be negative. Received: cropping=-1"),
        (lambda: Cropping2D(2)(tf.ones((1, 4, 5, 1))), "Received: .*cropping="),
        (lambda: Cropping2D(((0, 0), (3, 2)), data_format=FIRST)(tf.ones((1, 1, 4, 5))),
         "Received: .*cropping="),
        (lambda: Reshape((5, 2))(tf.ones((2, 3, 4))), "target_shape"),
        (lambda: Reshape((-1, -1)), "target_shape"),
        (lambda: ZeroPadding2D(1)(tf.ones((2, 3, 4))), "expected ndim=4, found ndim=3"),
    ],
)
def test_says_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()
