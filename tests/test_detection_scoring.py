"""Average precision: by hand, and where there is nothing to find or nothing found."""

import io

import numpy as np
import pytest
from rich.console import Console

from app.detection.scoring import score
from app.errors import HandgradError

NONE = [0, 0, 0, 0, -1]
BOX, OTHER = [10, 10, 30, 30], [40, 40, 60, 50]


def found(*images, most=4):
    """Detections: of each image (box, score, class) in a list."""
    result = {"boxes": np.zeros((len(images), most, 4)), "scores": np.zeros((len(images), most)),
              "classes": np.zeros((len(images), most), int),
              "count": np.array([len(image) for image in images])}
    for i, image in enumerate(images):
        for k, (box, value, kind) in enumerate(image):
            result["boxes"][i, k], result["scores"][i, k] = box, value
            result["classes"][i, k] = kind
    return result


def labels(*images):
    return np.array(images, "float32")


def test_all_found_is_one():
    truth = labels([[*BOX, 0], [*OTHER, 1]], [[*OTHER, 0], NONE])
    result = score(found([(BOX, 0.9, 0), (OTHER, 0.5, 1)], [(OTHER, 0.8, 0)]), truth, ["a", "b"])
    assert result.map_50 == pytest.approx(1) and result.map == pytest.approx(1)
    assert result.objects.tolist() == [2, 1] and result.images == 2


def test_precision_by_hand():
    """By falling score hit, miss, hit of two objects: precision 1 to recall 1/2, then 2/3."""
    truth = labels([[*BOX, 0], [*OTHER, 0]])
    result = score(found([(BOX, 0.9, 0), ([70, 70, 80, 80], 0.8, 0), (OTHER, 0.7, 0)]), truth,
                   ["a"])
    assert result.map_50 == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_box_counts_from_its_overlap_on():
    """IoU 0.7: a hit at 0.5, 0.55, 0.6, 0.65, 0.7, a miss at the five above."""
    result = score(found([([0, 0, 10, 7.01], 0.9, 0)]), labels([[0, 0, 10, 10, 0]]), ["a"])
    assert result.map_50 == pytest.approx(1) and result.map == pytest.approx(0.5)


def test_the_same_object_is_found_once():
    truth = labels([[*OTHER, 0], [*BOX, 0]])
    result = score(found([(BOX, 0.9, 0), (BOX, 0.8, 0), (OTHER, 0.7, 0)]), truth, ["a"])
    assert result.map_50 == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_detection_in_an_image_without_objects_is_wrong():
    truth = labels([[*BOX, 0]], [NONE])
    sure = score(found([(BOX, 0.5, 0)], [(BOX, 0.9, 0)]), truth, ["a"])
    unsure = score(found([(BOX, 0.9, 0)], [(BOX, 0.5, 0)]), truth, ["a"])
    assert sure.map_50 == pytest.approx(0.5) and unsure.map_50 == pytest.approx(1)


def test_nothing_found_is_zero():
    result = score(found([], []), labels([[*BOX, 0]], [NONE]), ["a"])
    assert result.map_50 == result.map == 0


def test_a_class_without_objects_counts_for_nothing():
    result = score(found([(BOX, 0.9, 0), (OTHER, 0.8, 1)]), labels([[*BOX, 0]]), ["a", "b"])
    assert result.map_50 == pytest.approx(1) and np.isnan(result.precision[1])
    assert result.by_class()[1] == {"name": "b", "ap_50": None, "ap": None, "objects": 0}


def test_nothing_to_find_has_no_precision(capsys):
    for images in ([], [(BOX, 0.9, 0)]):
        result = score(found(images), labels([NONE]), ["a"])
        assert np.isnan(result.map_50) and result.as_dict()["map"] is None
    assert not capsys.readouterr().out


def test_the_table_names_classes_as_they_are():
    result = score(found([(BOX, 0.9, 0)]), labels([[*BOX, 0]]), ["[red]", "b"])
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(result.table())
    text = console.export_text()
    assert "[red]" in text and "1.0000" in text and "mAP@0.5 1.0000" in text and " - " in text


def test_what_cannot_be_evaluated():
    with pytest.raises(HandgradError, match="nothing to evaluate"):
        score(found(), np.zeros((0, 1, 5)), ["a"])
    with pytest.raises(HandgradError, match="diverged"):
        score(found([([np.nan] * 4, 0.9, 0)]), labels([[*BOX, 0]]), ["a"])
