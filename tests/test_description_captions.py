"""Flickr8k's and COCO's layouts."""

import json

import numpy as np
import pytest
from PIL import Image

from app.description.captions import FLICKR_TOKENS, read_coco, read_flickr8k
from app.description.data import load
from app.errors import HandgradError
from app.split import join

LINES = ["b.png#0\tTwo dogs .", "b.png#1\tDogs play .", "a.png#0\tA cat .", "", "c#1.png#0\tRain ."]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "Images").mkdir()
    for value, (name, size) in enumerate({"a": (8, 8), "b": (12, 8), "c#1": (8, 16)}.items()):
        Image.new("L", size, 50 * value).save(tmp_path / "Images" / f"{name}.png")
    return tmp_path


def flickr(folder, lines=LINES, **lists):
    (folder / FLICKR_TOKENS).write_text("\n".join(lines))
    for part, names in lists.items():
        (folder / f"Flickr_8k.{part}Images.txt").write_text("\n".join(names))
    return read_flickr8k(folder)


def coco(folder, images, annotations):
    path = folder / "captions.json"
    path.write_text(json.dumps({
        "images": [{"id": i, "file_name": name} for i, name in images.items()],
        "annotations": [{"image_id": i, "caption": text} for i, text in annotations]}))
    return read_coco(path, folder / "Images")


def test_flickr8k(folder):
    found = flickr(folder)
    assert found.sentences == (("Two dogs .", "Dogs play ."), ("A cat .",), ("Rain .",))
    assert [file[-5:] for file in found.files] == ["b.png", "a.png", "1.png"]
    assert found.images.shape == (3, 8, 8, 1) and found.parts == {}
    np.testing.assert_array_equal(found.images[:, 0, 0, 0], [50, 0, 100])


def test_flickr8k_s_lists_divide_it_and_leave_out_what_no_list_has(folder):
    found = flickr(folder, train=["a.png"], dev=["b.png"])
    assert {part: [found.sentences[i][0] for i in indices]
            for part, indices in found.parts.items()} == {
        "train": ["A cat ."], "validation": ["Two dogs ."]}
    assert len(found.images) == 2


def test_without_a_list_to_train_on_flickr8k_trains_on_the_rest(folder):
    found = flickr(folder, dev=["b.png"], test=["a.png"])
    assert {part: [found.sentences[i][0] for i in indices]
            for part, indices in found.parts.items()} == {
        "train": ["Rain ."], "validation": ["Two dogs ."], "test": ["A cat ."]}


def test_parts_can_be_joined_whatever_sentences_an_image_has(folder):
    flickr(folder, train=["a.png"], dev=["b.png"], test=["c#1.png"])
    data = load(str(folder))
    assert join(data.train, data.validation).labels.shape == (2, 2, 4)


def test_coco(folder):
    found = coco(folder, {7: "a.png", 9: "b.png"}, [(9, "Two\ndogs."), (7, "A cat."), (9, "Dogs!")])
    assert found.sentences == (("Two dogs.", "Dogs!"), ("A cat.",))
    np.testing.assert_array_equal(found.images[:, 0, 0, 0], [50, 0])


def test_images_are_brought_to_the_size_that_is_asked_for(folder):
    flickr(folder)
    assert read_flickr8k(folder, size=(5, 6)).images.shape == (3, 5, 6, 1)


@pytest.mark.parametrize("make, message", [
    (lambda f: flickr(f, ["d.png#0\tA fox ."]),
     rf"{FLICKR_TOKENS} names an image that is not in .*: 'd.png'"),
    (lambda f: flickr(f, ["a.png#0\tA cat .", "a.png A cat ."]),
     r"Received on line 2: a.png A cat"),
    (lambda f: flickr(f, [""]), "has no sentence"),
    (lambda f: flickr(f, train=["a.png", "e.png"]), "train part. Received: none for 'e.png'"),
    (read_flickr8k, f"{FLICKR_TOKENS} cannot be read: No such file"),
    (lambda f: coco(f, {1: "d.png"}, [(1, "A fox.")]), "captions.json names .*: 'd.png'"),
    (lambda f: coco(f, {1: "a.png"}, [(2, "A fox.")]), "a caption of the image 2"),
    (lambda f: coco(f, {1: "a.png"}, [(1, None)]), "must be JSON with `images`"),
    (lambda f: coco(f, {}, []), "has no sentence")])
def test_what_is_wrong_is_one_line_that_names_the_file(folder, make, message):
    with pytest.raises(HandgradError, match=message):
        make(folder)


def test_a_broken_image_is_named(folder):
    (folder / "Images" / "a.png").write_bytes(b"no image")
    with pytest.raises(HandgradError, match="a.png cannot be used: no PNG"):
        flickr(folder)
