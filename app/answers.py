"""What an export answers about one image, by task: as plain values, and in a line for people.

Needs NumPy alone, as `app.serving` needs TensorFlow alone.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Callable

import numpy as np

CERTAIN = 0.5  # the least score of an object that people are told of


@dataclass(frozen=True)
class Answer:
    """How a task's answers are read.

    Attributes:
        row: (outputs of one image, class names) -> a dict of plain values.
        line: that dict in a line.
    """

    row: Callable
    line: Callable


def classified(answer, class_names):
    probabilities = dict(zip(class_names, answer["probabilities"].tolist()))
    return {"label": str(answer["label"]), "score": float(answer["score"]),
            "probabilities": probabilities}


def segmented(answer, class_names):
    """The share of the pixels of each class that is there, the largest first."""
    counts = np.bincount(answer["mask"].ravel(), minlength=len(class_names)) / answer["mask"].size
    order = [i for i in np.argsort(-counts, kind="stable") if counts[i]]
    return {"shares": {class_names[i]: float(counts[i]) for i in order}}


def detected(answer, class_names):
    """The objects, the most certain first; none is an empty list."""
    return {"objects": [
        {"label": class_names[answer["classes"][i]], "score": float(answer["scores"][i]),
         "box": [round(float(edge), 2) for edge in answer["boxes"][i]]}
        for i in range(int(answer["count"]))]}


def counted(row):
    """How many objects of each class are certain, the most frequent class first."""
    counts = Counter(found["label"] for found in row["objects"] if found["score"] >= CERTAIN)
    return ", ".join(f"{count} {label}" for label, count in counts.most_common()) or "nothing"


def described(answer, class_names):
    return {"sentence": str(answer["sentence"]), "score": float(answer["score"])}


ANSWERS = {
    "classify": Answer(classified, lambda row: f"{row['label']} {row['score']:.4f}"),
    "segment": Answer(segmented, lambda row: ", ".join(
        f"{name} {share:.1%}" for name, share in row["shares"].items())),
    "detect": Answer(detected, counted),
    "describe": Answer(described, lambda row: row["sentence"]),
}
