"""What all tests share."""

import gc
import json
import os
from dataclasses import replace

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402
from command_line import RUN  # noqa: E402
from PIL import Image  # noqa: E402

from app import data as data_sets  # noqa: E402
from app.cli import app  # noqa: E402
from app.console import execute  # noqa: E402

pytest_plugins = "pytester"
# A second device for the tests of tf.distribute. It must be made before TensorFlow starts.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
# What is imported stays: the collector of garbage need not look through it after each test.
gc.freeze()


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


@pytest.fixture
def handgrad_data():
    """The folder of real data, or a skip that says why."""
    folder = os.environ.get("HANDGRAD_DATA")
    if not folder:
        pytest.skip("HANDGRAD_DATA is not set: it names the folder of real data (mnist, ...)")
    return folder


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with data, a run that went the whole way and one that was only trained."""
    folder = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    images = rng.integers(0, 60, (120, 8, 8), np.uint8)
    images[labels == 1, :4] += 150
    images[labels == 2, 4:] += 150
    np.savez(folder / "small.npz", images=images, labels=labels)
    for i in range(24):
        target = folder / "photos" / "abc"[i % 3]
        target.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[i]).save(target / f"{i}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert execute(app, RUN) == 0
        assert execute(app, "train mlp --data small.npz --epochs 3 --name trained".split()) == 0
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def handgrad(here, capsys):
    """Runs a command; returns its exit code and the two outputs."""
    def call(*arguments):
        capsys.readouterr()
        code = execute(app, [str(a) for a in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="session")
def few_digits():
    """Gives the digits with so many of them in each part, so that an epoch takes a moment."""
    def take(*counts):
        data = data_sets.load("digits")
        return replace(data, **{part: split.take(np.arange(count)) for (part, split), count in zip(
            data.splits.items(), counts, strict=True)})

    return take


@pytest.fixture(scope="session")
def digits(few_digits):
    """96 digits to train on: three batches."""
    return few_digits(96, 50, 50)


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """The current folder is a new one, for the runs that a test makes."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs `handgrad ... --json` in an empty folder: exit code, JSON object (if any), errors."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        capsys.readouterr()
        code = execute(app, [*arguments, "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return call


def skip_if_backend(backend, reason):
    """What Keras's own tests import from their conftest (tests/test_keras_own.py runs them)."""
    return pytest.mark.skipif(keras.backend.backend() == backend, reason=reason)
