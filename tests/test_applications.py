"""Networks of `keras.applications` as trunks: given weights, what they expect, wrong input."""

import keras
import numpy as np
import pytest

from app.errors import UsageError
from app.models import build
from app.models.applications import APPLICATIONS
from app.transfer import statistics_of, transfer

SIDE = 32


def images(count=3, channels=3):
    return np.random.default_rng(0).random((count, SIDE, SIDE, channels), "float32")


def theirs(function, **settings):
    keras.utils.set_random_seed(3)
    model = getattr(keras.applications, function)(
        include_top=False, weights=None, input_shape=(SIDE, SIDE, 3), pooling="avg", **settings)
    rng = np.random.default_rng(1)
    for weight in model.weights:  # statistics too, so that none is left at its first value
        weight.assign(weight.numpy() + 0.1 * rng.random(weight.shape))
    return model


@pytest.mark.parametrize("name, function, settings, module", [
    ("keras-mobilenetv3small", "MobileNetV3Small", {"include_preprocessing": False}, None),
    ("keras-vgg16", "VGG16", {}, "vgg16"),
    pytest.param("keras-densenet121", "DenseNet121", {}, "densenet", marks=pytest.mark.slow),
    pytest.param("keras-efficientnetv2b0", "EfficientNetV2B0", {"include_preprocessing": False},
                 "torch", marks=pytest.mark.slow),
    pytest.param("keras-mobilenetv2", "MobileNetV2", {}, "mobilenet_v2", marks=pytest.mark.slow),
])
def test_weights_of_a_file_see_images_as_keras_gives_them(name, function, settings, module,
                                                          tmp_path):
    trunk = theirs(function, **settings)
    file = tmp_path / "notop.weights.h5"
    trunk.save_weights(file)
    model = build(name, (SIDE, SIDE, 3), 4, weights=str(file), statistics=([0.5] * 3, [0.2] * 3))
    if module == "torch":  # as inside of Keras's network, were its own preprocessing left in
        expected = (images() - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    elif module:
        expected = getattr(keras.applications, module).preprocess_input(255 * images())
    else:
        expected = 2 * images() - 1
    features = keras.Model(model.inputs, model.get_layer("logits").input)
    np.testing.assert_allclose(features.predict(images(), verbose=0),
                               trunk.predict(expected, verbose=0), rtol=1e-4, atol=1e-4)


def test_it_is_saved_transferred_and_frozen_layer_by_layer(tmp_path):
    model = build("keras-mobilenetv3small", (SIDE, SIDE, 3), 4, weight_decay=0.1)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(images(), verbose=0),
                               model.predict(images(), verbose=0), rtol=1e-5)
    assert len(again.losses) == len(model.losses) > 20
    other = build("keras-mobilenetv3small", (SIDE, SIDE, 3), 7)
    transfer(other, model, freeze=10)
    assert sum(not layer.trainable for layer in other.layers if layer.weights) == 10
    np.testing.assert_array_equal(other.get_layer("conv").kernel, model.get_layer("conv").kernel)


@pytest.mark.parametrize("shape, weights, message", [
    ((SIDE, SIDE, 1), "imagenet", "are for images of 3 channels. Received: 1"),
    ((SIDE, SIDE, 3), "nowhere.h5", "'imagenet' or a file of weights. Received: nowhere.h5"),
    ((16, SIDE, 3), None, "at least 32x32 pixels .* Received: 16x32.*--image-size 32"),
])
def test_bad_input(shape, weights, message):
    with pytest.raises(UsageError, match=message):
        build("keras-mobilenetv3small", shape, 4, weights=weights)


@pytest.mark.parametrize("name", ["keras-vgg16", "keras-mobilenetv3small"])
def test_a_trunk_with_given_weights_sees_images_alike_under_a_new_head(name, tmp_path):
    file = tmp_path / "notop.weights.h5"
    function, _, _, settings = APPLICATIONS[name.removeprefix("keras-")]
    theirs(function, **settings).save_weights(file)
    source = build(name, (SIDE, SIDE, 3), 4, weights=str(file))
    model = build(name, (SIDE, SIDE, 3), 7, statistics=statistics_of(source))
    transfer(model, source)
    ours, expected = (keras.Model(m.inputs, m.get_layer("logits").input).predict(
        images(), verbose=0) for m in (model, source))
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_weights_of_another_network_are_refused(tmp_path):
    file = tmp_path / "other.weights.h5"
    build("mlp", (8, 8, 1), 3).save_weights(file)
    with pytest.raises(UsageError, match="other.weights.h5 cannot be loaded into vgg16: "):
        build("keras-vgg16", (SIDE, SIDE, 3), 4, weights=str(file))
