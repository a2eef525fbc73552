"""The progress of a search: a bar on a terminal, a line a trial."""

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress as Bars, TextColumn
from rich.progress import TimeElapsedColumn


class Progress:
    """Shows trials as they run, beside `ended` earlier ones.

    `epoch` and `trial` are the callbacks of `Search.search`.
    """

    def __init__(self, trials, epochs, ended=0):
        self.trials, self.epochs, self.ended = trials, epochs, ended
        console = Console(stderr=True)
        self.bars = Bars(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                         TimeElapsedColumn(), console=console, transient=True,
                         disable=not sys.stderr.isatty())

    def __enter__(self):
        self.bars.start()
        self.task = self.bars.add_task("search", total=self.trials * self.epochs,
                                       completed=self.ended * self.epochs)
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
        score = record["reason"] if record["score"] is None else (
            f"val_accuracy {record['score']:.4f} after {record['best_epoch']} epochs")
        print(f"trial {record['trial']} ({len(record['curve'])} epochs, "
              f"{record['seconds']:.1f} s): {score}", file=sys.stderr, flush=True)
