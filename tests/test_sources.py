"""Sources: data sets known by name, the archive of images, and paths that lead nowhere."""

import io
import os
import tarfile
import urllib.request

import numpy as np
import pytest
from PIL import Image

from app import data, sources
from app.errors import HandgradError, UsageError

real = pytest.mark.skipif("HANDGRAD_DATA" not in os.environ, reason="HANDGRAD_DATA is not set")
RNG = np.random.default_rng(0)


def pictures(count, shape=(5, 4)):
    return RNG.integers(0, 256, (count, *shape), np.uint8)


# Named data sets


def test_digits_are_scaled_to_bytes():
    digits = sources.read("digits")
    assert digits.train.images.shape == (1797, 8, 8, 1) and digits.train.images.max() == 255
    assert digits.train.images.dtype == np.uint8 and digits.train.labels.dtype == np.int32
    assert digits.train.labels[:10].tolist() == list(range(10))


def test_named_sets_have_a_description():
    assert list(data.DATA_SETS) == ["digits", "mnist", "fashion_mnist", "cifar10"]
    assert all(len(entry.description.splitlines()) == 1 for entry in data.DATA_SETS.values())


def test_unknown_data_set_names_the_closest_and_paths():
    with pytest.raises(UsageError, match="Did you mean 'mnist'.*or the path of a folder"):
        data.load("mnits")


def test_path_that_does_not_exist():
    with pytest.raises(UsageError, match="no/such/folder does not exist.*mnist.*a folder"):
        data.load("no/such/folder")


def test_file_that_is_no_data_set(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UsageError, match="notes.txt is no data set: expected a folder"):
        data.load(tmp_path / "notes.txt")


def test_data_folder_that_does_not_exist(monkeypatch, tmp_path):
    monkeypatch.setenv("HANDGRAD_DATA", str(tmp_path / "gone"))
    with pytest.raises(HandgradError, match="HANDGRAD_DATA names a folder .* not exist: .*gone"):
        data.load("mnist")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_no_network_is_one_line_with_alternatives(monkeypatch, tmp_path, capsys, name):
    monkeypatch.setenv("HANDGRAD_DATA", str(tmp_path))
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
        monkeypatch.delenv(variable.upper(), raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path / "keras"))
    with pytest.raises(HandgradError, match=f"'{name}' could not be downloaded") as error:
        data.load(name)
    assert "HANDGRAD_DATA" in str(error.value) and "digits" in str(error.value)
    assert f"{name}.tar.xz" in str(error.value) or f"as {name}/" in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert capsys.readouterr().out == ""


@real
@pytest.mark.data
def test_mnist():
    mnist = data.load("mnist")
    counts = {"train": 51000, "validation": 9000, "test": 10000}
    assert mnist.describe()["counts"] == counts and mnist.image_shape == (28, 28, 1)
    whole = data.join(mnist.train, mnist.validation).images / np.float32(255)
    assert whole.mean() == pytest.approx(0.1307, abs=1e-4)
    assert whole.std() == pytest.approx(0.3081, abs=1e-4)
    assert sources.read("mnist").train.labels[:5].tolist() == [5, 0, 4, 1, 9]


@real
@pytest.mark.data
def test_cifar10(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = sources.read("cifar10")
    cached, = (tmp_path / "handgrad").iterdir()
    written = cached.stat().st_mtime_ns
    again = sources.read("cifar10")
    assert cached.stat().st_mtime_ns == written and list((tmp_path / "handgrad").iterdir())
    np.testing.assert_array_equal(first.train.images, again.train.images)
    assert first.train.images.shape == (50000, 32, 32, 3) and "JPEG copy" in first.origin
    assert np.bincount(first.train.labels).tolist() == [5000] * 10
    assert np.bincount(first.test.labels).tolist() == [1000] * 10


# The archive of images


def write_tar(path, members):
    with tarfile.open(path, "w:xz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A cifar10.tar.xz of one image a class and part, in $HANDGRAD_DATA."""
    monkeypatch.setenv("HANDGRAD_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    members = {
        f"cifar10/{part}/{name}/0001.png": png(pictures(1, (32, 32, 3))[0])
        for part in ("train", "test") for name in sources.CIFAR10
    }
    path = tmp_path / "cifar10.tar.xz"
    write_tar(path, members | {"cifar10/README": b"text"})
    return path, members


def test_archive_is_decoded_exactly_and_once(archive):
    path, members = archive
    found = sources.read("cifar10")
    assert found.train.labels.tolist() == found.test.labels.tolist() == list(range(10))
    wanted = np.asarray(Image.open(io.BytesIO(members["cifar10/test/ship/0001.png"])))
    np.testing.assert_array_equal(found.test.images[8], wanted)
    cached, = (path.parent / "cache" / "handgrad").iterdir()
    np.savez(cached, x_train=np.zeros((10, 2, 2, 3), np.uint8), y_train=np.arange(10))
    assert sources.read("cifar10").train.images.shape == (10, 2, 2, 3)


def test_truncated_archive_is_named_and_not_kept(archive):
    path, _ = archive
    content = path.read_bytes()
    for length in (0, 20, len(content) // 4, len(content) // 2):
        path.write_bytes(content[:length])
        with pytest.raises(HandgradError, match="cifar10.tar.xz cannot be read: .* Fetch it"):
            sources.read("cifar10")
    assert not (path.parent / "cache").exists()


@pytest.mark.parametrize(
    "name, message",
    [
        ("cifar10/train/zebra/1.png", "zebra/1.png is of no known class"),
        ("cifar10/other/dog/1.png", "dog/1.png is of no known class"),
        ("1.png", "1.png is of no known class"),
        ("cifar10/train/dog/1.png", "it must hold training and test images"),
    ],
)
def test_archive_of_other_things(archive, name, message):
    path, members = archive
    write_tar(path, {name: next(iter(members.values()))})
    with pytest.raises(HandgradError, match=f"cifar10.tar.xz cannot be read: .*{message}"):
        sources.read("cifar10")


def test_cache_that_cannot_be_written(archive, monkeypatch):
    (archive[0].parent / "cache").write_text("a file where the folder should be")
    with pytest.raises(HandgradError, match="cannot be kept in .*XDG_CACHE_HOME"):
        sources.read("cifar10")
