"""What networks are judged by, apart from their loss: a measure for each kind of task."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """A number that says how good a network is.

    Attributes:
        name: as epochs are recorded by, `name` and `val_name`.
        title: what people call it.
        direction: "max" where more is better, else "min".
    """

    name: str
    title: str
    direction: str = "max"

    @property
    def sign(self):
        return 1 if self.direction == "max" else -1


ACCURACY = Measure("accuracy", "accuracy")
MEAN_IOU = Measure("mean_iou", "mean IoU")
MAP_50 = Measure("map_50", "mAP@0.5")
SENTENCES = Measure("sentence_accuracy", "sentence accuracy")
FID = Measure("fid", "FID", "min")
LOSS = Measure("loss", "loss", "min")
MEASURES = {m.name: m for m in (ACCURACY, MEAN_IOU, MAP_50, SENTENCES, FID, LOSS)}


def of_objective(name):
    """The measure of "val_accuracy", "val_loss" ..."""
    return MEASURES[name.removeprefix("val_")]


def best_row(rows, measure):
    """The index of the best epoch: by the measure, the lower loss among equals.

    None where the rows do not have it: there was no validation part.
    """
    name = f"val_{measure.name}"
    if not rows or name not in rows[0]:
        return None

    def merit(i):
        value, loss = measure.sign * rows[i][name], rows[i].get("val_loss", 0.0)
        return (value if value == value else -float("inf"),
                -loss if loss == loss else -float("inf"))

    return max(range(len(rows)), key=merit)
