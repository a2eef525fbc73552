"""After a search: the best trial trained again, evaluated, exported."""

from dataclasses import dataclass, replace
from pathlib import Path

import keras

from app.commands import write_export
from app.errors import HandgradError
from app.results import exported_before, finish
from app.runs import Config, Run
from app.tasks import find_task
from app.training import train


@dataclass(frozen=True)
class Outcome:
    """What came out of the whole way; `evaluation` is of the run's task."""

    run: Run
    model: keras.Model
    evaluation: object
    exported: Path


def train_best(run, data, best, *, to="saved_models", verbose=0):
    """Trains the best trial again on training + validation part, tests it once, exports it.

    The training lasts as many epochs as the trial took to its best validation accuracy. What an
    earlier call has finished is not done again.

    Args:
        best: the record of a trial, as `tuning.search.Search.search` returns them.

    Raises:
        HandgradError: where training diverges or the export cannot be written.
    """
    run = Run(run.path, final_config(best))
    model = train(run, data, verbose=verbose)
    evaluation = find_task(run.config.task).evaluate(model, data.test, data)
    exported = exported_before(run)
    if exported is None or exported.parent.parent != Path(to).resolve():
        try:
            exported = write_export(run, data, model, evaluation, to=to)
        except HandgradError as error:
            finish(run, data, model, evaluation)
            raise HandgradError(
                f"{error} The run is kept: export it with `handgrad export {run.name} --to FOLDER`."
            ) from error
    finish(run, data, model, evaluation, exported)
    return Outcome(run, model, evaluation, exported)


def final_config(best):
    """The config of the final training of a trial."""
    return replace(Config(**best["settings"]), epochs=best["best_epoch"], patience=None,
                   on_train_and_validation=True)
