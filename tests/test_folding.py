"""Batch normalisation folded into the layer before it: the same outputs from fewer layers."""

import inspect

import keras
import numpy as np
import pytest
from model_cases import small

import custom_layers
from app.averaging import averaged_views, ensemble
from app.folding import count_norms, folded
from app.models import MODELS

# Networks with batch normalisation, and how many are left: those after a sum or a concatenation.
LEFT = {"mlp": 0, "airbench": 0, "vgg-c-bn": 0, "resnet18": 0, "resnet50": 0, "resnet20": 0,
        "keras-resnet50": 0, "keras-resnet50v2": 17, "keras-densenet121": 62,
        "keras-mobilenet": 0, "keras-mobilenetv2": 0, "keras-mobilenetv3small": 0,
        "keras-efficientnetv2b0": 0, "keras-inceptionv3": 0}
MODULES = (keras.layers, custom_layers)


def randomize(model, least=0.5):
    """Gives batch normalisation weights from `least` to 1.5, and variances above 0."""
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(least if i != len(layer.weights) - 1 else 0.5, 1.5,
                                           w.shape) for i, w in enumerate(layer.weights)])
    return model


def images(shape, n=3):
    return np.random.default_rng(1).random((n, *shape), "float32")


def outputs(model, x):
    return [np.asarray(y) for y in keras.tree.flatten(model(x, training=False))]


def assert_equal(model, left):
    """`folded` gives the same outputs, `left` normalisations, and has changed nothing."""
    x = images(model.input_shape[1:])
    expected, weights = outputs(model, x), model.get_weights()
    result = folded(model)
    assert count_norms(result) == left
    for y, wanted in zip(outputs(result, x), expected, strict=True):
        assert np.abs(y - wanted).max() <= 1e-5 * max(1, np.abs(wanted).max())
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    for y, wanted in zip(outputs(model, x), expected, strict=True):
        np.testing.assert_array_equal(y, wanted)
    return result


def pair(layer, norm):
    x = keras.Input((9, 8, 4))
    return randomize(keras.Model(x, norm(layer(x))))


LAYERS = {
    "Conv2D": dict(filters=6, kernel_size=3, padding="same", strides=2),
    "Conv2D grouped": dict(filters=6, kernel_size=3, groups=2),
    "Conv2DTranspose": dict(filters=6, kernel_size=3, strides=2),
    "DepthwiseConv2D": dict(kernel_size=3, depth_multiplier=2),
    "SeparableConv2D": dict(filters=6, kernel_size=3, depth_multiplier=2),
    "Dense": dict(units=5),
}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("module", MODULES, ids=["keras", "ours"])
def test_each_linear_layer_takes_the_normalisation(module, name, bias):
    layer = getattr(module, name.split()[0])(
        **LAYERS[name], use_bias=bias, bias_initializer="random_normal",
        **({"kernel_constraint": "unit_norm"} if name == "Dense" else {}))
    for settings in ({}, {"scale": False}, {"center": False}):
        model = pair(layer, module.BatchNormalization(**settings))
        result = assert_equal(model, 0)
        assert len(result.layers) == 2
        layer = type(layer).from_config(layer.get_config())


@pytest.mark.parametrize("padding", [1, ((2, 0), (0, 1))])
def test_integer_padding_stays(padding):
    layer = custom_layers.Conv2D(6, 3, 2, padding)
    assert_equal(pair(layer, custom_layers.BatchNormalization()), 0)


@pytest.mark.parametrize("least, left", [(0.5, 0), (-0.5, 1)])
@pytest.mark.parametrize("module", MODULES, ids=["keras", "ours"])
def test_a_maximum_lets_only_positive_scales_through(module, least, left):
    x = keras.Input((9, 8, 4))
    y = module.MaxPooling2D(2)(module.Conv2D(16, 3)(x))
    model = randomize(keras.Model(x, module.BatchNormalization()(y)), least)
    assert_equal(model, left)


def test_a_mean_lets_any_scale_through():
    x = keras.Input((9, 8, 4))
    y = keras.layers.AveragePooling2D(3, 2, padding="same")(keras.layers.Conv2D(16, 3)(x))
    assert_equal(randomize(keras.Model(x, keras.layers.BatchNormalization()(y)), -0.5), 0)


def branching(kind):
    x = keras.Input((9, 8, 4))
    conv, norm = keras.layers.Conv2D(4, 3, padding="same"), keras.layers.BatchNormalization()
    if kind == "activation":
        return keras.Model(x, norm(keras.layers.Conv2D(4, 3, activation="relu")(x)))
    if kind == "used twice":
        y = conv(x)
        return keras.Model(x, keras.layers.Add()([y, norm(y)]))
    if kind == "an output too":
        y = conv(x)
        return keras.Model(x, [y, norm(y)])
    if kind == "shared convolution":
        return keras.Model(x, norm(conv(conv(x))))
    if kind == "shared normalisation":
        return keras.Model(x, norm(conv(norm(x))))
    if kind == "other axis":
        return keras.Model(x, keras.layers.BatchNormalization(axis=1)(conv(x)))
    if kind == "half precision":
        half = [keras.layers.Conv2D(4, 3, dtype="mixed_bfloat16"),
                keras.layers.BatchNormalization(dtype="mixed_bfloat16")]
        return keras.Model(x, half[1](half[0](x)))
    return keras.Model(x, norm(x))


@pytest.mark.parametrize("kind", ["activation", "used twice", "an output too", "shared convolution",
                                  "shared normalisation", "other axis", "half precision", "first"])
def test_what_cannot_be_folded_stays(kind):
    assert_equal(randomize(branching(kind)), 1)


def test_batch_statistics_in_inference_stay():
    x = keras.Input((9, 8, 4))
    y = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(x), training=True)
    assert count_norms(folded(keras.Model(x, y))) == 1


def test_a_model_inside_and_an_ensemble_are_folded():
    members = [randomize(small("resnet20")), randomize(small("vgg-c-bn", wide=0))]
    assert_equal(averaged_views(members[0], "flip"), 0)
    assert_equal(ensemble([members[0], randomize(small("resnet20"))]), 0)


def test_normalisation_of_the_images_is_copied():
    model = small("resnet20", statistics=([0.4, 0.5, 0.6], [0.2, 0.3, 0.1]))
    assert_equal(randomize(model), 0)
    adapted = keras.layers.Normalization()
    adapted.adapt(images((9, 8, 4), 20))
    x = keras.Input((9, 8, 4))
    y = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(adapted(x)))
    assert_equal(randomize(keras.Model(x, y)), 0)


def test_a_subclass_is_returned_as_it_is():
    class Own(keras.Model):
        def call(self, x):
            return x

    model = Own()
    assert folded(model) is model


@pytest.mark.parametrize("name", LEFT)
def test_networks_are_folded(name):
    settings = {"batch_norm": True} if name == "mlp" else {}
    assert_equal(randomize(small(name, **settings)), LEFT[name])


def test_no_network_with_batch_normalisation_is_missing():
    """Of each kind; the others differ by how many blocks there are."""
    kinds = {MODELS[name].function for name in LEFT}
    for name, network in MODELS.items():
        if "BatchNormalization" in inspect.getsource(inspect.getmodule(network.function)):
            assert network.function in kinds, name
