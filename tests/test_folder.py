"""Folders of images: layouts, formats, sizes, and files that are broken or do not belong."""

import os

import numpy as np
import pytest
from PIL import Image

from app import data, images
from app.errors import HandgradError
from app.folder import read_folder

RNG = np.random.default_rng(0)


def picture(height=6, width=8, mode="RGB"):
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    return Image.fromarray(RNG.integers(0, 256, shape, np.uint8))


def pixels(file, mode="RGB"):
    """The pixels of an image file, as Pillow reads them."""
    with Image.open(file) as image:
        return np.asarray(image.convert(mode))


def folder(root, classes=("cat", "dog"), count=10, suffix="png", **settings):
    """A folder of class folders with `count` images each."""
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            picture(**settings).save(root / name / f"{i:02}.{suffix}")
    return root


def test_folder_of_class_folders(tmp_path):
    root = folder(tmp_path / "pets", classes=("dog", "cat", "owl"), count=20)
    loaded = data.load(root)
    assert loaded.name == "pets" and loaded.class_names == ("cat", "dog", "owl")
    assert loaded.describe()["counts"] == {"train": 42, "validation": 9, "test": 9}
    assert loaded.image_shape == (6, 8, 3) and loaded.skipped == ()
    for split in loaded.splits.values():
        for image, label, file in zip(split.images, split.labels, split.files):
            assert os.path.basename(os.path.dirname(file)) == loaded.class_names[label]
            np.testing.assert_array_equal(image, pixels(file))


def test_split_folders_are_kept(tmp_path):
    for name, count in (("train", 10), ("val", 2), ("test", 3)):
        folder(tmp_path / name, count=count)
    loaded = data.load(tmp_path)
    assert loaded.describe()["counts"] == {"train": 20, "validation": 4, "test": 6}
    assert all("/val/" in file for file in loaded.validation.files)


def test_images_may_lie_deeper_and_hidden_files_are_ignored(tmp_path):
    root = folder(tmp_path, count=3)
    folder(tmp_path / "cat", classes=("2024",), count=2)
    for name in (".DS_Store", "cat/.DS_Store", "dog/Thumbs.db", "README.md", "labels.csv"):
        (tmp_path / name).write_text("x")
    folder(tmp_path / "dog", classes=(".thumbnails",), count=2)
    folder(tmp_path, classes=(".git",), count=2)
    assert np.bincount(read_folder(root).train.labels).tolist() == [5, 3]


@pytest.mark.parametrize("suffix", ["png", "PNG", "jpg", "JPEG", "bmp", "gif"])
@pytest.mark.parametrize("mode, channels", [("RGB", 3), ("L", 1)])
def test_formats(tmp_path, suffix, mode, channels):
    root = folder(tmp_path, count=2, suffix=suffix, mode=mode)
    found = read_folder(root).train
    assert found.images.shape == (4, 6, 8, channels)
    expected = pixels(found.files[1], mode)
    np.testing.assert_array_equal(found.images[1], np.reshape(expected, (6, 8, channels)))


def test_one_colour_image_makes_all_colour(tmp_path):
    root = folder(tmp_path, count=2, mode="L")
    picture().save(root / "dog" / "colour.png")
    found = read_folder(root).train
    assert found.images.shape == (5, 6, 8, 3)
    grey = pixels(found.files[0], "L")
    np.testing.assert_array_equal(found.images[0], np.stack([grey] * 3, axis=-1))


def test_transparency_sixteen_bits_palettes_and_bilevel(tmp_path):
    opaque = picture(mode="RGBA")
    opaque.save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(
        images.decode(tmp_path / "rgba.png", None, 3), np.asarray(opaque)[..., :3]
    )
    deep = RNG.integers(0, 2**16, (4, 5), np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert images.probe(tmp_path / "deep.png") == (4, 5, True)
    np.testing.assert_array_equal(images.decode(tmp_path / "deep.png", None, 1)[..., 0], deep >> 8)
    picture().quantize(16).save(tmp_path / "palette.png")
    expected = pixels(tmp_path / "palette.png")
    np.testing.assert_array_equal(images.decode(tmp_path / "palette.png", None, 3), expected)
    Image.fromarray(np.eye(4, dtype=bool)).save(tmp_path / "bits.png")
    bits = images.decode(tmp_path / "bits.png", None, 1)
    np.testing.assert_array_equal(bits[..., 0], 255 * np.eye(4))


def test_first_frame_of_a_gif(tmp_path):
    frames = [Image.new("L", (4, 4), value) for value in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (images.decode(tmp_path / "a.gif", None, 1) == 10).all()


# Sizes


@pytest.mark.parametrize(
    "sizes, expected",
    [
        ([(40, 30)] * 3, (40, 30)),
        ([(128, 1)] * 3, (128, 1)),
        ([(129, 60)] * 3, (60, 60)),
        ([(40, 30), (30, 40)], (30, 30)),
        ([(40, 30), (50, 60), (90, 70)], (50, 50)),
        ([(1000, 3000)] * 2, (128, 128)),
    ],
)
def test_default_size(sizes, expected):
    assert images.default_size(sizes) == expected


def test_images_of_all_sizes_become_one(tmp_path):
    root = folder(tmp_path, classes=("cat",), count=2, height=9, width=5)
    folder(tmp_path, classes=("dog",), count=2, height=7, width=20)
    assert read_folder(root).train.images.shape == (4, 5, 5, 3)
    assert data.load(folder(tmp_path, count=20), image_size=(10, 12)).image_shape == (10, 12, 3)


@pytest.mark.parametrize("height, width, rows, columns", [
    (4, 10, slice(None), slice(3, 7)),
    (11, 4, slice(3, 7), slice(None)),
])
def test_the_centre_is_cut_out(height, width, rows, columns):
    image = RNG.integers(0, 256, (1, height, width, 3), np.uint8)
    cut = images.resize(image, (4, 4))
    np.testing.assert_array_equal(cut, image[:, rows, columns])


@pytest.mark.parametrize("shape, size", [
    ((40, 40), (10, 10)), ((64, 48), (12, 9)), ((51, 90), (16, 16)), ((5, 7), (20, 28)),
    ((300, 2), (8, 8)),
])
@pytest.mark.parametrize("channels", [1, 3])
def test_resizing_equals_tensorflow_with_antialiasing(shape, size, channels):
    """An exported graph can do the same: the same box, then `tf.image.resize`."""
    import tensorflow as tf

    image = RNG.integers(0, 256, (1, *shape, channels), np.uint8)
    (height, width), (target_height, target_width) = shape, size
    crop_height = min(height, max(1, width * target_height // target_width))
    crop_width = min(width, max(1, height * target_width // target_height))
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    box = image[:, top:top + crop_height, left:left + crop_width]
    expected = tf.image.resize(box, size, "bilinear", antialias=True)
    difference = np.abs(images.resize(image, size) - expected.numpy())
    assert difference.max() <= 1.01


def test_images_that_have_the_size_are_not_copied():
    same = np.zeros((2, 4, 5, 1), np.uint8)
    assert images.resize(same, (4, 5)) is same


def test_images_that_do_not_fit_in_memory(tmp_path):
    root = folder(tmp_path, count=2)
    with pytest.raises(HandgradError, match=r"4 x 40000 x 40000 x 3 bytes = 17.9 GiB, .* 4 GiB"):
        data.load(root, image_size=40000)


# Folders that are wrong


def test_empty_folder(tmp_path):
    with pytest.raises(HandgradError, match="at least two class folders .* an empty folder"):
        data.load(tmp_path)


def test_folder_of_images_without_classes(tmp_path):
    picture().save(tmp_path / "1.png")
    with pytest.raises(HandgradError, match="at least two class folders .* Received: none"):
        data.load(tmp_path)


def test_one_class(tmp_path):
    with pytest.raises(HandgradError, match="at least two class folders .* Received: one, 'cat'"):
        data.load(folder(tmp_path, classes=("cat",)))


def test_class_without_images(tmp_path):
    (folder(tmp_path) / "owl").mkdir()
    with pytest.raises(HandgradError, match="owl has no PNG, JPEG, BMP or GIF image"):
        data.load(tmp_path)


def test_class_too_small_to_divide(tmp_path):
    folder(tmp_path, count=20)
    folder(tmp_path, classes=("owl",), count=1)
    with pytest.raises(HandgradError, match="would lack a class.* class 'owl' has 1 in all"):
        data.load(tmp_path)


def test_class_missing_in_validation(tmp_path):
    folder(tmp_path / "train"), folder(tmp_path / "val", classes=("cat",))
    with pytest.raises(HandgradError, match="at least two class folders|class 'dog'"):
        data.load(tmp_path)


def test_class_that_training_does_not_have(tmp_path):
    folder(tmp_path / "train"), folder(tmp_path / "test", classes=("cat", "owl"))
    with pytest.raises(HandgradError, match="owl is a class that .* Expected: cat, dog"):
        data.load(tmp_path)


@pytest.mark.parametrize(
    "names, message",
    [
        (("test", "val"), "holds test, val: expected either"),
        (("train", "cats"), "holds train beside cats: expected either"),
        (("train", "val", "validation"), "holds both val and validation"),
    ],
)
def test_unclear_layouts(tmp_path, names, message):
    for name in names:
        folder(tmp_path / name, count=2)
    with pytest.raises(HandgradError, match=message):
        data.load(tmp_path)


def test_test_folder_without_images(tmp_path):
    folder(tmp_path / "train"), (tmp_path / "test").mkdir()
    with pytest.raises(HandgradError, match="test has no PNG, JPEG, BMP or GIF image"):
        data.load(tmp_path)


# Files that are wrong


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif"])
@pytest.mark.parametrize("keep", [0, 5, 40, 0.5])
def test_truncated_image_is_named_or_skipped(tmp_path, suffix, keep):
    root = folder(tmp_path, count=20, suffix=suffix, height=30, width=30)
    broken = root / "dog" / f"03.{suffix}"
    content = broken.read_bytes()
    broken.write_bytes(content[: int(keep * len(content)) if keep == 0.5 else keep])
    with pytest.raises(HandgradError, match="1 of the .* cannot be used: .*--skip-corrupt") as e:
        data.load(root)
    assert str(root) in str(e.value) and f"dog/03.{suffix} (" in str(e.value)
    assert len(str(e.value).splitlines()) == 1
    loaded = data.load(root, skip_corrupt=True)
    assert loaded.skipped == (str(broken),) == tuple(loaded.describe()["skipped"])
    assert sum(loaded.describe()["counts"].values()) == 39
    for split in loaded.splits.values():
        for image, file in zip(split.images, split.files):
            np.testing.assert_array_equal(image, pixels(file))


def test_files_of_other_kinds_are_not_passed_over(tmp_path):
    root = folder(tmp_path, count=20)
    picture().save(root / "cat" / "a.webp")
    picture().save(root / "cat" / "b.png", "WEBP")
    (root / "dog" / "notes.txt").write_text("x")
    picture().save(root / "stray.png")
    (root / "dog" / "c.jpg").write_text("hello")
    with pytest.raises(HandgradError, match="5 of the files .*a.webp .no PNG.*and 2 more") as e:
        data.load(root)
    assert "b.png (no PNG" in str(e.value)
    loaded = data.load(root, skip_corrupt=True)
    names = [os.path.basename(file) for file in loaded.skipped]
    assert names == ["a.webp", "b.png", "c.jpg", "notes.txt", "stray.png"]


@pytest.mark.parametrize("skip_corrupt", [False, True])
def test_no_readable_image(tmp_path, skip_corrupt):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_text("hello")
    with pytest.raises(HandgradError, match="2 of the files .* cannot be used"):
        data.load(tmp_path, skip_corrupt=skip_corrupt)


def test_a_class_that_is_all_corrupt(tmp_path):
    root = folder(tmp_path)
    for file in (root / "dog").iterdir():
        file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(HandgradError, match="Class 'dog' has no image in the training part"):
        data.load(root, skip_corrupt=True)
