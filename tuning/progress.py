"""The progress of a search: a bar on a terminal, a line a trial."""

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress as Bars, TextColumn
from rich.progress import TimeElapsedColumn


class Progress:
    """Shows trials as they run: `epoch` and `trial` are a `Search`'s callbacks."""

    def __init__(self, trials, epochs):
        self.trials, self.epochs = trials, epochs
        console = Console(stderr=True)
        self.bars = Bars(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                         TimeElapsedColumn(), console=console, transient=True,
                         disable=not sys.stderr.isatty())

    def __enter__(self):
        self.bars.start()
        self.task = self.bars.add_task("search", total=self.trials * self.epochs)
        self.ended = 0
        return self

    def __exit__(self, *error):
        self.bars.stop()

    def epoch(self, trial, row):
        self.bars.update(
            self.task, completed=self.ended * self.epochs + row["epoch"] + 1,
            description=f"trial {trial} epoch {row['epoch'] + 1} "
                        f"val_accuracy {row['val_accuracy']:.4f}",
        )

    def trial(self, record):
        self.ended += 1
        self.bars.update(self.task, completed=self.ended * self.epochs)
        if self.ended == self.trials:
            self.bars.stop()
        score = record["reason"] if record["score"] is None else (
            f"val_accuracy {record['score']:.4f} after {record['best_epoch']} epochs")
        print(f"trial {record['trial']} ({len(record['curve'])} epochs, "
              f"{record['seconds']:.1f} s): {score}", file=sys.stderr, flush=True)
