"""How a search goes about it."""

from dataclasses import dataclass

import psutil

from app.errors import UsageError
from custom_layers.byte_sizes import memory_bytes, shown
from tuning.oracles import objective_of, oracle_of
from tuning.worker import Limits

WORKER_BYTES = 700e6  # what TensorFlow and its graphs hold in a worker, beside the data


@dataclass(frozen=True)
class Plan:
    """How a search goes about it.

    Attributes:
        tuner: a name out of `tuning.oracles.TUNERS`.
        trials: how many to start, counting those of an interrupted search; continued trainings of
            "halving" do not count. None: as many as `epoch_budget` has room for.
        epoch_budget: no trial is started when all together have been given so many epochs.
        folds: each trial is trained so many times, each time with another part of the training and
            validation images as its validation part; its scores are the means. None: once.
        objective: "val_accuracy" or "val_loss".
        workers: trials that run at once.
        limits: of a trial.
        stop_hopeless: whether the median rule ends trials early.
        keep: so many trials, the best, keep their weights.
    """

    tuner: str = "random"
    trials: int | None = 6
    objective: str = "val_accuracy"
    workers: int = 1
    limits: Limits = Limits()
    stop_hopeless: bool = False
    keep: int = 3
    epoch_budget: int | None = None
    folds: int | None = None

    def check(self):
        """Raises UsageError for what cannot be."""
        objective_of(self.objective)
        oracle_of(self.tuner, objective_of(self.objective), 1, 1, 0)
        if self.trials is None and self.epoch_budget is None:
            raise UsageError("A search needs --trials or --epoch-budget to come to an end.")
        for name, least in (("trials", 1), ("epoch_budget", 1), ("folds", 2), ("workers", 1),
                            ("keep", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"--{name.replace('_', '-')} must be at least {least}. "
                                 f"Received: {value}")
        check_memory(self.workers)


def check_memory(workers, data=None):
    """Raises UsageError where more workers are asked for than there is memory for."""
    images = sum(split.images.nbytes for split in data.splits.values()) if data else 0
    each = WORKER_BYTES + 2 * images  # the arrays, and the tensors made of them
    free = psutil.virtual_memory().available
    if workers > 1 and workers * each > free:
        raise UsageError(
            f"--workers {workers} would take about {shown(workers * each)} of memory, "
            f"{shown(each)} each; {shown(free)} are free. Expected: at most "
            f"{max(1, int(free // each))}")


def limits(minutes, memory):
    """The `Limits` of a trial, by minutes and by a text such as "4 GB"; None is no limit."""
    if minutes is not None and not 0 < minutes < float("inf"):
        raise UsageError(f"--trial-minutes must be above 0. Received: {minutes}")
    try:
        most = None if memory is None else memory_bytes(memory)
    except ValueError as error:
        raise UsageError("--trial-memory must be a size such as '4 GB' or '512 MB'. "
                         f"Received: {memory}") from error
    return Limits(None if minutes is None else 60 * minutes, most)
