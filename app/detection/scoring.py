"""How good detections are: average precision as COCO computes it.

Of every object: there are none that count neither way, as COCO's crowds and Pascal VOC's
`difficult` ones do.
"""

import contextlib
import io
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.table import Table
from rich.text import Text

from app.detection.boxes import NO_OBJECT, iou
from app.errors import HandgradError

BEST = 100  # detections of an image that count, the highest-scoring


@dataclass(frozen=True, eq=False)
class DetectionEvaluation:
    """How good detections in N images of C classes are.

    The average precision (AP) of a class is the mean, over 101 recalls, of the highest precision
    at that recall or beyond. A class without objects has none: NaN.

    Attributes:
        class_names: the C names.
        images: N.
        objects: objects by class, int (C,).
        precision_50: AP by class where an IoU of 0.5 is a hit, float (C,).
        precision: AP by class, the mean over the IoUs 0.5, 0.55, ... 0.95, float (C,).
    """

    class_names: tuple[str, ...]
    images: int
    objects: np.ndarray
    precision_50: np.ndarray
    precision: np.ndarray

    @property
    def map_50(self):
        """mAP@0.5: the mean of the classes that have objects; NaN where none has."""
        return _mean(self.precision_50)

    @property
    def map(self):
        """mAP@[.5:.95]: the mean of the classes that have objects; NaN where none has."""
        return _mean(self.precision)

    @property
    def measures(self):
        """What a detector is judged by, the most telling first."""
        return {"map_50": self.map_50, "map": self.map}

    def by_class(self):
        """A dict a class: name, ap_50, ap (None where not defined), objects."""
        return [
            {"name": name, "ap_50": _plain(ap_50), "ap": _plain(ap), "objects": int(objects)}
            for name, ap_50, ap, objects in zip(
                self.class_names, self.precision_50, self.precision, self.objects)
        ]

    def as_dict(self):
        """Everything, in plain values."""
        return {"images": self.images, "map_50": _plain(self.map_50), "map": _plain(self.map),
                "classes": self.by_class()}

    def table(self):
        """The average precisions by class, for a terminal."""
        table = Table(title=str(self), title_justify="left", title_style="bold")
        table.add_column("class")
        for name in ("AP@0.5", "AP@[.5:.95]", "objects"):
            table.add_column(name, justify="right")
        for row in self.by_class():
            # Text, because a name such as "[red]" would be read as markup.
            table.add_row(Text(row["name"]), *(
                "-" if row[ap] is None else f"{row[ap]:.4f}" for ap in ("ap_50", "ap")),
                str(row["objects"]))
        return table

    def __str__(self):
        return (f"mAP@0.5 {self.map_50:.4f}, mAP@[.5:.95] {self.map:.4f}, {self.images} images, "
                f"{self.objects.sum()} objects")


def score(detections, labels, class_names):
    """The `DetectionEvaluation` of detections in N images.

    Args:
        detections: `boxes` (N, K, 4), `scores` (N, K), `classes` (N, K), `count` (N,), as
            `app.detection.decoding.detections` gives them.
        labels: the true boxes and classes (N, M, 5).
        class_names: the names of the classes.

    Raises:
        HandgradError: for no images, and for boxes or scores that are not finite.
    """
    found = {name: np.asarray(values) for name, values in detections.items()}
    if not len(labels):
        raise HandgradError("There is nothing to evaluate: this part of the data has no images.")
    if not (np.isfinite(found["boxes"]).all() and np.isfinite(found["scores"]).all()):
        raise HandgradError("The detections are NaN or infinite: the training diverged. Train "
                            "again with a smaller learning rate.")
    classes = len(class_names)
    there = labels[..., 4] > NO_OBJECT
    objects = np.bincount(labels[there][:, 4].astype(int), minlength=classes)
    precision = _precisions(_truth(labels, there, classes), _results(found), classes)
    return DetectionEvaluation(tuple(class_names), len(labels), objects,
                               precision[0], precision.mean(axis=0))


def recall(proposals, labels, overlap=0.5):
    """The part of the true boxes (N, M, 5) that one of the proposals (N, R, 4) overlaps so much."""
    found = iou(tf.constant(proposals), tf.constant(labels[..., :4])).numpy().max(1)
    return float((found >= overlap)[labels[..., 4] > NO_OBJECT].mean())


def _truth(labels, there, classes):
    """The true boxes as pycocotools takes them. Its ids begin with 1."""
    annotations = [
        {"id": i, "image_id": int(image), "category_id": int(labels[image, row, 4]),
         "bbox": _corner_and_size(labels[image, row]), "iscrowd": 0,
         "area": float(np.prod(_corner_and_size(labels[image, row])[2:]))}
        for i, (image, row) in enumerate(zip(*np.nonzero(there)), 1)
    ]
    truth = COCO()
    truth.dataset = {"images": [{"id": i} for i in range(len(labels))],
                     "categories": [{"id": i} for i in range(classes)],
                     "annotations": annotations}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    return truth


def _results(found):
    return [
        {"image_id": image, "category_id": int(found["classes"][image, k]),
         "bbox": _corner_and_size(found["boxes"][image, k]),
         "score": float(found["scores"][image, k])}
        for image, count in enumerate(found["count"]) for k in range(count)
    ]


def _precisions(truth, results, classes):
    """AP (10, C) by IoU and class; NaN for classes without objects."""
    with contextlib.redirect_stdout(io.StringIO()):
        # Without results pycocotools has no way to make an empty answer: so an empty truth is.
        answers = truth.loadRes(results) if results else _truth(
            np.zeros((len(truth.imgs), 0, 5)), np.zeros((len(truth.imgs), 0), bool), classes)
        evaluation = COCOeval(truth, answers, "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [BEST]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, 0]  # (IoUs, recalls, classes)
    return np.where(precision < 0, np.nan, precision).mean(axis=1)


def _corner_and_size(box):
    x1, y1, x2, y2 = map(float, box[:4])
    return [x1, y1, x2 - x1, y2 - y1]


def _mean(values):
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _plain(value):
    return None if np.isnan(value) else float(value)
