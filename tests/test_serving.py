import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from app import serving
from app.errors import HandgradError, UsageError
from app.export import export
from app.image_header import count_pixels
from app.serving import load

CLASSES = ("ant", "bée", "cat")
PNG_OF_20000_SQUARE = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + 2 * (20_000).to_bytes(4, "big") + b"\x08\x02\0\0\0"
)


@pytest.fixture(scope="module")
def model():
    return keras.Sequential([
        keras.Input((8, 9, 3)), keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.Flatten(), keras.layers.Dense(3),
    ])


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """The first version of an export, and beside it a folder 10 that is empty."""
    to = tmp_path_factory.mktemp("exports") / "saved_models"
    sample = np.zeros((1, 8, 9, 3), np.float32)
    return export(
        model, name="zoo", class_names=CLASSES, to=to, card={"seed": 7}, sample_images=sample
    )


@pytest.fixture(scope="module")
def zoo(folder):
    return load(folder)


@pytest.fixture
def copy(folder, tmp_path):
    """A copy of the export, to be damaged."""
    return Path(shutil.copytree(folder.parent, tmp_path / "saved_models" / "zoo"))


def picture(path, size=(9, 8), mode="RGB", seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)
    return pixels / np.float32(255)


def probabilities(model, images):
    return tf.nn.softmax(model(images, training=False)).numpy()


def test_predicts_arrays_in_batches(zoo, model):
    x = np.random.default_rng(0).random((2 * serving.BATCH + 1, 8, 9, 3))
    outputs = zoo.predict(x)
    expected = probabilities(model, x.astype(np.float32))
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-5)
    np.testing.assert_allclose(outputs["score"], expected.max(-1), atol=1e-5)
    assert outputs["label"].tolist() == [CLASSES[i] for i in expected.argmax(-1)]
    assert outputs["probabilities"].dtype == np.float32


def test_predicts_no_image(zoo):
    outputs = zoo.predict(np.empty((0, 8, 9, 3)))
    assert outputs["probabilities"].shape == (0, 3) and outputs["label"].shape == (0,)


def test_knows_what_it_is(zoo, folder):
    assert (zoo.name, zoo.version, zoo.folder) == ("zoo", 1, folder)
    assert (zoo.class_names, zoo.image_shape) == (CLASSES, (8, 9, 3))
    assert zoo.card["seed"] == 7


@pytest.mark.parametrize("images, message", [
    (np.zeros((2, 9, 8, 3)), r"\('N', 8, 9, 3\). Received: \(2, 9, 8, 3\)"),
    (np.zeros((8, 9, 3)), r"Received: \(8, 9, 3\)"),
    (np.full((1, 8, 9, 3), 255, np.uint8), "Received: uint8 from 255 to 255"),
    (np.full((1, 8, 9, 3), 1.5), "Received: float64 from 1.5 to 1.5"),
    (np.full((1, 8, 9, 3), np.nan), "from nan to nan"),
])
def test_wrong_arrays_are_named(zoo, images, message):
    with pytest.raises(UsageError, match=message):
        zoo.predict(images)


def test_predicts_files_and_folders_in_order(zoo, model, tmp_path):
    names = ["one.png", "album/a.bmp", "album/b/c.PNG"]
    pixels = [picture(tmp_path / name, seed=i) for i, name in enumerate(names)]
    (tmp_path / "album" / "notes.txt").write_text("no image")
    picture(tmp_path / "album" / ".hidden.png")
    rows = zoo.predict_files([tmp_path / "one.png", str(tmp_path / "album")])
    assert [row["file"] for row in rows] == [str(tmp_path / name) for name in names]
    for row, expected in zip(rows, probabilities(model, np.stack(pixels))):
        np.testing.assert_allclose(list(row["probabilities"].values()), expected, atol=1e-5)
        assert list(row["probabilities"]) == list(CLASSES)
        assert row["label"] == CLASSES[expected.argmax()]
        assert row["score"] == max(row["probabilities"].values())
    assert json.loads(json.dumps(rows)) == rows


def test_bad_files_are_named_and_the_others_predicted(zoo, tmp_path):
    picture(tmp_path / "good.png", (20, 30))
    picture(tmp_path / "grey.jpeg", mode="L")
    good = (tmp_path / "good.png").read_bytes()
    (tmp_path / "nothing").mkdir()
    palette = io.BytesIO()
    Image.open(tmp_path / "good.png").convert("P").save(palette, "BMP")
    bad = {
        "missing.png": (None, "No such file"),
        "nothing": (None, "no image in this folder"),
        "empty.png": (b"", "empty"),
        "text.png": (b"hello", "not a PNG, JPEG, BMP or GIF"),
        "short.png": (good[:20], "corrupt or truncated"),
        "truncated.png": (good[:-200], "corrupt or truncated"),
        "flipped.png": (good[:100] + b"\0\0\0\0" + good[104:], "corrupt or truncated"),
        "stub.jpg": (b"\xff\xd8\xff\xe0", "corrupt or truncated"),
        "palette.bmp": (palette.getvalue(), "colour palette"),
        "bomb.png": (PNG_OF_20000_SQUARE, "400000000 pixels, more than"),
    }
    for name, (contents, _) in bad.items():
        if contents is not None:
            (tmp_path / name).write_bytes(contents)
    files = [tmp_path / name for name in ("good.png", *bad, "grey.jpeg")]
    rows = zoo.predict_files(files)
    assert [row["file"] for row in rows] == [str(file) for file in files]
    assert "label" in rows[0] and "label" in rows[-1]
    for row, (_, reason) in zip(rows[1:-1], bad.values()):
        assert reason in row["error"] and "label" not in row


def test_files_are_batched_by_number_and_by_pixels(zoo, tmp_path, monkeypatch):
    files = [tmp_path / f"{i}.png" for i in range(9)]
    for i, file in enumerate(files):
        picture(file, (10, 10), seed=i)
    sizes, run = [], zoo._run
    monkeypatch.setattr(zoo, "_run", lambda s, values: sizes.append(len(values)) or run(s, values))
    alone = [zoo.predict_files([file])[0] for file in files]
    monkeypatch.setattr(serving, "BATCH", 4)
    sizes.clear()
    batched = zoo.predict_files(files)
    assert sizes == [4, 4, 1]
    monkeypatch.setattr(serving, "MAX_PIXELS", 250)
    sizes.clear()
    assert [row["label"] for row in zoo.predict_files(files)] == [row["label"] for row in alone]
    assert sizes == [2, 2, 2, 2, 1]
    for one, other in zip(alone, batched):
        assert one["label"] == other["label"] and abs(one["score"] - other["score"]) < 1e-6


def test_file_of_too_many_bytes_is_not_read(zoo, tmp_path):
    with open(tmp_path / "large.png", "wb") as file:
        file.truncate(serving.MAX_BYTES + 1)
    assert "more than" in zoo.predict_files([tmp_path / "large.png"])[0]["error"]


@pytest.mark.parametrize("suffix", ["PNG", "JPEG", "BMP", "GIF"])
def test_pixels_are_counted_from_the_header(suffix):
    file = io.BytesIO()
    Image.new("RGB", (31, 17)).save(file, suffix)
    assert count_pixels(file.getvalue()) == 31 * 17


def test_all_frames_of_a_gif_count():
    frames = [Image.new("L", (31, 17), shade) for shade in (0, 100, 200)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], comment=b"three")
    assert count_pixels(file.getvalue()) == 3 * 31 * 17


@pytest.mark.parametrize("suffix", ["PNG", "JPEG", "BMP", "GIF"])
def test_damaged_headers_are_value_errors(suffix):
    file = io.BytesIO()
    Image.new("RGB", (31, 17)).save(file, suffix)
    contents, generator = file.getvalue(), np.random.default_rng(0)
    for length in range(40):
        damaged = bytearray(contents[:generator.integers(3, len(contents))])
        damaged[generator.integers(3, len(damaged) + 1) - 1] ^= generator.integers(1, 256)
        try:
            assert count_pixels(bytes(damaged)) >= 0
        except ValueError as error:
            assert "image" in str(error)


def test_loads_the_newest_or_the_given_version(copy):
    shutil.copytree(copy / "1", copy / "10")
    shutil.copytree(copy / "1", copy / "9")
    (copy / ".writing-x").mkdir()
    assert load(copy).version == 10
    assert load(copy, version=9).version == 9
    assert load(str(copy / "1")).version == 1
    with pytest.raises(UsageError, match="is version 1, but 9 is asked for"):
        load(copy / "1", version=9)
    with pytest.raises(UsageError, match="Unknown version of .*zoo '3'.* Known: 1, 9, 10"):
        load(copy / "3")


def test_missing_export_says_what_there_is(copy):
    root = copy.parent
    with pytest.raises(UsageError, match="Did you mean '.*saved_models/zoo'"):
        load(root / "zooo")
    with pytest.raises(UsageError, match="Give one of the exports in it: zoo"):
        load(root)
    with pytest.raises(UsageError, match="none beside it"):
        load(root / "nowhere" / "zoo")
    with pytest.raises(UsageError, match="is a file"):
        load(copy / "1" / "saved_model.pb")


def remove(name):
    return lambda version: (version / name).unlink()


def truncate(name):
    def damage(version):
        contents = (version / name).read_bytes()
        (version / name).write_bytes(contents[:len(contents) // 2])

    return damage


def flip_a_weight(version):
    file = version / "variables" / "variables.data-00000-of-00001"
    contents = bytearray(file.read_bytes())
    contents[len(contents) // 2] ^= 1
    file.write_bytes(contents)


def other_labels(version):
    (version / "assets" / "labels.txt").write_text("ant\ncat\n")


@pytest.mark.parametrize("damage", [
    remove("saved_model.pb"),
    truncate("saved_model.pb"),
    remove("variables/variables.index"),
    remove("variables/variables.data-00000-of-00001"),
    truncate("variables/variables.data-00000-of-00001"),
    flip_a_weight,
    lambda version: shutil.rmtree(version / "variables"),
    lambda version: shutil.rmtree(version / "assets"),
    remove("assets.extra/model_card.json"),
    other_labels,
])
def test_damaged_export_is_one_line(copy, damage):
    damage(copy / "1")
    with pytest.raises(HandgradError, match="zoo/1 is no complete export") as raised:
        load(copy)
    assert "\n" not in str(raised.value)


def test_saved_model_of_others_is_one_line(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path / "other" / "1"))
    with pytest.raises(HandgradError, match="is no complete export") as raised:
        load(tmp_path / "other")
    assert "\n" not in str(raised.value)


def test_needs_tensorflow_and_numpy_only(zoo, folder, tmp_path):
    picture(tmp_path / "a.png", (20, 30))
    program = """
import json, sys
blocked = ("keras", "custom_layers", "tuning", "PIL", "app.models", "app.export", "app.data")
sys.modules.update(dict.fromkeys(blocked))
from app.serving import load
rows = load(sys.argv[1]).predict_files(sys.argv[2:])
ours = [name for name in sys.modules if name.startswith("app.") and name not in blocked]
print(json.dumps([rows, sorted(ours)]))
"""
    command = [sys.executable, "-c", program, folder, tmp_path / "a.png"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows, ours = json.loads(done.stdout)
    assert ours == ["app.answers", "app.errors", "app.image_header", "app.serving"]
    assert rows[0]["probabilities"] == pytest.approx(
        zoo.predict_files([tmp_path / "a.png"])[0]["probabilities"], abs=1e-5
    )
