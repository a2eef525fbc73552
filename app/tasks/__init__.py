"""Kinds of tasks: to tell classes apart, and what lies beyond classification."""

from dataclasses import dataclass
from importlib import import_module

from app.errors import unknown
from app.measures import ACCURACY, FID, MAP_50, MEAN_IOU, SENTENCES, Measure


@dataclass(frozen=True)
class Known:
    """What is known of a task without TensorFlow.

    Attributes:
        module: of the `app.tasks.task.Task`.
        measure: what decides which epoch and which trial is best.
        data, model, epochs, trials, batch_size, learning_rate, augment, ema: what the command line
            takes where none is given; a search of batch sizes and rates begins with these.
        rates: the learning rates that are searched, from and to.
        widths: the factors of a network's own channels that are searched, from and to.
    """

    module: str
    measure: Measure
    model: str
    data: str = "digit-scenes"
    epochs: int = 12
    trials: int = 2
    batch_size: int = 32
    learning_rate: float = 1e-3
    augment: str = "shift"
    ema: float | None = None
    rates: tuple[float, float] = (1e-3, 1e-2)
    widths: tuple[float, float] = (0.5, 1.0)


TASKS = {
    "classify": Known("classification", ACCURACY, "lenet5", "digits", epochs=8, trials=6,
                      rates=(3e-4, 5e-3), widths=(0.25, 2.0)),
    "segment": Known("segmentation", MEAN_IOU, "unet", epochs=9, batch_size=16,
                     learning_rate=1e-2, rates=(3e-3, 2e-2)),
    "detect": Known("detection", MAP_50, "ssd", learning_rate=2e-3),
    "describe": Known("description", SENTENCES, "nic", epochs=10, learning_rate=1.5e-3,
                      augment="none", rates=(5e-4, 3e-3)),
    "generate": Known("generation", FID, "dcgan", "digits", epochs=160, batch_size=64,
                      learning_rate=4e-4, rates=(3e-4, 6e-4), augment="none", ema=0.995),
}


def known(task):
    """The `Known` of a task."""
    if task not in TASKS:
        raise unknown("task", task, list(TASKS))
    return TASKS[task]


def find_task(name):
    """The `app.tasks.task.Task` of a name."""
    return import_module(f"app.tasks.{known(name).module}").TASK
