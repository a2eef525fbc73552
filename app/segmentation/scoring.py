"""How good masks are: intersection over union, by class and in the mean."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from rich.table import Table
from rich.text import Text

from app.data import batches
from app.errors import HandgradError
from app.segmentation import VOID

WORST = 6  # images that a report shows


@dataclass(frozen=True, eq=False)
class Segmented:
    """What a network did on labelled pixels of C classes.

    Attributes:
        class_names: the C names.
        confusion: pixels by true class (row) and predicted class (column), int (C, C); void ones
            count nowhere.
        loss: mean cross entropy of a pixel in nats.
        by_image: the mean IoU of each image, over the classes that are in it or predicted; NaN
            where all is void.
    """

    class_names: tuple[str, ...]
    confusion: np.ndarray
    loss: float
    by_image: np.ndarray

    @property
    def iou(self):
        """Intersection over union of each class; NaN of a class that is nowhere."""
        return intersection_over_union(self.confusion)

    @property
    def mean_iou(self):
        return float(np.nanmean(self.iou))

    @property
    def accuracy(self):
        """The part of the pixels whose class is right."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def measures(self):
        return {"mean_iou": self.mean_iou, "pixel_accuracy": self.accuracy, "loss": self.loss}

    def worst(self, count=WORST):
        """The indices of the images with the smallest IoU, the smallest first."""
        return np.argsort(np.nan_to_num(self.by_image, nan=1.0), kind="stable")[:count]

    def by_class(self):
        """A dict a class: name, iou (None where the class is nowhere), pixels."""
        return [{"name": name, "iou": None if np.isnan(iou) else float(iou), "pixels": int(pixels)}
                for name, iou, pixels in zip(self.class_names, self.iou, self.confusion.sum(1))]

    def as_dict(self):
        return {"images": len(self.by_image), **self.measures, "classes": self.by_class(),
                "confusion": self.confusion.tolist()}

    def table(self):
        table = Table(title=str(self), title_justify="left", title_style="bold")
        for name in ("class", "IoU", "pixels"):
            table.add_column(name, justify="left" if name == "class" else "right")
        for row in self.by_class():
            table.add_row(Text(row["name"]), "-" if row["iou"] is None else f"{row['iou']:.4f}",
                          f"{row['pixels']:,}")
        return table

    def __str__(self):
        return (f"mean IoU {self.mean_iou:.4f}, {self.accuracy:.2%} of the pixels right, "
                f"{len(self.by_image)} images")


def intersection_over_union(confusion):
    """IoU_c = n_cc / (sum_j n_cj + sum_i n_ic - n_cc), of counts n (..., C, C); NaN for 0 / 0.

    Source: Long, Shelhamer, Darrell, 2015, section 5: "mean IU" is its mean over the classes.
    """
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    union = confusion.sum(-1) + confusion.sum(-2) - right
    with np.errstate(invalid="ignore"):
        return right / union


def evaluate(model, split, class_names, batch_size=16):
    """Evaluates a network that gives logits (N, H, W, C) on one part of the data.

    Raises:
        HandgradError: where the network was made for other images or classes, or gives no numbers.
    """
    _check_fit(model, split, class_names)
    counts, total, pixels = [], 0.0, 0
    for images, masks in batches(split, batch_size):
        confusion, loss, number = _count(model.predict_on_batch(images), masks, len(class_names))
        counts.append(confusion.numpy())
        total, pixels = total + float(loss), pixels + int(number)
    if not np.isfinite(total):
        raise HandgradError("The network's output is NaN or infinite: its training diverged. Train "
                            "again with a smaller learning rate.")
    if not pixels:
        raise HandgradError("There is nothing to evaluate: all pixels are void.")
    counts = np.concatenate(counts)
    by_image = np.array([np.nanmean(iou) if np.isfinite(iou).any() else np.nan
                         for iou in intersection_over_union(counts)])
    return Segmented(tuple(class_names), counts.sum(0), total / pixels, by_image)


@tf.function(reduce_retracing=True)
def _count(logits, masks, classes):
    """(confusion (N, C, C) of each image, sum of the losses, number of pixels that count)."""
    valid = masks != VOID
    labels = tf.where(valid, tf.cast(masks, tf.int32), 0)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    cells = labels * classes + tf.argmax(logits, -1, tf.int32)
    images = tf.range(tf.shape(masks)[0])[:, None, None] * classes * classes
    cells = tf.boolean_mask(images + cells, valid)
    confusion = tf.math.bincount(cells, minlength=tf.shape(masks)[0] * classes * classes)
    return (tf.reshape(confusion, (-1, classes, classes)),
            tf.reduce_sum(tf.cast(tf.where(valid, losses, 0), tf.float64)),
            tf.math.count_nonzero(valid))


def _check_fit(model, split, class_names):
    expected, received = model.output_shape[1:], (*split.images.shape[1:3], len(class_names))
    if tuple(expected) != received or model.input_shape[-1] != split.images.shape[-1]:
        raise HandgradError(
            f"The network gives logits {expected} (height, width, classes) for images "
            f"{model.input_shape[1:]}. Received: images {split.images.shape[1:]}, "
            f"{len(class_names)} classes. Evaluate it on the data that it was trained on.")
