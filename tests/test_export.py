import io
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from app import images, layer_view
from app.errors import HandgradError, UsageError
from app.export import export
from app.publishing import publish as publish_version
from app.signatures import decode
from custom_layers.gradient import differentiable

CLASSES = ("zero", "één", "two")


@differentiable
def square(x):
    return x * x, lambda dy: 2 * x * dy


class Square(keras.layers.Layer):
    def call(self, x):
        return square(x)


class Interrupt(keras.layers.Layer):
    """Ctrl-C while the export is being written: its call in a graph is the export's."""

    def call(self, x):
        if not tf.executing_eagerly():
            raise KeyboardInterrupt
        return x


class OtherInGraph(keras.layers.Layer):
    def call(self, x):
        return x if tf.executing_eagerly() else x + 0.01 * tf.cumsum(tf.ones_like(x), axis=1)


class Python(keras.layers.Layer):
    """Works here, but not in a process without this function."""

    def call(self, x):
        return tf.ensure_shape(tf.py_function(lambda t: t, [x], x.dtype), x.shape)


def network(*last, shape=(12, 10, 1), dtype="float32"):
    with_policy = {"dtype": dtype}
    return keras.Sequential([
        keras.Input(shape, name="image"),
        keras.layers.RandomFlip(seed=1),
        keras.layers.RandomRotation(0.3, seed=1),
        keras.layers.Conv2D(4, 3, activation="relu", **with_policy),
        keras.layers.BatchNormalization(**with_policy),
        Square(**with_policy),
        keras.layers.Flatten(),
        keras.layers.Dropout(0.5, seed=1),
        keras.layers.Dense(len(CLASSES), **with_policy),
        *last,
    ])


def samples(n=3, shape=(12, 10, 1)):
    return np.random.default_rng(0).random((n, *shape), np.float32)


def arguments(model, to, **changed):
    given = dict(name="net", class_names=CLASSES, to=to, card={}, sample_images=samples())
    return dict(model=model, **(given | changed))


def probabilities(model, images):
    return tf.nn.softmax(tf.cast(model(images, training=False), "float32")).numpy()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A trained-looking model and its export, beside what killed exports have left."""
    to = tmp_path_factory.mktemp("saved_models")
    model = network()
    for variable in model.layers[3].variables:
        variable.assign(np.random.default_rng(1).uniform(0.5, 1.5, variable.shape))
    left = to / "net" / ".writing-killed" / "model"
    left.mkdir(parents=True)
    (left / "saved_model.pb").write_text("half")
    card = {"metrics": {"accuracy": 0.9876}, "data_set": "digits"}
    return model, export(**arguments(model, to, card=card))


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(str(exported[1]))


def test_layout_is_tensorflow_servings(exported):
    folder = exported[1]
    assert [path.name for path in folder.parent.iterdir()] == ["1"]
    assert (folder / "assets" / "labels.txt").read_text(encoding="utf-8") == "zero\néén\ntwo\n"
    assert (folder / "saved_model.pb").stat().st_mode & 0o444 == 0o444
    assert folder.stat().st_mode & 0o555 == 0o555


def test_weights_are_stored_once(exported):
    """As constants: the model has no variables to read."""
    model, folder = exported
    kernel = model.layers[-1].kernel.numpy().tobytes()
    assert sum(file.read_bytes().count(kernel) for file in folder.rglob("*.*")
               if file.is_file()) == 1


def test_no_path_of_this_machine_is_stored(exported):
    folder = exported[1]
    for file in folder.rglob("*"):
        if file.is_file():
            assert os.fsencode(folder.parent) not in file.read_bytes(), file


def test_predicts_as_the_model_with_augmentation_off(exported, loaded):
    model, _ = exported
    x = samples(5)
    first, second = (loaded.signatures["serving_default"](images=x) for _ in range(2))
    expected = probabilities(model, x)
    np.testing.assert_array_equal(first["probabilities"], second["probabilities"])
    np.testing.assert_allclose(first["probabilities"], expected, atol=1e-5)
    np.testing.assert_allclose(first["score"], expected.max(-1), atol=1e-5)
    labels = [label.decode() for label in first["label"].numpy()]
    assert labels == [CLASSES[i] for i in expected.argmax(-1)]
    assert set(first) == {"probabilities", "label", "score"}


@pytest.mark.parametrize("suffix, mode", [
    *(("png", mode) for mode in ("L", "RGB", "RGBA", "LA", "P", "1", "I;16")),
    *(("jpeg", mode) for mode in ("L", "RGB", "CMYK")),
    *(("bmp", mode) for mode in ("L", "RGB", "RGBA")),
    *(("gif", mode) for mode in ("L", "RGB", "P", "1")),
])
def test_decodes_as_the_data_was_decoded(suffix, mode):
    # Pillow rounds to whole intensities three times, and decodes JPEG in another way.
    tolerance = 4.5 if suffix == "jpeg" else 2.5
    for size in ((10, 12), (31, 17), (6, 40), (300, 200)):
        contents = encoded(suffix, mode, size)
        for channels in (1, 3):
            pixels = images.decode(contents, (12, 10), channels)
            decoded = decode(tf.constant(contents), 12, 10, channels) * 255
            np.testing.assert_allclose(decoded, pixels, atol=tolerance)


def encoded(suffix, mode, size):
    """A smooth coloured picture: decoders of JPEG differ more at sharp edges."""
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(255, 40, size[1]))
    if mode == "I;16":
        picture = Image.fromarray((x * 257).astype(np.uint16))
    else:
        colours = np.stack([x, y, (x + y) / 2], -1).astype(np.uint8)
        picture = Image.fromarray(colours).convert(mode)
    file = io.BytesIO()
    picture.save(file, suffix)
    return file.getvalue()


def test_card_says_what_was_given_and_what_is_known(exported):
    folder = exported[1] / "assets.extra"
    card = json.loads((folder / "model_card.json").read_text(encoding="utf-8"))
    assert card["name"] == "net" and card["version"] == 1
    assert card["metrics"] == {"accuracy": 0.9876} and card["data_set"] == "digits"
    assert card["classes"] == list(CLASSES)
    assert card["parameters"] == exported[0].count_params()
    assert card["versions"]["tensorflow"] == tf.__version__
    text = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert text.startswith("# net, version 1\n") and "accuracy: 0.9876" in text


@pytest.mark.parametrize("dtype", ["float64", "mixed_bfloat16"])
def test_other_precisions_in_colour_return_float32(dtype, tmp_path):
    shape = (6, 7, 3)
    model, x = network(shape=shape, dtype=dtype), samples(shape=shape)
    folder = export(**arguments(model, tmp_path, sample_images=x))
    outputs = tf.saved_model.load(str(folder)).signatures["serving_default"]
    assert outputs.structured_outputs["probabilities"].dtype == tf.float32
    assert outputs.structured_outputs["score"].dtype == tf.float32


def test_two_exports_at_once_are_versions_1_and_2(tmp_path):
    models = [network(), network()]
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda model: export(**arguments(model, tmp_path)), models))
    assert sorted(folder.name for folder in folders) == ["1", "2"]
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == ["1", "2"]
    for model, folder in zip(models, folders):
        served = tf.saved_model.load(str(folder))
        outputs = served.signatures["serving_default"](images=samples())
        np.testing.assert_allclose(
            outputs["probabilities"], probabilities(model, samples()), atol=1e-5
        )


def test_published_versions_are_never_written_over(tmp_path):
    (tmp_path / "net" / "7").mkdir(parents=True)
    (tmp_path / "net" / "notes").mkdir()

    def publish(i):
        written = tmp_path / f"written{i}"
        written.mkdir()
        (written / "mine").write_text(str(i))
        return i, publish_version(written, tmp_path / "net", {"name": "net"})

    with ThreadPoolExecutor(16) as pool:
        published = dict(pool.map(publish, range(48)))
    assert sorted(int(folder.name) for folder in published.values()) == list(range(8, 56))
    for i, folder in published.items():
        assert (folder / "mine").read_text() == str(i)
        card = json.loads((folder / "assets.extra" / "model_card.json").read_text())
        assert card["version"] == int(folder.name)


@pytest.mark.parametrize("layer, reason", [
    (OtherInGraph, "away from the model's"),
    (Python, "ValueError: Could not find callback"),
])
def test_export_that_fails_its_check_leaves_nothing(layer, reason, tmp_path):
    with pytest.raises(HandgradError, match=reason) as raised:
        export(**arguments(network(layer()), tmp_path))
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change, reason", [
    (lambda found: {name: y + 0.01 * (name == max(found)) for name, y in found.items()},
     "of signature `activations` is 0.01 away from the model's"),
    (lambda found: dict(sorted(found.items())[1:]), "`activations` are not those of the model's"),
])
def test_activations_are_checked(change, reason, tmp_path, monkeypatch):
    """Where they alone are wrong."""
    def wrong(model, shape):
        right = layer_view.activations(model, shape)
        return tf.function(lambda images: change(right(images)),
                           input_signature=right.input_signature)

    monkeypatch.setattr("app.export.activations", wrong)
    with pytest.raises(HandgradError, match=reason):
        export(**arguments(network(), tmp_path), with_activations=True)
    assert list(tmp_path.iterdir()) == []


def test_interrupted_export_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        export(**arguments(network(Interrupt()), tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_target_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HandgradError, match="Not a directory") as raised:
        export(**arguments(network(), tmp_path / "file"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("options, reason", [
    ("size=400k", "No space left on device"),
    ("ro", "Read-only file system"),
])
def test_full_or_read_only_disk_leaves_nothing(options, reason, tmp_path):
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", tmp_path]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no right to mount a small file system here")
    try:
        big = keras.Sequential([
            keras.Input((12, 10, 1)), keras.layers.Flatten(),
            keras.layers.Dense(1000), keras.layers.Dense(len(CLASSES)),
        ])
        with pytest.raises(HandgradError, match=reason) as raised:
            export(**arguments(big, tmp_path))
        assert "\n" not in str(raised.value)
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_killed_export_leaves_no_version_and_the_next_cleans_up(tmp_path):
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_export as t; "
        "t.export(**t.arguments(t.network(), sys.argv[2]))"
    )
    command = [sys.executable, "-c", program, Path(__file__).parent, tmp_path]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    while not list(tmp_path.glob("net/.writing-*/model/saved_model.pb")):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert [path.name[:9] for path in (tmp_path / "net").iterdir()] == [".writing-"]

    export(**arguments(network(), tmp_path))
    assert [path.name for path in (tmp_path / "net").iterdir()] == ["1"]


@pytest.mark.parametrize("changed, message", [
    ({"name": "a/b"}, "Received: 'a/b'"),
    ({"name": "3"}, "numbers are versions"),
    ({"name": ".hidden"}, "Received: '.hidden'"),
    ({"class_names": ("a", "b")}, r"each of the 2 classes. Received: .* \(3, 3\) for 3 images"),
    ({"class_names": ("a", "a", "b")}, "distinct"),
    ({"class_names": ("a", "b\nc", "d")}, "on one line"),
    ({"sample_images": samples() * 255}, r"in \[0, 1\]. Received: values from"),
    ({"sample_images": samples(shape=(12, 10, 2))}, r"Received: \(3, 12, 10, 2\)"),
    ({"sample_images": samples(0)}, r"n > 0. Received: \(0, 12, 10, 1\)"),
])
def test_wrong_arguments_are_named(changed, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        export(**arguments(network(), tmp_path, **changed))
    assert list(tmp_path.iterdir()) == []


def test_model_that_predicts_nan_is_refused(tmp_path):
    model = network()
    model.layers[-1].bias.assign([0, np.nan, 0])
    with pytest.raises(HandgradError, match="NaN"):
        export(**arguments(model, tmp_path))
    assert list(tmp_path.iterdir()) == []
