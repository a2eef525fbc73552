"""The clients of an export that README.md and examples/ show, each run as it stands there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from command_line import ENVIRONMENT
from PIL import Image
from test_server_process import serving

from app.export import export
from app.serving import load

ROOT = Path(__file__).parent.parent
CLASSES = ("ant", "bée", "a name of more than 22 bytes")
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, cc")

IMAGE = "build/digits/7.png"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with an export `digits`, an image of those of `make demo`, and the examples."""
    folder = tmp_path_factory.mktemp("place")
    model = keras.Sequential([
        keras.Input((8, 9, 3)), keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.Flatten(), keras.layers.Dense(3)])
    export(model, name="digits", class_names=CLASSES, to=folder / "saved_models", card={},
           sample_images=np.zeros((1, 8, 9, 3), np.float32))
    pixels = np.random.default_rng(0).integers(0, 256, (20, 31, 3), np.uint8)
    (folder / IMAGE).parent.mkdir(parents=True)
    Image.fromarray(pixels).save(folder / IMAGE)
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


@pytest.fixture(scope="module")
def port(place):
    with serving(place / "saved_models") as server:
        yield server.port


@pytest.fixture(scope="module")
def label(place):
    (row,) = load(place / "saved_models/digits").predict_files([place / IMAGE])
    return row["label"]


def shown(word):
    """The block of README.md that has a word in it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = [b for b in re.findall(r"```\w*\n(.*?)```", text, re.DOTALL) if word in b]
    return block


def run(command, folder):
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl(place, port, label):
    block = shown("curl").replace("8501", str(port))
    answer = run(["bash", "-c", block[block.index("curl"):]], place)
    assert f'"label":"{label}"' in answer


def test_requests(place, port, label):
    pytest.importorskip("requests", reason="needs requests")
    script = shown("import base64, requests").replace("8501", str(port))
    assert run([sys.executable, "-c", script], place) == label + "\n"


def test_tensorflow_alone(place, label):
    answer = run([sys.executable, "-c", shown("tf.saved_model.load(\"saved_models")], place)
    assert str(np.array([label.encode()], object)) in answer


@needs_compiler
def test_c(place, label):
    script = f"python() {{ '{sys.executable}' \"$@\"; }}\n" + shown("libtensorflow_cc")
    assert run(["bash", "-ec", script], place).startswith(label + " ")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """What the compile line in the head of predict.c makes, with the compiler's warnings."""
    source = ROOT / "examples" / "predict.c"
    line = re.search(r" cc (.*?)\n \*   \./predict", source.read_text(), re.DOTALL)[1]
    words = re.sub(r"\\\n \*", " ", line).replace("$TF", tf.sysconfig.get_lib()).split()
    folder = tmp_path_factory.mktemp("program")
    shutil.copy(source, folder)
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", *words], cwd=folder, check=True)
    return folder / "predict"


@needs_compiler
def test_c_predicts_as_python_does(program, place, tmp_path):
    files = [tmp_path / name for name in ("a.png", "b.jpg", "c.bmp")]
    for seed, file in enumerate(files):
        pixels = np.random.default_rng(seed).integers(0, 256, (20, 31, 3), np.uint8)
        Image.fromarray(pixels).save(file)
    served = load(place / "saved_models/digits")
    for row in served.predict_files(files):
        label, score = run([program, served.folder, row["file"]], place).rsplit(" ", 1)
        assert label == row["label"]
        assert float(score) == pytest.approx(row["score"], abs=2e-6)


@needs_compiler
@pytest.mark.parametrize("folder, file, message", [
    ("saved_models/digits/1", "none.png", "predict: the image file cannot be opened"),
    ("saved_models/digits/1", __file__, "predict: Unknown image file format"),
    ("none", __file__, "predict: Could not find SavedModel"),
])
def test_c_says_what_is_wrong(program, place, folder, file, message):
    done = subprocess.run([program, folder, file], cwd=place, capture_output=True, text=True)
    assert done.returncode == 1 and message in done.stderr


@needs_compiler
def test_c_needs_a_signature_for_files(program, tmp_path):
    module = tf.Module()
    module.half = tf.function(lambda x: x / 2, input_signature=[tf.TensorSpec(None)])
    tf.saved_model.save(module, str(tmp_path), module.half)
    done = subprocess.run([program, tmp_path, __file__], capture_output=True, text=True)
    assert done.returncode == 1
    assert "predict: the SavedModel has no signature `image_bytes`" in done.stderr


def test_kserve_names_the_folder():
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    service = yaml.safe_load((ROOT / "examples" / "kserve.yaml").read_text())
    model = service["spec"]["predictor"]["model"]
    assert service["kind"] == "InferenceService" and model["modelFormat"] == {"name": "tensorflow"}
    assert model["storageUri"].endswith(f"saved_models/{service['metadata']['name']}")
