"""Kinds of tasks: to tell classes apart, and what lies beyond classification."""

from dataclasses import dataclass
from importlib import import_module

from app.errors import unknown
from app.measures import ACCURACY, MAP_50, MEAN_IOU, SENTENCES, Measure


@dataclass(frozen=True)
class Known:
    """What is known of a task without TensorFlow.

    Attributes:
        module: of the `app.tasks.task.Task`.
        measure: what decides which epoch and which trial is best.
        data, model, epochs, trials, augment: what the command line takes where none is given.
    """

    module: str
    measure: Measure
    data: str
    model: str
    epochs: int
    trials: int
    augment: str


TASKS = {
    "classify": Known("classification", ACCURACY, "digits", "lenet5", 8, 6, "shift"),
    "segment": Known("segmentation", MEAN_IOU, "digit-scenes", "unet", 12, 2, "shift"),
    "detect": Known("detection", MAP_50, "digit-scenes", "ssd", 12, 2, "shift"),
    "describe": Known("description", SENTENCES, "digit-scenes", "nic", 12, 2, "none"),
}


def known(task):
    """The `Known` of a task."""
    if task not in TASKS:
        raise unknown("task", task, list(TASKS))
    return TASKS[task]


def find_task(name):
    """The `app.tasks.task.Task` of a name."""
    return import_module(f"app.tasks.{known(name).module}").TASK
