"""Every promise, run over the one table of all layers and losses."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import custom_layers
from custom_layers.examples import LAYERS, LOSSES, spread

OURS_ALONE = {"GELU", "GaussianPooling2D", "L2Pooling2D", "LearnedCombination2D",
              "LocalResponseNormalization", "MaxPoolingWithIndices2D", "MaxUnpooling2D", "RBF",
              "RoIAlign", "RoIPooling", "ScaledTanh", "SiLU", "Sigmoid", "SparseConv2D",
              "SpatialPyramidPooling2D", "Step", "Subsampling2D", "Tanh"}
OURS_ACTIVATIONS = {"scaled_tanh"}
RANDOM = {"Dropout", "SpatialDropout2D"}
SELECTING = {"Concatenate", "Cropping2D", "Embedding", "Flatten", "MaxPooling2D", "Reshape",
             "ZeroPadding2D"}
OUR_ARGUMENTS = {"algorithm", "strict", "scale_at"}
CATALOGUE = {
    "Add", "AveragePooling2D", "BatchNormalization", "Concatenate", "Conv1D", "Conv2D",
    "Conv2DTranspose", "Cropping2D", "Dense", "DepthwiseConv2D", "Dropout", "Embedding", "Flatten",
    "GELU", "GRU", "GaussianPooling2D", "GlobalAveragePooling1D", "GlobalAveragePooling2D",
    "GlobalMaxPooling2D", "GroupNormalization", "L2Pooling2D", "LSTM", "LayerNormalization",
    "LeakyReLU", "LearnedCombination2D", "LocalResponseNormalization", "MaxPooling2D",
    "MaxPoolingWithIndices2D", "MaxUnpooling2D", "Multiply", "RBF", "ReLU", "Rescaling", "Reshape",
    "RoIAlign", "RoIPooling", "ScaledTanh", "SeparableConv2D", "SiLU", "Sigmoid", "Softmax",
    "SparseConv2D", "SpatialDropout2D", "SpatialPyramidPooling2D", "Step", "Subsampling2D", "Tanh",
    "UpSampling2D", "ZeroPadding2D",
    # Half squares; cross entropy; negative log likelihood; softmax or sigmoid with cross entropy
    # in one; smooth L1; focal; soft IoU; RBF's. Smoothed and ignored labels are settings of these.
    "HalfSquares", "CrossEntropy", "NegativeLogLikelihood", "SoftmaxCrossEntropy",
    "SigmoidCrossEntropy", "SmoothL1", "SigmoidFocalCrossEntropy", "SoftmaxJaccard",
    "MaximumAPosteriori",
}
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


def built(layer, example, seed=0, size=1.0):
    """The layer with weights that hide nothing (no ones, no zeros)."""
    if not layer.built:
        layer(*tensors(example), **training(layer, False))
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        if "seed" not in weight.path:
            weight.assign(size * rng.uniform(0.5, 1.5, weight.shape))
    return layer


def training(layer, value=True):
    return {"training": value} if layer._call_has_training_arg else {}


def gradients(layer, inputs, dy, **kwargs):
    """Output and gradients of the input and the weights; of a pair (y, indices), those of y."""
    xs = [x for x in tf.nest.flatten(inputs[0]) if x.dtype.is_floating]
    with tf.GradientTape() as tape:
        tape.watch(xs)
        y = tf.nest.flatten(layer(*inputs, **kwargs))[0]
    weights = [v.value for v in layer.trainable_variables]
    found = tape.gradient(y, [*xs, *weights], tf.cast(tf.broadcast_to(dy, tf.shape(y)), y.dtype))
    return [y, *(tf.convert_to_tensor(g) for g in found)]


def tensors(example, dtype="float32", batch=None):
    """The arguments of a call of the example, with another batch size where one is given."""
    return tf.nest.map_structure(
        lambda x: tf.constant(x, x.dtype if x.dtype.kind == "i" else dtype),
        example.inputs(batch),
    )


def output_shape(layer, inputs):
    """What the layer says of the shape of its (first) output."""
    shapes = [[tuple(t.shape) for t in x] if isinstance(x, list) else tuple(x.shape)
              for x in inputs]
    shape = layer.compute_output_shape(*shapes)
    return tuple(shape[0] if isinstance(shape[0], tuple) else shape)


def compiled(jit):
    return {"eager": gradients, "graph": tf.function(gradients, autograph=False),
            "xla": tf.function(gradients, autograph=False, jit_compile=True)}[jit]


def assert_close(ours, stock, tolerance=1e-5):
    for a, b in zip(ours, stock, strict=True):
        scale = np.abs(b).max() if np.size(b) else 0
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale + 1e-12)


def test_no_layer_is_missing():
    kinds = (keras.layers.Layer, keras.losses.Loss)
    ours = [getattr(custom_layers, name) for name in custom_layers.__all__]
    classes = {c.__name__ for c in ours if isinstance(c, type) and issubclass(c, kinds)}
    assert {e.name for e in LAYERS + LOSSES} == classes == CATALOGUE


@every_layer
def test_gradients_are_proven_in_every_mode(example):
    report = example.check(directions=2, elements=64)
    assert report.ok, report
    assert set(report.errors) == {"eager", "graph", "xla"}
    assert report.error <= 1e-6
    assert not report.kinks


@every_loss
def test_loss_gradients_are_proven_in_every_mode(example):
    report = example.check()
    assert report.ok, report
    assert report.error <= 1e-6


@pytest.mark.parametrize("example", LAYERS + LOSSES, ids=str)
def test_second_derivatives_are_right(example):
    report = example.check(second_order=True, modes=["graph"], directions=1, elements=32)
    assert report.ok, report
    assert report.error <= 1e-6


@has_twin
def test_equals_the_layer_of_keras(example):
    kwargs = {"training": True} if example.name == "BatchNormalization" else {}
    stock = getattr(keras.layers, example.name)(**stock_arguments(example))
    inputs = tensors(example)
    # Traced, not called: it lacks kernels for some settings on some processors.
    tf.function(lambda *x: stock(*x)).get_concrete_function(*inputs)
    built(stock, example)
    dy = np.random.default_rng(1).normal(size=output_shape(stock, inputs))
    # Keras computes channels first and dilated transposes on every processor under XLA alone,
    # and bicubic upsampling everywhere but there.
    peer = compiled("graph" if "bicubic" in str(example) else "xla")
    expected = peer(stock, inputs, dy, **kwargs)
    for mode in ("graph", "xla"):
        ours = built(example.layer(), example)
        found = compiled(mode)(ours, inputs, dy, **kwargs)
        if example.name in SELECTING:  # they only select: exactly equal
            np.testing.assert_array_equal(found[0], expected[0])
        assert_close(found, expected)
        assert_close(ours.non_trainable_variables, stock.non_trainable_variables)
        assert output_shape(ours, inputs) == found[0].shape


@every_layer
def test_config_and_file_bring_the_layer_back(example, tmp_path):
    layer = example.layer(name="it")
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()
    x = tensors(example)
    inputs = tf.nest.map_structure(lambda t: keras.Input(t.shape[1:], dtype=t.dtype.name), x)
    model = keras.Model(inputs, layer(*inputs))
    built(layer, example)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert type(again.get_layer("it")) is type(layer)
    for a, b in zip(tf.nest.flatten(model(x)), tf.nest.flatten(again(x)), strict=True):
        np.testing.assert_array_equal(a, b)


@every_layer
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision(example, policy):
    # Sums of the size they have in training: larger ones cost bfloat16 its few digits.
    layer = built(example.layer(dtype=policy), example, size=0.25)
    half = policy.removeprefix("mixed_")
    # Regions keep their precision: in half of it whole pixels would be lost.
    x, *others = tensors(example)
    inputs = tf.nest.map_structure(lambda t: tf.cast(t, half) if t.dtype.is_floating else t, x)
    dy = spread(output_shape(layer, [x, *others]), seed=1)
    found = compiled("graph")(layer, [inputs, *others], dy)
    assert found[0].dtype == half
    xs = [t for t in tf.nest.flatten(inputs) if t.dtype.is_floating]
    assert all(dx.dtype == half for _, dx in zip(xs, found[1:]))
    exact = compiled("graph")(built(example.layer(), example, size=0.25), [x, *others], dy)
    tolerance = 2.5e-3 if policy == "mixed_float16" else 2e-2
    for ours, wide in zip(found, exact, strict=True):
        scale = float(tf.reduce_max(tf.abs(wide)))
        ours = tf.cast(ours, tf.float32)
        np.testing.assert_allclose(ours, wide, rtol=tolerance, atol=tolerance * scale)


@every_layer
@pytest.mark.parametrize("batch", [1, 3], ids="batch{}".format)
def test_unknown_batch_size(example, batch):
    layer, inputs = built(example.layer(), example), tensors(example, batch=batch)
    spec = tf.nest.map_structure(lambda t: tf.TensorSpec((None, *t.shape[1:]), t.dtype), inputs)
    run = tf.function(lambda *x: gradients(layer, x, 1.0), spec, autograph=False)
    y, *found = run(*inputs)
    assert y.shape == output_shape(layer, inputs)
    xs = [t for t in tf.nest.flatten(inputs[0]) if t.dtype.is_floating]
    assert [dx.shape for _, dx in zip(xs, found)] == [x.shape for x in xs]
    assert all(np.isfinite(t).all() for t in [y, *found])


@every_layer
@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_empty_batch(example, mode):
    """An empty batch gives an empty output, no weight a gradient and no statistic a push."""
    layer, inputs = built(example.layer(), example), tensors(example, batch=0)
    state = [v.numpy() for v in layer.non_trainable_variables if "seed" not in v.path]
    dy = np.ones(output_shape(layer, inputs), "float32")
    y, *found = compiled(mode)(layer, inputs, dy, **training(layer))
    assert y.shape == dy.shape and y.shape[0] == 0
    xs = [t for t in tf.nest.flatten(inputs[0]) if t.dtype.is_floating]
    assert [dx.shape for _, dx in zip(xs, found)] == [x.shape for x in xs]
    for gradient in found:
        np.testing.assert_array_equal(gradient, np.zeros(gradient.shape))
    after = [v.numpy() for v in layer.non_trainable_variables if "seed" not in v.path]
    for a, b in zip(after, state, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "example", [e for e in LAYERS if len(e.shape) == 4 and isinstance(e.shape[0], int)
                and e.others is None and "toeplitz" not in str(e)
                and e.name not in ("Flatten", "BatchNormalization")], ids=str)
def test_unknown_height_and_width(example):
    layer, (x,) = built(example.layer(), example), tensors(example)
    known = [1] if any(a in str(example) for a in ("channels_first", "axis=1")) else [3]
    spec = tf.TensorSpec([n if i in known else None for i, n in enumerate(example.shape)])
    unknown = tf.function(lambda x: gradients(layer, [x], 1.0), [spec], autograph=False)(x)
    assert_close(unknown, gradients(layer, [x], 1.0))


@every_layer
def test_export_needs_none_of_our_code(example, tmp_path):
    layer, inputs = built(example.layer(), example), tensors(example)
    module = tf.Module()
    module.layer = layer
    module.call = tf.function(
        lambda *x: tf.nest.flatten(layer(*x, **training(layer, False)))[0], autograph=False)
    tf.saved_model.save(module, str(tmp_path),
                        signatures=module.call.get_concrete_function(*inputs))
    again = tf.saved_model.load(str(tmp_path))
    np.testing.assert_allclose(again.call(*inputs), module.call(*inputs), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "example, mode", [(e, "graph") for e in LAYERS] + [(e, "xla") for e in LAYERS
                                                       if e.name in RANDOM], ids=str)
def test_a_seed_makes_all_the_same_again(example, mode):
    """Weights, random masks, outputs and gradients, bit by bit."""
    runs = []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        layer, inputs = example.layer(), tensors(example)
        layer(*inputs, **training(layer, False))
        dy = spread(output_shape(layer, inputs), seed=1)
        runs.append([*layer.weights, *compiled(mode)(layer, inputs, dy, **training(layer))])
    for a, b in zip(*runs, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("example", [e for e in LAYERS if e.name not in RANDOM], ids=str)
def test_each_replica_of_a_strategy_computes_its_share(example):
    """Outputs and gradients on two devices are those of the two halves of the batch."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    alone = built(example.layer(), example)
    with strategy.scope():
        layer = built(example.layer(), example)
    inputs = tensors(example, batch=4)
    halves = [tf.nest.map_structure(lambda t, i=i: t[i:i + 2], inputs) for i in (0, 2)]
    shares = strategy.experimental_distribute_values_from_function(
        lambda context: halves[context.replica_id_in_sync_group])
    dy = spread(output_shape(layer, halves[0]), seed=1)
    step = tf.function(lambda x: gradients(layer, x, dy, **training(layer)), autograph=False)
    found = [strategy.experimental_local_results(t) for t in strategy.run(step, (shares,))]
    for half, own in zip(halves, zip(*found, strict=True), strict=True):
        assert_close(own, gradients(alone, half, dy, **training(alone)))
