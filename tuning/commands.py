"""The commands that search: run and tune."""

from rich.table import Table

from app.commands import start, summary
from app.console import console
from app.results import trainable_parameters
from tuning.pipeline import search_train_export
from tuning.progress import Progress
from tuning.search import Search
from tuning.spaces import find_space


def run_all(config, name, *, tuner, trials, to, resume, overwrite):
    find_space(config.model)
    run, data = start(config, name, resume=resume, overwrite=overwrite)
    with Progress(trials, config.epochs) as progress:
        outcome = search_train_export(run, data, tuner=tuner, trials=trials, to=to,
                                      verbose=console.verbose, on_epoch=progress.epoch,
                                      on_trial=progress.trial)
    done = [t for t in outcome.trials if t["status"] == "COMPLETED"]
    best = max(done, key=lambda t: t["score"])
    rows = {
        "trials": f"{len(outcome.trials)}, {len(outcome.trials) - len(done)} failed",
        "best trial": f"{best['trial']}: {values(best)}",
        "validation accuracy": f"{best['score']:.4f}, after {best['best_epoch']} epochs",
        "parameters": f"{trainable_parameters(run.model()):,}",
        "time": ", ".join(f"{part} {s:.0f} s" for part, s in outcome.seconds.items()),
        "SavedModel": outcome.exported,
        "report": outcome.report,
    }
    summary(run, outcome.evaluation, rows)


def tune(config, name, *, tuner, trials, resume, overwrite):
    find_space(config.model)
    run, data = start(config, name, resume=resume, overwrite=overwrite)
    with Progress(trials, config.epochs) as progress:
        records = Search(run, data, tuner=tuner, trials=trials, on_epoch=progress.epoch,
                         on_trial=progress.trial).search()
    table = Table("trial", "validation accuracy", "epoch", "seconds", "values")
    for record in records:
        score = "failed" if record["score"] is None else f"{record['score']:.4f}"
        table.add_row(record["trial"], score, str(record["best_epoch"]),
                      f"{record['seconds']:.1f}", record["reason"] or values(record))
    console.result({"run": str(run.path), "best": records[0], "trials": records}, table)


def values(record):
    """A trial's values in a line."""
    return ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
                     for name, value in record["values"].items())
