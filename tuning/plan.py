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
            "halving" do not count.
        objective: "val_accuracy" or "val_loss".
        workers: trials that run at once.
        limits: of a trial.
        stop_hopeless: whether the median rule ends trials early.
        keep: so many trials, the best, keep their weights.
    """

    tuner: str = "random"
    trials: int = 6
    objective: str = "val_accuracy"
    workers: int = 1
    limits: Limits = Limits()
    stop_hopeless: bool = False
    keep: int = 3

    def check(self):
        """Raises UsageError for what cannot be."""
        objective_of(self.objective)
        oracle_of(self.tuner, objective_of(self.objective), 1, 1, 0)
        for name, least in (("trials", 1), ("workers", 1), ("keep", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"--{name} must be at least {least}. "
                                 f"Received: {getattr(self, name)}")
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
