"""Every promise, run over the one table of all layers and losses."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import custom_layers
from custom_layers.examples import LAYERS, LOSSES, spread

OURS_ALONE = {"GELU", "GaussianPooling2D", "L2Pooling2D", "LearnedCombination2D",
              "LocalResponseNormalization", "RBF", "ScaledTanh", "SiLU", "Sigmoid",
              "SparseConv2D", "SpatialPyramidPooling2D", "Step", "Subsampling2D", "Tanh"}
# Two outputs, or an input that is no tensor of numbers to differentiate by: their promises are
# tested in test_unpooling.py, test_regions.py and test_embedding.py.
ELSEWHERE = {"Embedding", "MaxPoolingWithIndices2D", "MaxUnpooling2D", "RoIAlign", "RoIPooling"}
OURS_ACTIVATIONS = {"scaled_tanh"}
RANDOM = {"Dropout", "SpatialDropout2D"}
SELECTING = {"MaxPooling2D", "Flatten", "Concatenate", "Cropping2D", "Reshape", "ZeroPadding2D"}
OUR_ARGUMENTS = {"algorithm", "strict", "scale_at"}
every_layer = pytest.mark.parametrize("example", LAYERS, ids=str)
every_loss = pytest.mark.parametrize("example", LOSSES, ids=str)


def stock_arguments(example):
    """The example's arguments without ours, or None where Keras has no such layer or setting."""
    explicit = (example.name != "ZeroPadding2D"
                and not isinstance(example.arguments.get("padding", ""), str))
    activation = example.arguments.get("activation")
    if (example.name in OURS_ALONE or explicit or "scale_at" in example.arguments
            or activation in OURS_ACTIVATIONS):
        return None
    return {k: v for k, v in example.arguments.items() if k not in OUR_ARGUMENTS}


has_twin = pytest.mark.parametrize(
    "example",
    [e for e in LAYERS if stock_arguments(e) is not None and e.name not in RANDOM],
    ids=str,
)


def built(layer, example, seed=0):
    """The layer with weights that hide nothing (no ones, no zeros)."""
    if not layer.built:
        layer.build(example.shape)
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        if "seed" not in weight.path:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return layer


def gradients(layer, x, dy, **kwargs):
    """Output, gradients of the input and the weights, and the state after the call."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, **kwargs)
    weights = [v.value for v in layer.trainable_variables]
    return [y, *tf.nest.flatten(tape.gradient(y, [x, *weights], tf.cast(dy, y.dtype)))]


def tensors(example, dtype=tf.float32, batch=None):
    """The example's input (or list of inputs), with another batch size where one is given."""
    shapes = example.each(lambda s: (batch or s[0], *s[1:]))
    return tf.nest.map_structure(lambda x: tf.cast(x, dtype), spread(shapes))


def compiled(jit):
    return {"eager": gradients, "graph": tf.function(gradients),
            "xla": tf.function(gradients, jit_compile=True)}[jit]


def assert_close(ours, stock, tolerance=1e-5):
    for a, b in zip(ours, stock, strict=True):
        scale = np.abs(b).max() if np.size(b) else 0
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale + 1e-12)


def test_no_layer_is_missing():
    kinds = (keras.layers.Layer, keras.losses.Loss)
    ours = [getattr(custom_layers, name) for name in custom_layers.__all__]
    classes = {c.__name__ for c in ours if isinstance(c, type) and issubclass(c, kinds)}
    assert {e.name for e in LAYERS + LOSSES} | ELSEWHERE == classes


@every_layer
def test_gradients_are_proven_in_every_mode(example, gradient_check):
    report = gradient_check(example.layer(), spread(example.shape), directions=2, elements=64)
    assert set(report.errors) == {"eager", "graph", "xla"}
    assert report.error <= 1e-6
    assert not report.kinks


@every_loss
def test_loss_gradients_are_proven_in_every_mode(example, gradient_check):
    targets = np.abs(spread(example.shape, seed=1)) / 2
    assert gradient_check(example.layer(), [targets, spread(example.shape)]).error <= 1e-6


@has_twin
@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_equals_the_layer_of_keras(example, mode):
    stock = built(getattr(keras.layers, example.name)(**stock_arguments(example)), example)
    ours = built(example.layer(), example)
    kwargs = {"training": True} if example.name == "BatchNormalization" else {}
    x = tensors(example)
    dy = np.random.default_rng(1).normal(size=stock.compute_output_shape(example.shape))
    run = compiled(mode)
    # Keras has no bicubic upsampling under XLA.
    peer = compiled("graph") if "bicubic" in str(example) else run
    a, b = run(ours, x, dy, **kwargs), peer(stock, x, dy, **kwargs)
    if example.name in SELECTING:  # they only select: exactly equal
        np.testing.assert_array_equal(a[0], b[0])
    assert_close(a, b)
    assert_close(ours.non_trainable_variables, stock.non_trainable_variables)
    assert ours.compute_output_shape(example.shape) == a[0].shape


@every_layer
def test_config_and_file_bring_the_layer_back(example, tmp_path):
    layer = example.layer(name="it")
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()
    inputs = example.each(lambda s: keras.Input(s[1:]))
    model = keras.Model(inputs, layer(inputs))
    built(layer, example)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert type(again.get_layer("it")) is type(layer)
    x = tensors(example)
    np.testing.assert_array_equal(model(x), again(x))


@every_layer
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision(example, policy):
    layer = built(example.layer(dtype=policy), example)
    half = policy.removeprefix("mixed_")
    x = tensors(example, half)
    dy = spread(layer.compute_output_shape(example.shape), seed=1)
    y, dx, *others = compiled("graph")(layer, x, dy)
    assert y.dtype == dx.dtype == half
    wide = built(example.layer(), example)
    expected = compiled("graph")(wide, tensors(example), dy)
    tolerance = 5e-3 if policy == "mixed_float16" else 4e-2
    for ours, exact in zip([y, dx, *others], expected):
        scale = float(tf.reduce_max(tf.abs(exact)))
        ours = tf.cast(ours, tf.float32)
        np.testing.assert_allclose(ours, exact, rtol=tolerance, atol=tolerance * scale)


@every_layer
@pytest.mark.parametrize("batch", [1, 3], ids="batch{}".format)
def test_unknown_batch_size(example, batch):
    layer = built(example.layer(), example)
    spec = example.each(lambda s: tf.TensorSpec((None, *s[1:]), tf.float32))
    run = tf.function(lambda x: gradients(layer, x, tf.ones_like(layer(x))),
                      input_signature=[spec])
    x = tensors(example, batch=batch)
    y, *gradient = run(x)
    assert y.shape == layer.compute_output_shape(example.each(lambda s: (batch, *s[1:])))
    for part, dx in zip(tf.nest.flatten(x), gradient):
        assert dx.shape == part.shape
    assert all(np.isfinite(t).all() for t in [y, *gradient])


@pytest.mark.parametrize(
    "example", [e for e in LAYERS if len(e.shape) == 4 and isinstance(e.shape[0], int)
                and "toeplitz" not in str(e)
                and e.name not in ("Flatten", "BatchNormalization")], ids=str)
def test_unknown_height_and_width(example):
    layer = built(example.layer(), example)
    known = [1] if any(a in str(example) for a in ("channels_first", "axis=1")) else [3]
    spec = tf.TensorSpec([n if i in known else None for i, n in enumerate(example.shape)])
    x = tensors(example)
    unknown = tf.function(lambda x: gradients(layer, x, tf.ones_like(layer(x))), [spec])(x)
    assert_close(unknown, gradients(layer, x, tf.ones_like(layer(x))))


@every_layer
def test_export_needs_none_of_our_code(example, tmp_path):
    layer = built(example.layer(), example)
    x = tensors(example)
    module = tf.Module()
    module.layer, module.call = layer, tf.function(lambda x: layer(x, **no_training(layer)))
    tf.saved_model.save(module, str(tmp_path), signatures=module.call.get_concrete_function(x))
    again = tf.saved_model.load(str(tmp_path))
    signature = again.signatures["serving_default"]
    names = sorted(signature.structured_input_signature[1])
    y, = signature(**dict(zip(names, tf.nest.flatten(x)))).values()
    np.testing.assert_allclose(y, layer(x, **no_training(layer)), rtol=1e-6, atol=1e-6)


def no_training(layer):
    return {"training": False} if layer._call_has_training_arg else {}
