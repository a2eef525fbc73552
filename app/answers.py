"""What an export answers about one image, by task: as plain values, and in a line for people.

Needs NumPy alone, as `app.serving` needs TensorFlow alone.
"""

from dataclasses import dataclass
from typing import Callable

import numpy as np


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


def described(answer, class_names):
    return {"sentence": str(answer["sentence"]), "score": float(answer["score"])}


ANSWERS = {
    "classify": Answer(classified, lambda row: f"{row['label']} {row['score']:.4f}"),
    "segment": Answer(segmented, lambda row: ", ".join(
        f"{name} {share:.1%}" for name, share in row["shares"].items())),
    "detect": Answer(detected, lambda row: ", ".join(
        f"{found['label']} {found['score']:.2f} at "
        f"{' '.join(f'{edge:.0f}' for edge in found['box'])}" for found in row["objects"])
        or "nothing"),
    "describe": Answer(described, lambda row: row["sentence"]),
}
