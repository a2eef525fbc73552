"""One trial: trained on the training part, scored on the validation part, or by folds."""

import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from sklearn.model_selection import StratifiedKFold

from app.errors import HandgradError
from app.measures import best_row, of_objective
from app.runs import Config, Run, replacing
from app.split import join
from app.tasks import find_task
from app.training import Checkpoints, fit, new_model


class SearchFailed(HandgradError):
    """What is not a trial's fault: no trial could be run."""


def run_trial(job, loaded, on_epoch):
    """Trains one trial, and scores it on images that it was not trained on.

    Its folder keeps the state after each epoch. A trial that was killed goes on from there; one
    that continues another starts from the other's state.

    Args:
        job: {"config": of the trial, in plain values, "folder": where its state is kept,
            "before": the folder of the trial that it continues, or None, "until": the number of
            epochs to reach, "objective": "val_accuracy" or so, "folds": K of a
            cross-validation, or None}.
        loaded: the data of earlier trials by their fingerprint.
        on_epoch: called with the numbers of each epoch; where it returns False the trial ends.

    Returns:
        A dict: score and loss of the best epoch, best_epoch, curve (the objective by epoch; by
        folds, their means), and trained, the number of epochs that this call has trained.
    """
    config = Config(**job["config"])
    data, objective = _data(config, loaded), job["objective"]
    if not job.get("folds"):
        rows, trained = train(job, config, data, lambda rows, row: on_epoch(
            {**row, "scores": [r[objective] for r in rows]}))
        return {**summary(rows, objective), "trained": trained}
    means, trained = None, 0
    for number, fold in enumerate(folds(data, job["folds"], config.seed)):
        last = number == job["folds"] - 1

        def after_epoch(rows, row, means=means, last=last):
            # A trial is judged by the means, which are there when the last fold is trained.
            scores = [r[objective] for r in _meaned(means, rows, number)] if last else []
            return on_epoch({**row, "fold": number, "scores": scores})

        rows, more = train(_of_fold(job, number), config, fold, after_epoch)
        means, trained = _meaned(means, rows, number), trained + more
    return {**summary(means, objective), "trained": trained}


def train(job, config, data, on_epoch):
    """(the numbers of all epochs, how many of them were trained now)

    on_epoch: called with the numbers of all epochs and, for a message, of the last.
    """
    folder = Path(job["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder, config)
    run.begin_training()
    killed = any(folder.glob("state-*"))
    if job["before"] and not killed:
        _take_up(Path(job["before"]), folder)
    checkpoints = Checkpoints(run, config.patience, keep_best=False)

    def goes_on(**more):
        """Asks about the last epoch."""
        rows = checkpoints.rows
        last = {name: float(value) for name, value in rows[-1].items()}
        return on_epoch(rows, {**last, "epoch": len(rows) - 1, **more}) is not False

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if not goes_on():
                self.model.stop_training = True

    keras.backend.clear_session()
    model = new_model(config, data)
    first = checkpoints.restore(model)
    left = first < job["until"] and not checkpoints.finished()
    if left and (not killed or goes_on(again=True)):  # the kill may have come before the answer
        fit(model, config, data.train, data.validation, first_epoch=first, until=job["until"],
            callbacks=[checkpoints, Watch()])
    return checkpoints.rows, len(checkpoints.rows) - first


def folds(data, count, seed):
    """The data set `count` times, each time with another part of its images to validate on.

    Training and validation part are divided anew, each class into `count` parts; the test part
    stays what it is.
    """
    both = join(data.train, data.validation)
    fewest = int(np.bincount(both.labels).min())
    if fewest < count:
        raise SearchFailed(f"--folds must be at most {fewest}, the images of the rarest class. "
                           f"Received: {count}")
    parts = StratifiedKFold(count, shuffle=True, random_state=seed)
    for train_part, validation in parts.split(both.labels, both.labels):
        yield replace(data, train=both.take(train_part), validation=both.take(validation))


def summary(rows, objective):
    """What the epochs of a trial come to."""
    best = best_row(rows, of_objective(objective))
    return {"score": rows[best][objective], "loss": rows[best].get("val_loss", 0.0),
            "best_epoch": best + 1, "curve": [row[objective] for row in rows]}


def _data(config, loaded):
    if config.fingerprint not in loaded:
        try:
            data = find_task(config.task).load(**config.data_arguments())
        except HandgradError as error:
            raise SearchFailed(str(error)) from error
        if data.fingerprint != config.fingerprint:
            raise SearchFailed(f"{config.data} has changed since the search began.")
        loaded[config.fingerprint] = data
    return loaded[config.fingerprint]


def _of_fold(job, number):
    """The job of one fold, which has a folder of its own."""
    folders = {name: job[name] and f"{job[name]}/fold-{number}" for name in ("folder", "before")}
    return {**job, **folders}


def _meaned(means, rows, number):
    """The means over the folds up to `number`, whose numbers are `rows`; as many as all have."""
    if means is None:
        return rows
    return [{name: (number * mean[name] + row[name]) / (number + 1)
             for name in ("val_accuracy", "val_loss")} for mean, row in zip(means, rows)]


def _take_up(before, folder):
    """Copies where a training stands; where nothing is kept of it, there is nothing to take up."""
    if not (before / "history.csv").exists():
        return
    # The state last: a folder that has one is whole.
    for file in (before / "history.csv", *sorted(before.glob("state-*"))[-1:]):
        with replacing(folder / file.name) as aside:
            shutil.copyfile(file, aside)
