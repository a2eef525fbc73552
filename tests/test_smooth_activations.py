"""SiLU, GELU and the scaled hyperbolic tangent: formulas, Keras's functions, names."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers.convolution import Conv2D
from custom_layers.dense import Dense
from custom_layers.examples import spread
from custom_layers.smooth_activations import GELU, ScaledTanh, SiLU, gelu, scaled_tanh, silu

erf = np.vectorize(math.erf)
LAYERS = [SiLU(), GELU(), GELU(approximate=True), ScaledTanh(), ScaledTanh(2.0, 0.4)]
every_layer = pytest.mark.parametrize(
    "layer", LAYERS, ids=["silu", "gelu", "gelu tanh", "scaled tanh", "scaled tanh 2, 0.4"])


@pytest.mark.parametrize(
    ("layer", "formula"),
    list(zip(LAYERS, [
        lambda x: x / (1 + np.exp(-x)),
        lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
        lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3))) / 2,
        lambda x: 1.7159 * np.tanh(2 / 3 * x),
        lambda x: 2 * np.tanh(0.4 * x),
    ])),
)
def test_formulas(layer, formula):
    x = 3 * spread((4, 5))
    twin = type(layer).from_config({**layer.get_config(), "dtype": "float64"})
    np.testing.assert_allclose(twin(x), formula(x), rtol=1e-12, atol=1e-14)


@every_layer
def test_gradients_and_second_derivatives(layer, gradient_check):
    gradient_check(layer, 2 * spread((4, 9)), directions=2, elements=64, second_order=True)


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize(
    ("ours", "stock"),
    [(silu, keras.activations.silu), (gelu, keras.activations.gelu),
     (lambda x: gelu(x, approximate=True), lambda x: keras.activations.gelu(x, True))],
    ids=["silu", "gelu", "gelu tanh"],
)
def test_equals_keras(ours, stock, jit):
    @tf.function(jit_compile=jit)
    def run(function, x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return y, tape.gradient(y, x, dy)

    x, dy = (tf.constant(3 * spread((4, 50), seed), tf.float32) for seed in (0, 1))
    for a, b in zip(run(ours, x, dy), run(stock, x, dy)):
        # Far below 0 the 1 + tanh and 1 + erf of Keras lose their last digits.
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())


def test_scaled_tanh_maps_one_to_one():
    np.testing.assert_allclose(scaled_tanh([-1.0, 0.0, 1.0]), [-1, 0, 1], atol=1e-4)
    np.testing.assert_allclose(scaled_tanh([-50.0, 50.0]), [-1.7159, 1.7159], rtol=1e-6)


@every_layer
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_far_from_zero_nothing_is_lost(layer, dtype):
    """The slope is 0 or 1 (saturated: 0) out there, never NaN."""
    layer = type(layer).from_config({**layer.get_config(), "dtype": dtype})
    x = tf.cast([-30000.0, -300.0, -60.0, 0.0, 60.0, 300.0, 30000.0], dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    dx = tf.cast(tape.gradient(y, x), tf.float64).numpy()
    right = 0 if isinstance(layer, ScaledTanh) else 1
    np.testing.assert_allclose(dx[:3], 0, atol=1e-6)
    np.testing.assert_allclose(dx[4:], right, atol=1e-6)
    assert np.isfinite(tf.cast(y, tf.float64)).all()


@pytest.mark.parametrize("op", [silu, gelu, scaled_tanh], ids=lambda op: op.__name__)
def test_one_tensor_is_kept(op):
    x = tf.constant(spread((4, 9), dtype="float32"))
    y, backward = op.pair(x)
    cells = [c.cell_contents for c in backward.__closure__]
    kept, = [t for t in cells if tf.is_tensor(t)]
    assert kept is (y if op is scaled_tanh else x)


@pytest.mark.parametrize(("name", "op"), [("silu", silu), ("swish", silu), ("gelu", gelu),
                                          (scaled_tanh, scaled_tanh)])
@pytest.mark.parametrize(("layer", "arguments", "shape"), [
    (Dense, {"units": 3}, (4, 5)), (Conv2D, {"filters": 3, "kernel_size": 2}, (2, 4, 4, 3)),
])
def test_names_work_in_layers(layer, arguments, shape, name, op, tmp_path, gradient_check):
    active, bare = layer(activation=name, **arguments), layer(**arguments)
    gradient_check(active, spread(shape), directions=2, elements=32, modes=["graph"])
    model = keras.Sequential([keras.Input(shape[1:]), active])
    bare.build(shape)
    bare.set_weights(model.get_weights())
    x = tf.constant(spread(shape), tf.float32)
    np.testing.assert_allclose(model(x), op(bare(x)), rtol=1e-5, atol=1e-6)
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(x), model(x))


def test_scaled_tanh_needs_an_amplitude():
    with pytest.raises(ValueError, match="`amplitude` must not be 0. Received: amplitude=0"):
        ScaledTanh(0)


@every_layer
def test_masks_pass(layer):
    x = np.array([[[1.0], [0.0], [2.0]]], "float32")
    y = layer(keras.layers.Masking()(x))
    np.testing.assert_array_equal(y._keras_mask, [[True, False, True]])
