"""Arrays: IDX files and .npz archives, and what is said when they are broken."""

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import data
from app.arrays import read_idx, read_npz
from app.errors import HandgradError, UsageError

RNG = np.random.default_rng(0)


def idx(array, magic=None):
    """The bytes of an IDX file."""
    sizes = [magic or 0x800 + array.ndim, *array.shape]
    return b"".join(size.to_bytes(4, "big") for size in sizes) + array.tobytes()


def write_idx(folder, images, labels, part="train", pack=False):
    """An IDX pair as MNIST's are named; returns the path of the images."""
    folder.mkdir(exist_ok=True)
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        path = folder / f"{part}-{kind}-ubyte{'.gz' if pack else ''}"
        content = idx(np.asarray(array, np.uint8))
        path.write_bytes(gzip.compress(content) if pack else content)
    return path.with_name(path.name.replace("labels-idx1", "images-idx3"))


def pictures(count, shape=(5, 4)):
    return RNG.integers(0, 256, (count, *shape), np.uint8)


# IDX


def test_idx_folder_of_a_named_set(monkeypatch, tmp_path):
    monkeypatch.setenv("HANDGRAD_DATA", str(tmp_path))
    write_idx(tmp_path / "fashion_mnist", pictures(200), np.arange(200) % 10)
    loaded = data.load("fashion_mnist")
    assert loaded.class_names[9] == "Ankle boot" and loaded.name == "fashion_mnist"


@settings(deadline=None, max_examples=25)
@given(
    shape=st.tuples(st.integers(2, 9), st.integers(1, 6), st.integers(1, 6)),
    pack=st.booleans(),
    of_file=st.booleans(),
)
def test_idx_round_trip(tmp_path_factory, shape, pack, of_file):
    folder = tmp_path_factory.mktemp("idx")
    images, labels = pictures(shape[0], shape[1:]), np.arange(shape[0]) % 2
    path = write_idx(folder, images, labels, pack=pack)
    write_idx(folder, images[:1], labels[:1], part="t10k", pack=not pack)
    found = read_idx(path if of_file else folder)
    np.testing.assert_array_equal(found.train.images, images[..., np.newaxis])
    assert found.train.labels.tolist() == labels.tolist() and found.class_names == ("0", "1")
    np.testing.assert_array_equal(found.test.images, images[:1, ..., np.newaxis])


def test_idx_is_loaded_from_its_folder_or_file(tmp_path):
    path = write_idx(tmp_path / "own", pictures(100), np.arange(100) % 3)
    for given_ in (path, path.parent, str(path)):
        loaded = data.load(given_)
        assert loaded.describe()["counts"] == {"train": 70, "validation": 15, "test": 15}
    assert loaded.image_shape == (5, 4, 1) and data.load(path.parent).name == "own"


def test_idx_of_several_sets(tmp_path):
    for part in ("letters-train", "digits-train", "letters-test"):
        path = write_idx(tmp_path, pictures(4), [0, 1, 0, 1], part=part)
    with pytest.raises(UsageError, match="Received: digits-train.*, letters-train"):
        read_idx(tmp_path)
    path = tmp_path / "letters-train-images-idx3-ubyte"
    assert len(read_idx(path).test) == 4


def test_idx_without_labels(tmp_path):
    path = write_idx(tmp_path, pictures(4), [0, 1, 0, 1])
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(HandgradError, match="no labels .* expected train-labels-idx1-ubyte"):
        read_idx(path)


IMAGES = idx(np.zeros((4, 5, 4), np.uint8))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "magic number 2051 .* It has 0 bytes"),
        (b"\x00\x00", "magic number 2051 .* It has 2 bytes"),
        (IMAGES[:9], "must have .* Received: 9"),
        (idx(np.zeros(4, np.uint8)), "number 2051 .* Received: 2049 .labels"),
        (b"\x00\x00\x0d\x03" + IMAGES[4:], "number 2051 .* Received: 3331"),
        (IMAGES[:-1], "must have 96 bytes unpacked: 16 [+] 4 x 5 x 4. Received: 95"),
        (IMAGES + b"\x00", "must have 96 bytes .* Received: 97"),
        (gzip.compress(IMAGES, mtime=0)[:-9], "cannot be read: .*end"),
        (gzip.compress(IMAGES, mtime=0)[:-8] + bytes(8), "cannot be read: CRC"),
    ],
)
def test_broken_idx_names_file_expected_and_received(tmp_path, content, message):
    path = write_idx(tmp_path, pictures(4), [0, 1, 0, 1])
    path.write_bytes(content)
    with pytest.raises(HandgradError, match=f"train-images-idx3-ubyte {message}|{message}") as e:
        read_idx(tmp_path)
    assert str(path) in str(e.value)


# .npz, and arrays in general


def archive_of(tmp_path, **arrays):
    np.savez(tmp_path / "set.npz", **arrays)
    return tmp_path / "set.npz"


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint16])
@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1), (5, 4, 3)])
def test_npz(tmp_path, dtype, shape):
    images, labels = pictures(6, shape), np.array([0, 1, 2, 0, 1, 2])
    path = archive_of(tmp_path, x_train=images.astype(dtype), y_train=labels[:, np.newaxis],
                      x_test=images[:3], y_test=labels[:3], class_names=["a", "b", "c"])
    found = read_npz(path)
    np.testing.assert_array_equal(found.train.images, images.reshape(6, 5, 4, -1))
    assert found.train.labels.tolist() == labels.tolist() and found.class_names == tuple("abc")
    assert len(found.test) == 3 and found.validation is None


def test_npz_with_a_validation_part(tmp_path):
    x, y = pictures(40), np.arange(40) % 2
    path = archive_of(tmp_path, x_train=x, y_train=y, x_val=x[:5], y_val=y[:5])
    assert data.load(path).describe()["counts"] == {"train": 34, "validation": 5, "test": 6}


def test_floats_are_scaled_and_rounded(tmp_path):
    images = np.array([0, 0.4 / 255, 0.6 / 255, 1], np.float32).reshape(2, 1, 2)
    found = read_npz(archive_of(tmp_path, images=images, labels=np.arange(2)))
    assert found.train.images.ravel().tolist() == [0, 0, 1, 255]
    found = read_npz(archive_of(tmp_path, images=images > 0.5, labels=np.arange(2)))
    assert found.train.images.ravel().tolist() == [0, 0, 0, 255]


def test_bytes_survive_the_way_through_floats(tmp_path):
    values = np.arange(256, dtype=np.uint8).reshape(2, 16, 8)
    for dtype in (np.float32, np.float64):
        path = archive_of(tmp_path, images=values.astype(dtype) / 255, labels=np.arange(2))
        np.testing.assert_array_equal(read_npz(path).train.images[..., 0], values)


GOOD = {"x_train": np.zeros((4, 2, 2), np.uint8), "y_train": np.array([0, 1, 0, 1])}
NAN = np.zeros((4, 2, 2), np.float32)
NAN[2, 1, 0] = np.nan


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"a": NAN, "b": NAN}, "must hold x_train and y_train .* Received: a, b"),
        ({}, "Received: no arrays"),
        ({"x_train": NAN}, "must hold x_train and y_train .* Received: x_train"),
        (GOOD | {"x_test": GOOD["x_train"]}, "must hold .* Received: x_test"),
        (GOOD | {"x_train": np.zeros((4, 4))}, r"must have shape .* Received: \(4, 4\)"),
        (GOOD | {"x_train": np.zeros((4, 3, 8, 8))}, r"must have .* Received: \(4, 3, 8, 8\)"),
        (GOOD | {"x_train": np.zeros((0, 8, 8))}, r"not be empty. Received: \(0, 8, 8, 1\)"),
        (GOOD | {"x_train": NAN}, "hold NaN or infinity, first in image 2"),
        (GOOD | {"x_train": NAN[:2] + 1.5}, "has 2 images but 4 labels"),
        (GOOD | {"x_train": np.full((4, 2, 2), 2.0)}, r"lie in \[0, 1\]: .* from 2 to 2"),
        (GOOD | {"x_train": np.full((4, 2, 2), -0.5)}, r"lie in \[0, 1\]: .* from -0.5"),
        (GOOD | {"x_train": np.full((4, 2, 2), 256)}, r"lie in \[0, 255\]: .* to 256"),
        (GOOD | {"x_train": np.full((4, 2, 2), "a")}, "whole numbers .* Received: <U1"),
        (GOOD | {"y_train": np.array([0, 1, 0, 1.5])}, r"whole numbers .* float64 of shape \(4,\)"),
        (GOOD | {"y_train": np.array(["a", "b", "a", "b"])}, "whole numbers .* Received: <U1"),
        (GOOD | {"y_train": np.eye(4, dtype=int)}, r"whole numbers .* of shape \(4, 4\)"),
        (GOOD | {"y_train": np.array([0, 1])}, "has 4 images but 2 labels"),
        (GOOD | {"y_train": np.array([0, 1, -1, 1])}, "must be 0, 1, 2, .* Received: -1 to 1"),
        (GOOD | {"y_train": np.array([0, 1, 5, 1])}, "up to 5, but none that is 2"),
        (GOOD | {"y_train": np.array([0, 1, 10**9, 1])}, "up to 1000000000, but none that is 2"),
        (GOOD | {"y_train": np.array([0, 1, 2**40, 1])}, "Received: 0 to 1099511627776"),
        (GOOD | {"y_train": np.zeros(4, int)}, "at least two classes. Received: 1 in"),
        (GOOD | {"class_names": ["a", "b", "c"]}, "Class 'c' has no image in the training part"),
        (GOOD | {"class_names": ["a", "a"]}, "class names .* Received 'a' twice"),
        (GOOD | {"y_train": np.array([0, 1, 2, 1]), "class_names": ["a", "b"]},
         r"must be 0 .. 1, for its 2 classes. Received: 2 at 2"),
        (GOOD | {"x_test": np.zeros((1, 2, 2), np.uint8), "y_test": np.array([7])},
         "test part .* must be 0 .. 1, .* Received: 7 at 0"),
        (GOOD | {"x_test": np.zeros((1, 3, 2), np.uint8), "y_test": np.array([1])},
         r"shape of the training images, \(2, 2, 1\). Received: \(3, 2, 1\)"),
        (GOOD | {"x_train": np.array([None] * 4)}, "cannot be read as an .npz .*pickle"),
    ],
)
def test_bad_npz_is_one_clear_line(tmp_path, arrays, message):
    with pytest.raises(HandgradError, match=message) as error:
        data.load(archive_of(tmp_path, **arrays))
    assert len(str(error.value).splitlines()) == 1 and "set.npz" in str(error.value)


def test_npz_that_is_none(tmp_path):
    path = archive_of(tmp_path, **GOOD)
    content = path.read_bytes()
    np.save(tmp_path / "one.npy", NAN)
    one_array = (tmp_path / "one.npy").read_bytes()
    for broken in (one_array, b"", b"hello", content[:-30], content[:60] + content[90:]):
        path.write_bytes(broken)
        with pytest.raises(HandgradError, match="set.npz (is no|cannot .* as an) .npz archive"):
            read_npz(path)


def test_arrays_are_resized_on_request(tmp_path):
    loaded = data.load("digits", image_size=(16, 12))
    assert loaded.image_shape == (16, 12, 1)
    flat = np.full((60, 9, 7, 3), (10, 20, 30), np.uint8)
    path = archive_of(tmp_path, images=flat, labels=np.arange(60) % 2)
    resized = data.load(path, image_size=4).train.images
    np.testing.assert_array_equal(resized, np.broadcast_to((10, 20, 30), resized.shape))
    assert resized.shape[1:] == (4, 4, 3)
