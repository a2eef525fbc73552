"""Pascal VOC and COCO: pixels, sizes, images without objects, and what is broken."""

import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from app.detection.annotations import check_labels
from app.detection.coco import read_coco
from app.detection.data import load
from app.detection.voc import BCCD, read_voc
from app.errors import HandgradError
from app.split import join

OBJECT = ("<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>"
          "<ymax>{}</ymax></bndbox></object>")


def picture(path, box=None, size=(40, 30)):
    """A black picture of (width, height), with the pixels of a box (x1, y1, x2, y2) white."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    if box:
        x1, y1, x2, y2 = box
        pixels[y1:y2, x1:x2] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=100)


@pytest.fixture
def voc(tmp_path):
    """A folder in VOC's layout: a has a box from pixel (5, 10) to (24, 19), b none."""
    def xml(name, *objects):
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        text = "".join(OBJECT.format(*thing) for thing in objects)
        (tmp_path / "Annotations" / f"{name}.xml").write_text(f"<annotation>{text}</annotation>")

    xml("a", ("cell", 5, 10, 24, 19))
    xml("b")
    for name, box in (("a", (4, 9, 24, 19)), ("b", None)):
        picture(tmp_path / "JPEGImages" / f"{name}.jpg", box)
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\nb\n")
    (tmp_path / "ImageSets" / "Main" / "test.txt").write_text("a\n")
    return tmp_path, xml


def test_voc_counts_from_one_and_its_last_pixel_is_in_the_box(voc):
    source = read_voc(voc[0])
    assert source.class_names == ("cell",) and source.validation is None
    assert len(source.train) == 2 and len(source.test) == 1
    assert source.train.images.shape == (2, 30, 40, 3)
    np.testing.assert_array_equal(source.train.labels, [[[4, 9, 24, 19, 0]], [[0, 0, 0, 0, -1]]])
    x1, y1, x2, y2 = source.train.labels[0, 0, :4].astype(int)
    white = source.train.images[0].mean(-1) > 128
    assert white[y1:y2, x1:x2].all() and white.sum() == (x2 - x1) * (y2 - y1)


def test_boxes_are_stretched_with_their_image(voc):
    source = read_voc(voc[0], image_size=(60, 20))
    assert source.train.images.shape == (2, 60, 20, 3)
    np.testing.assert_array_equal(source.train.labels[0], [[2, 18, 12, 38, 0]])


def test_an_archive_is_read_like_its_folder(voc):
    with tarfile.open(voc[0] / "x.tar", "w") as archive:
        for name in ("Annotations", "JPEGImages", "ImageSets"):
            archive.add(voc[0] / name, f"deeper/{name}")
    there, again = read_voc(voc[0]), read_voc(voc[0] / "x.tar")
    np.testing.assert_array_equal(again.train.images, there.train.images)
    np.testing.assert_array_equal(again.train.labels, there.train.labels)


@pytest.mark.parametrize("thing, message", [
    (("cell", 5, 10, 4, 19), "a.xml: a box must have an area.*(4, 9, 4, 19)"),
    (("cell", 5, 10, 70, 19), "a.xml: a box must lie inside its image of 40x30"),
    (("cell", "five", 10, 24, 19), "a.xml: expected in each object"),
    (("dog", 5, 10, 24, 19), "has objects 'dog'. Expected one of: cell"),
])
def test_a_wrong_object_is_one_line(voc, thing, message):
    folder, xml = voc
    xml("a", thing)
    with pytest.raises(HandgradError) as error:
        read_voc(folder, class_names=("cell",))
    assert all(part in str(error.value) for part in message.split(".*"))
    assert "\n" not in str(error.value)


def test_what_rounding_leaves_over_is_cut(voc):
    folder, xml = voc
    xml("a", ("cell", 0, 1, 41, 30))
    np.testing.assert_array_equal(read_voc(folder).train.labels[0, 0], [0, 0, 40, 30, 0])


def test_a_box_in_the_cut_margin_alone_is_outside(voc):
    folder, xml = voc
    xml("a", ("cell", 41, 1, 41, 30))
    with pytest.raises(HandgradError, match="must lie inside its image of 40x30 pixels"):
        read_voc(folder)


def test_parts_can_be_joined_and_have_one_image_size(voc, tmp_path):
    """One has two boxes on an image, the other has none."""
    folder, xml = voc
    xml("a", ("cell", 5, 10, 24, 19), ("cell", 1, 1, 4, 5))
    (folder / "ImageSets" / "Main" / "train.txt").write_text("b\nb\n")
    (folder / "ImageSets" / "Main" / "val.txt").write_text("a\n")
    data = load(str(folder))
    both = join(data.train, data.validation)
    np.testing.assert_array_equal(both.labels[..., 4], [[-1, -1], [-1, -1], [0, 0]])
    picture(folder / "JPEGImages" / "a.jpg", size=(41, 30))
    with pytest.raises(HandgradError, match=r"validation part .* must have the shape of the "
                                            r"training images, \(30, 40, 3\)"):
        load(str(folder))


def test_a_category_has_one_name_in_all_parts(tmp_path):
    for part, names in (("train", "ab"), ("valid", "ba")):
        picture(tmp_path / part / "1.png")
        (tmp_path / part / "boxes.json").write_text(json.dumps({
            "images": [{"id": 1, "file_name": "1.png"}], "annotations": [],
            "categories": [{"id": i, "name": name} for i, name in enumerate(names)]}))
    with pytest.raises(HandgradError, match="category 0 must have one name. Received: a, and b in "
                                            "its validation part"):
        read_coco(tmp_path)


def test_sixteen_bits_become_eight(voc):
    deep = np.full((30, 40), 40_000, np.uint16)
    Image.fromarray(deep).save(voc[0] / "JPEGImages" / "b.jpg", format="PNG")
    assert (read_voc(voc[0]).train.images[1] == 40_000 >> 8).all()


def test_a_folder_without_lists_is_still_of_voc(voc):
    for name in ("train", "test"):
        (voc[0] / "ImageSets" / "Main" / f"{name}.txt").unlink()
    with pytest.raises(HandgradError, match="training images in ImageSets/Main/train.txt"):
        load(str(voc[0]))


def test_missing_and_broken_files_of_voc(voc):
    folder, xml = voc
    (folder / "Annotations" / "b.xml").write_text("<annotation>")
    with pytest.raises(HandgradError, match="b.xml is no XML"):
        read_voc(folder)
    (folder / "Annotations" / "b.xml").unlink()
    with pytest.raises(HandgradError, match="Annotations/b.xml is missing"):
        read_voc(folder)
    xml("b")
    (folder / "JPEGImages" / "b.jpg").write_bytes(b"nothing")
    with pytest.raises(HandgradError, match="image of .*b.xml cannot be read"):
        read_voc(folder)
    picture(folder / "JPEGImages" / "b.jpg", size=(41, 30))
    with pytest.raises(HandgradError, match="differ in size: the first is 40x30.*41x30"):
        read_voc(folder)
    (folder / "JPEGImages" / "b.jpg").unlink()
    with pytest.raises(HandgradError, match="JPEGImages/b.jpg is missing"):
        read_voc(folder)
    (folder / "ImageSets" / "Main" / "train.txt").unlink()
    with pytest.raises(HandgradError, match="expected the names of its training images"):
        read_voc(folder)
    (folder / "x.tar").write_bytes(b"nothing")
    with pytest.raises(HandgradError, match="could not be read as a .tar archive"):
        read_voc(folder / "x.tar")


@pytest.mark.data
def test_bccd(handgrad_data):
    source = read_voc(f"{handgrad_data}/bccd.tar", class_names=BCCD, image_size=(96, 128))
    assert [len(part) for part in source.parts.values()] == [205, 87, 72]
    boxes = np.concatenate([p.labels[p.labels[..., 4] >= 0] for p in source.parts.values()])
    assert np.bincount(boxes[:, 4].astype(int)).tolist() == [4155, 372, 361]
    assert boxes[:, :2].min() >= 0 and boxes[:, 2].max() <= 128 and boxes[:, 3].max() <= 96
    assert (boxes[:, :2] < boxes[:, 2:4]).all()


ANNOTATED = {
    "images": [{"id": 7, "file_name": "a.png"}, {"id": 9, "file_name": "b.png"}],
    "categories": [{"id": 5, "name": "dog"}, {"id": 3, "name": "cat"}],
    "annotations": [
        {"image_id": 7, "category_id": 5, "bbox": [4, 9, 20, 10]},
        {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3.5, 4]},
        {"image_id": 9, "category_id": 3, "bbox": [0, 0, 40, 30], "iscrowd": 1},
    ],
}


@pytest.fixture
def coco(tmp_path):
    """Writes the annotations, changed by keywords, beside two pictures; returns their file."""
    picture(tmp_path / "a.png", (4, 9, 24, 19))
    picture(tmp_path / "images" / "b.png")

    def write(**changed):
        file = tmp_path / "boxes.json"
        file.write_text(json.dumps({**ANNOTATED, **changed}))
        return file

    return write


def test_coco(coco):
    source = read_coco(coco(), image_size=(60, 40))
    assert source.class_names == ("cat", "dog") and source.train.images.shape == (2, 60, 40, 3)
    np.testing.assert_array_equal(source.train.labels, [
        [[4, 18, 24, 38, 1], [1, 4, 4.5, 12, 0]], [[0, 0, 0, 0, -1]] * 2])


def test_parts_of_coco_are_folders(coco, tmp_path):
    file = coco()
    for part in ("train", "valid"):
        (tmp_path / "set" / part).mkdir(parents=True)
        (tmp_path / "set" / part / "boxes.json").write_text(file.read_text())
        for name in "ab":
            picture(tmp_path / "set" / part / f"{name}.png")
    source = read_coco(tmp_path / "set")
    assert list(source.parts) == ["train", "validation"] and len(source.validation) == 2
    (tmp_path / "set" / "valid" / "more.json").write_text("{}")
    with pytest.raises(HandgradError, match="valid must have one JSON file.*Received: 2"):
        read_coco(tmp_path / "set")
    with pytest.raises(HandgradError, match="no data set in COCO's format"):
        read_coco(tmp_path / "images")


@pytest.mark.parametrize("changed, message", [
    ({"annotations": [{"image_id": 1, "category_id": 5, "bbox": [0, 0, 1, 1]}]},
     "an annotation names the image 1"),
    ({"annotations": [{"image_id": 7, "category_id": 6, "bbox": [0, 0, 1, 1]}]},
     "names the category 6. Known: 3, 5"),
    ({"annotations": [{"image_id": 7, "category_id": 5, "bbox": [0, 0, 1]}]}, "four numbers"),
    ({"annotations": [{"image_id": 7, "category_id": 5, "bbox": [0, 0, 0, 1]}]}, "an area"),
    ({"annotations": [{"image_id": 7, "category_id": 5, "bbox": [0, 0, 99, 1]}]},
     "a.png: a box must lie inside"),
    ({"annotations": [{"image_id": 7}]}, "'category_id' is missing"),
    ({"images": []}, "has no images"),
    ({"images": [{"id": 7, "file_name": "c.png"}]}, "names the image"),
])
def test_wrong_annotations_of_coco_are_one_line(coco, changed, message):
    with pytest.raises(HandgradError) as error:
        read_coco(coco(**changed))
    assert message in str(error.value) and "boxes.json" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", [2, -2, 0.5])
def test_classes_are_those_there_are(wrong):
    labels = np.zeros((2, 3, 5), np.float32)
    check_labels(labels, 2, "x.npz")
    labels[1, 2, 4] = wrong
    with pytest.raises(HandgradError, match=f"0 .. 1.*Received: {wrong}, of box 2 of image 1"):
        check_labels(labels, 2, "x.npz")
