"""The progress of a search: a live table on a terminal, a line a trial."""

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress as Bars, TextColumn
from rich.progress import TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from tuning.show import NAMES, values

BEST = 5  # ended trials in the table


class Progress:
    """Shows the trials of a search as they run, and the best so far.

    `epoch` and `trial` are the callbacks of `Search.search`.

    Args:
        search: the `tuning.search.Search`.
        console: where to; without one, standard error.
    """

    def __init__(self, search, console=None):
        self.search, self.objective = search, search.plan.objective
        self.console = console or Console(stderr=True, highlight=False)
        self.rows = {}  # the last epoch of each running trial
        plan, epochs = search.plan, search.run.config.epochs
        # As many as there may be: a strategy that ends trials early has fewer.
        total = min(plan.epoch_budget or np.inf, (plan.trials or np.inf) * epochs)
        self.bars = Bars(TextColumn("epochs"), BarColumn(), MofNCompleteColumn(),
                         TimeElapsedColumn(), TextColumn("left:"), TimeRemainingColumn())
        self.task = self.bars.add_task("epochs", total=total, completed=self._trained())
        self.live = Live(get_renderable=lambda: Group(self.table(), self.bars),
                         console=self.console, transient=True, auto_refresh=True)

    def __enter__(self):
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *error):
        self.live.stop()

    def epoch(self, trial, row):
        self.rows[trial] = row
        self.bars.update(self.task, completed=self._trained())

    def trial(self, record):
        self.rows.pop(record["trial"], None)
        self.bars.update(self.task, completed=self._trained())
        score = record["reason"] if record["score"] is None else (
            f"{self.objective} {record['score']:.4f} after {record['best_epoch']} epochs"
            + (f", {record['reason']}" if record["reason"] else ""))
        self.console.print(f"trial {record['trial']} ({len(record['curve'])} epochs, "
                           f"{record['seconds']:.1f} s): {score}", markup=False, soft_wrap=True)

    def table(self):
        """The best trials that have ended, then those that run."""
        table = Table("trial", "state", "rung", "epochs", NAMES[self.objective], "values")
        for record in self.search.ranking()[:BEST]:
            if record["score"] is not None:
                table.add_row(record["trial"], record["status"].lower(), _rung(record["tuner"]),
                              str(record["epochs"]), f"{record['score']:.4f}", values(record))
        for trial, row in sorted(self.rows.items(), key=lambda item: int(item[0])):
            chosen, own = self.search.values(self.search.oracle.trials[trial])
            until = own.get("tuner/epochs", self.search.run.config.epochs)
            table.add_row(trial, "running", _rung(own), f"{row['epoch'] + 1} of {until}",
                          f"{row[self.objective]:.4f}", values({"values": chosen}))
        return table

    def _trained(self):
        ended = sum(r["epochs"] - r["tuner"].get("tuner/initial_epoch", 0)
                    for r in self.search.records.values())
        return ended + sum(row["epoch"] + 1 for row in self.rows.values())


def _rung(own):
    """Which rung of a halved search, which round of a narrowing one."""
    return str(own.get("tuner/rung", own.get("tuner/round", own.get("tuner/bracket", ""))))
