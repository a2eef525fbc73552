"""The progress of a search: a bar on a terminal, a line a trial."""

import sys

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress as Bars, TextColumn
from rich.progress import TimeElapsedColumn


class Progress:
    """Shows trials as they run, beside the records of earlier ones.

    `epoch` and `trial` are the callbacks of `Search.search`.
    """

    def __init__(self, plan, epochs, records):
        self.objective, self.epochs = plan.objective, epochs
        self.total = min(plan.epoch_budget or np.inf, (plan.trials or np.inf) * epochs)
        self.ended, self.running = len(records), {}
        console = Console(stderr=True)
        self.bars = Bars(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                         TimeElapsedColumn(), console=console, transient=True,
                         disable=not sys.stderr.isatty())

    def __enter__(self):
        self.bars.start()
        self.task = self.bars.add_task("search", total=self.total,
                                       completed=self.ended * self.epochs)
        return self

    def __exit__(self, *error):
        self.bars.stop()

    def epoch(self, trial, row):
        self.running[trial] = row["epoch"] + 1
        self.bars.update(
            self.task, completed=self.ended * self.epochs + sum(self.running.values()),
            description=f"trial {trial} epoch {row['epoch'] + 1} "
                        f"{self.objective} {row[self.objective]:.4f}",
        )

    def trial(self, record):
        self.ended += 1
        self.running.pop(record["trial"], None)
        self.bars.update(self.task, completed=self.ended * self.epochs)
        score = record["reason"] if record["score"] is None else (
            f"{self.objective} {record['score']:.4f} after {record['best_epoch']} epochs"
            + (f", {record['reason']}" if record["reason"] else ""))
        print(f"trial {record['trial']} ({len(record['curve'])} epochs, "
              f"{record['seconds']:.1f} s): {score}", file=sys.stderr, flush=True)
