"""The commands that search: run and tune."""

from app.commands import start, summary
from app.console import console
from app.runs import RUNS
from custom_layers.byte_sizes import shown as shown_bytes
from tuning.chief import Chief
from tuning.journal import alone
from tuning.pipeline import train_best
from tuning.progress import Progress
from tuning.search import Search
from tuning.show import NAMES, show, shown, values
from tuning.spaces import find_space


def run_all(config, name, plan, *, to, resume, overwrite):
    run, data, records = _search(config, name, plan, resume, overwrite, to=to)
    best, failed = records[0], sum(r["status"] == "FAILED" for r in records)
    outcome = train_best(run, data, best, to=to, verbose=console.verbose)
    rows = {
        "trials": f"{len(records)}, {failed} failed",
        "best trial": f"{best['trial']}: {values(best)}",
        NAMES[plan.objective]: f"{best['score']:.4f}, after {best['best_epoch']} epochs",
        "SavedModel": str(outcome.exported),
    }
    summary(outcome.run, outcome.model, outcome.evaluation, rows, trials=len(records),
            failed=failed, best=best, exported=str(outcome.exported))


def tune(config, name, plan, *, resume, overwrite, chief=None, silence=30.0):
    crew = None if chief is None else Chief(chief, plan.limits, silence, console.note)
    run, _, _ = _search(config, name, plan, resume, overwrite, crew)
    result, table = shown(run.path)
    console.note(f"the search as a page: {result['page']}")
    console.result(result, table)


def show_search(name):
    result, table = show(name)
    console.note(f"the search as a page: {result['page']}")
    console.result(result, table)


def _search(config, name, plan, resume, overwrite, crew=None, to=None):
    find_space(config.model, config.task)
    plan.check()
    if to is not None:  # where it cannot be made, no search is lost
        to.mkdir(parents=True, exist_ok=True)
    if overwrite and (RUNS / name / "search").is_dir():
        with alone(RUNS / name / "search"):  # not under a search that runs
            pass
    run, data = start(config, name, resume=resume, overwrite=overwrite)
    search = Search(run, data, plan, crew)
    with Progress(search) as progress:
        records = search.search(on_epoch=progress.epoch, on_trial=progress.trial)
    if search.damaged:
        console.note(f"{search.damaged} lines of {search.journal.path} could not be read and were "
                     "set aside; their trials were taken up from what else is kept of them.")
    console.note(f"{shown_bytes(search.disk())} in {search.path}")
    return run, data, records
