"""Evaluation: how good a model is on one part of the data, and where it goes wrong."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from rich.table import Table
from rich.text import Text
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from app.data import batches
from app.errors import HandgradError


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model did on N labelled images of C classes.

    A measure that the images cannot give is NaN: the recall of a class without images, the
    precision of a class that was never predicted.

    Attributes:
        class_names: the C names.
        labels: the true classes, int (N,).
        probabilities: the softmax of the logits, float32 (N, C).
        loss: mean cross entropy in nats.
        accuracy: the fraction of images whose most probable class is the true one.
        confusion: images by true class (row) and predicted class (column), int (C, C).
        precision, recall, f1: by class, float (C,).
        support: images by class, int (C,).
    """

    class_names: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    loss: float
    accuracy: float
    confusion: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray

    @property
    def measures(self):
        """What the network is judged by, the most telling first."""
        return {"accuracy": self.accuracy, "loss": self.loss}

    @property
    def predicted(self):
        """The most probable class of each image, int (N,)."""
        return self.probabilities.argmax(axis=1)

    @property
    def confidence(self):
        """The probability of the predicted class of each image, float32 (N,)."""
        return self.probabilities.max(axis=1)

    def worst_mistakes(self, k):
        """Indices of at most `k` wrongly classified images, the most confident mistake first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")][:k]

    def by_class(self):
        """A dict a class: name, precision, recall, f1 (None where not defined), images."""
        columns = (self.precision, self.recall, self.f1)
        return [
            {"name": name, "precision": _plain(p), "recall": _plain(r), "f1": _plain(f),
             "images": int(images)}
            for name, p, r, f, images in zip(self.class_names, *columns, self.support)
        ]

    def as_dict(self):
        """Everything but the single images, in plain values."""
        return {
            "images": len(self.labels),
            "loss": self.loss,
            "accuracy": self.accuracy,
            "classes": self.by_class(),
            "confusion": self.confusion.tolist(),
        }

    def table(self):
        """Precision, recall and F1 by class, for a terminal."""
        table = Table(title=str(self), title_justify="left", title_style="bold")
        table.add_column("class")
        for name in ("precision", "recall", "f1", "images"):
            table.add_column(name, justify="right")
        for row in self.by_class():
            measures = (row["precision"], row["recall"], row["f1"])
            # Text, because a name such as "[red]" would be read as markup.
            table.add_row(Text(row["name"]),
                          *("-" if value is None else f"{value:.4f}" for value in measures),
                          str(row["images"]))
        return table

    def __str__(self):
        return f"accuracy {self.accuracy:.4f}, loss {self.loss:.4f} nats, {len(self.labels)} images"


def evaluate(model, split, class_names, batch_size=256):
    """Evaluates a model that gives logits on one part of the data.

    Args:
        model: a built Keras model, images (N, H, W, C) in [0, 1] -> logits (N, classes).
        split: an `app.data.Split`.
        class_names: the names of the classes, in the order of the logits.
        batch_size: images predicted at a time.

    Raises:
        HandgradError: for a split without images, a model made for other images or another
            number of classes, and logits that are not finite.
    """
    _check_fit(model, split, class_names)
    logits = model.predict(batches(split, batch_size), verbose=0)
    return score(logits, split.labels, class_names)


def score(logits, labels, class_names):
    """The `Evaluation` of logits (N, C) whose true classes are `labels` (N,)."""
    logits = np.asarray(logits, np.float64)
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(broken):
        raise HandgradError(
            f"The model's output is NaN or infinite for {len(broken)} of {len(logits)} images, "
            f"first for image {broken[0]}: its training diverged. Train again with a smaller "
            "learning rate."
        )
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    # Float32 first: the predicted class must be the same here as in `Evaluation.predicted`.
    probabilities = tf.nn.softmax(logits).numpy().astype(np.float32)
    predicted, classes = probabilities.argmax(axis=1), range(len(class_names))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=np.nan
    )
    return Evaluation(
        class_names=tuple(class_names),
        labels=labels,
        probabilities=probabilities,
        loss=float(losses.numpy().mean()),
        accuracy=float((predicted == labels).mean()),
        confusion=confusion_matrix(labels, predicted, labels=classes),
        precision=precision,
        recall=recall,
        f1=f1,
        support=support,
    )


def _check_fit(model, split, class_names):
    """The images and the classes are those that the model was made for."""
    if not len(split):
        raise HandgradError("There is nothing to evaluate: this part of the data has no images.")
    expected, received = model.input_shape[1:], split.images.shape[1:]
    if len(expected) != len(received) or any(
        e not in (None, r) for e, r in zip(expected, received)
    ):
        raise HandgradError(
            f"The model expects images of shape {_shape(expected)} (height x width x channels). "
            f"Received: {_shape(received)}. Evaluate it on the data that it was trained on."
        )
    classes, names = model.output_shape[-1], len(class_names)
    if classes != names:
        raise HandgradError(
            f"The model tells {classes} classes apart. Received: data of {names} classes. "
            "Evaluate it on the data that it was trained on."
        )


def _shape(sizes):
    return " x ".join("any" if size is None else str(size) for size in sizes)


def _plain(value):
    return None if np.isnan(value) else float(value)
