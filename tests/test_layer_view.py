"""A model layer by layer: its steps, their arithmetic, an export that shows them."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from app.export import export
from app.layer_view import describe, walk
from app.models import build
from app.page.model_viewer import ModelViewer
from app.page.occlusion import occlusion
from app.page.packing import pack, pack_maps, unpack
from app.page.served_viewer import ServedViewer

LABELS = [str(i) for i in range(10)]


def image(shape=(8, 8, 1)):
    return np.random.default_rng(0).random(shape, np.float32)


@pytest.fixture(scope="module")
def lenet():
    return build("lenet5", (8, 8, 1), 10)


@pytest.fixture(scope="module")
def served(lenet, tmp_path_factory):
    folder = export(lenet, name="net", class_names=LABELS, to=tmp_path_factory.mktemp("exports"),
                    card={}, sample_images=image()[None], with_activations=True)
    return ServedViewer(tf.saved_model.load(str(folder)), folder)


def test_steps_end_in_what_the_model_gives_and_nested_models_are_opened():
    inside = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3, name="deep")])
    x = keras.Input((8, 8, 1))
    y = keras.layers.Flatten()(keras.layers.Dropout(0.5)(inside(x)))
    model = keras.Model(x, keras.layers.Dense(3)(keras.layers.concatenate([y, y])))
    images = tf.constant(image()[None])
    steps = walk(model, images)
    assert [step.layer.name for step in steps][0] == "deep" and len(steps) == 5
    assert [step.inputs for step in steps] == [[-1], [0], [1], [2, 2], [3]]
    np.testing.assert_array_equal(steps[-1].output, model(images, training=False))


def test_augmentation_is_off():
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.RandomFlip(seed=1),
                              keras.layers.Flatten(), keras.layers.Dense(2)])
    images = tf.constant(image()[None])
    np.testing.assert_array_equal(walk(model, images)[0].output, images)


def computed(told, x):
    """What the page computes of a layer, by its description alone; x (H, W, C) or (N,)."""
    kernel = told["kernel"] and unpack(told["kernel"])
    bias = unpack(told["bias"]) if told["bias"] else 0
    settings = told["settings"]
    if told["kind"] == "dense":
        return x @ kernel + bias
    if told["kind"] == "reshape":
        return x.reshape(told["shape"])
    (top, bottom), (left, right) = settings["pads"]
    fill = 0 if kernel is not None else np.nan
    x = np.pad(x, ((top, bottom), (left, right), (0, 0)), constant_values=fill)
    (h, w), (sh, sw), (dh, dw) = settings["window"], settings["strides"], settings["dilation"]
    windows = np.lib.stride_tricks.sliding_window_view(
        x, ((h - 1) * dh + 1, (w - 1) * dw + 1), (0, 1))[::sh, ::sw, :, ::dh, ::dw]
    if told["kind"] == "max":
        return np.nanmax(windows, (3, 4)).reshape(told["shape"])
    if told["kind"] == "average":
        return np.nanmean(windows, (3, 4)).reshape(told["shape"])
    if told["kind"] == "depthwise":
        y = np.einsum("yxchw,hwcm->yxcm", windows, kernel)
        return y.reshape(told["shape"]) + bias
    groups = settings.get("groups", 1)
    parts = zip(np.split(windows, groups, 2), np.split(kernel, groups, 3))
    return np.concatenate([np.einsum("yxchw,hwco->yxo", *part) for part in parts], -1) + bias


ACTIVATIONS = {"linear": lambda z: z, "relu": lambda z: np.maximum(z, 0), "tanh": np.tanh}


@pytest.mark.parametrize("name, shape", [
    ("lenet5", (8, 8, 1)), ("lenet5", (28, 28, 1)), ("lenet5-1998", (28, 28, 1)),
    ("simpleconvnet", (28, 28, 1)), ("resnet20", (16, 16, 3)), ("alexnet", (67, 67, 3)),
    ("airbench", (32, 32, 3)),
])
def test_the_description_computes_every_layer(name, shape):
    model = build(name, shape, 10, **({"width": 0.25} if name in ("resnet20", "alexnet") else {}))
    pixels, checked = image(shape), 0
    outputs = ModelViewer(model, name=name, labels=LABELS).look(pixels)[1]
    for told, output in zip(describe(model, shape), outputs, strict=True):
        assert told["shape"] == list(output.shape)
        if told["kind"] == "other" or (told["kernel_shape"] and not told["kernel"]):
            continue
        x = pixels if told["inputs"] == [-1] else outputs[told["inputs"][0]]
        activation = ACTIVATIONS[told["settings"].get("activation", "linear")]
        np.testing.assert_allclose(activation(computed(told, x)), output, rtol=1e-3, atol=1e-3)
        checked += 1
    assert checked >= 4


def test_large_weights_are_left_out():
    model = keras.Sequential([keras.Input((32, 32, 1)), keras.layers.Flatten(),
                              keras.layers.Dense(300), keras.layers.Dense(2)])
    _, large, small = describe(model, (32, 32, 1))
    assert large["kernel"] is None and large["kernel_shape"] == [1024, 300]
    assert unpack(small["kernel"]).shape == (300, 2)


def test_the_backward_pass_is_the_slope(lenet):
    viewer, x = ModelViewer(lenet, name="net", labels=LABELS), image()
    dx, gradients = viewer.backward(x, 3)
    assert [g.shape for g in gradients] == [y.shape for y in viewer.look(x)[1]]
    np.testing.assert_array_equal(gradients[-1], np.eye(10)[3])
    direction = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    logit = [lenet((x + e * direction)[None])[0, 3].numpy() for e in (1e-3, -1e-3)]
    np.testing.assert_allclose((dx * direction).sum(), (logit[0] - logit[1]) / 2e-3, rtol=2e-2)


def test_an_export_shows_what_the_model_does(lenet, served):
    x, viewer = image(), ModelViewer(lenet, name="net", labels=LABELS)
    probabilities, outputs = viewer.look(x)
    assert served.layers() == viewer.layers()
    assert (served.name, served.version, served.labels) == ("net", 1, tuple(LABELS))
    assert served.image_shape == (8, 8, 1) and served.backward is None
    np.testing.assert_allclose(served.look(x)[0], probabilities, atol=1e-5)
    for ours, model_s in zip(served.look(x)[1], outputs, strict=True):
        np.testing.assert_allclose(ours, model_s, atol=1e-4)
    names = [layer["output"] for layer in served.layers()]
    assert names == sorted(names) and names[1] == "001_C1"


def test_activations_store_each_weight_once_more(lenet, served, tmp_path):
    folder = export(lenet, name="plain", class_names=LABELS, to=tmp_path, card={},
                    sample_images=image()[None])
    plain = ServedViewer(tf.saved_model.load(str(folder)), folder)
    assert not plain.has_layers and plain.layers() == [] and plain.look(image())[1] == []
    assert not (folder / "assets.extra" / "layers.json").exists()
    # Elsewhere they are constants of the graph, folded.
    assert (len(served._model.weights), len(plain._model.weights)) == (len(lenet.weights), 0)


def test_occlusion_erases_what_it_says():
    x = np.zeros((8, 8, 1), np.float32)
    x[:2, :2] = 1

    def predict(images):
        there = images[:, :2, :2].mean((1, 2, 3))
        return np.stack([there, 1 - there], 1)

    found = occlusion(predict, x, 0)
    probability = np.array(found["probability"])
    assert found["patch"] == [3, 3] and found["tops"] == found["lefts"] == list(range(6))
    assert probability[0, 0] == 0 and probability[1, 1] == 0.75 and (probability[2:] == 1).all()
    assert found["best"][0][0] == 1 and found["best"][3][3] == 0
    assert (x[:2, :2] == 1).all()


def test_packed_arrays_are_bounded_and_come_back():
    values = image((3, 4, 5))
    np.testing.assert_array_equal(unpack(json.loads(json.dumps(pack(values)))), values)
    assert pack_maps(np.zeros((512, 512, 3)))["shape"] == [512, 512, 1]
