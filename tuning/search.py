"""Search: hyper-parameters tried on the validation part, each trial in a process of its own."""

import contextlib
import csv
import time
from dataclasses import asdict, replace
from pathlib import Path

import keras_tuner
from keras_tuner.src.engine.base_tuner import BaseTuner
from keras_tuner.src.tuners.bayesian import BayesianOptimizationOracle
from keras_tuner.src.tuners.randomsearch import RandomSearchOracle

from app import figures
from app.errors import HandgradError, UsageError, unknown
from app.runs import read_json, replacing, write_json
from tuning.spaces import choose, space
from tuning.worker import TrialFailed, Worker


class _Careful:
    """What Keras Tuner's oracles lack: the defaults as first trial, files that are never half."""

    def populate_space(self, trial_id):
        if self.start_order:
            return super().populate_space(trial_id)
        hps = keras_tuner.HyperParameters()
        for hp in self.hyperparameters.space:
            hps.merge([hp])
            if hps.is_active(hp):
                hps.values[hp.name] = hp.default
        return {"status": "RUNNING", "values": hps.values}

    def _save_trial(self, trial):
        path = Path(self._get_trial_dir(trial.trial_id)) / "trial.json"
        with replacing(path) as aside:
            trial.save(str(aside))

    def save(self):
        path = Path(self._get_oracle_fname())
        with replacing(path) as aside:
            super(keras_tuner.Oracle, self).save(str(aside))

    def reload(self):
        super().reload()
        # Killed after the trial was written and before the oracle was: in none of its lists.
        self._retry_queue = [t.trial_id for t in self.trials.values() if t.status == "RUNNING"]


class _Random(_Careful, RandomSearchOracle):
    pass


class _Bayesian(_Careful, BayesianOptimizationOracle):
    def __init__(self, *, max_trials, **settings):
        # By default, the first 3 trials a dimension are random: more than most searches have.
        super().__init__(max_trials=max_trials, num_initial_points=max(3, max_trials // 3),
                         **settings)


TUNERS = {"random": _Random, "bayesian": _Bayesian}


def check(tuner, trials):
    """Raises UsageError for a tuner that does not exist, or no trials."""
    if tuner not in TUNERS:
        raise unknown("tuner", tuner, list(TUNERS))
    if trials < 1:
        raise UsageError(f"--trials must be at least 1. Received: {trials}")


class Search(BaseTuner):
    """A Keras Tuner search whose trials run in child processes.

    Args:
        run: the `app.runs.Run` it belongs to; its config gives all that is not searched.
        data: the `app.data.Data`. Trials train on its training part and are scored on its
            validation part.
        tuner: "random" or "bayesian".
        trials: how many to run, counting those of an interrupted search.

    Attributes:
        records: what came of each trial so far, a dict a trial, by its id.

    Raises:
        UsageError: for an unknown tuner or model, or where the folder holds another search.
    """

    def __init__(self, run, data, *, tuner="random", trials=6):
        check(tuner, trials)
        self.run, self.images = run, len(data.train)
        self.path = run.path / "search"
        self._check_same(tuner)
        known = self.path / "records.json"
        self.records = read_json(known) if known.exists() else {}
        self.worker = Worker(self.path / "worker.log")
        oracle = TUNERS[tuner](
            objective=keras_tuner.Objective("val_accuracy", "max"),
            max_trials=trials,
            seed=run.config.seed + 1,  # Keras Tuner takes 0 for none
            max_consecutive_failed_trials=trials + 1,
        )
        oracle.verbose = 0
        hypermodel = space(run.config.model, data.image_shape, len(data.class_names), self.images,
                           with_craft=run.config.craft)
        with contextlib.redirect_stdout(None):  # it says that it reloads
            super().__init__(oracle, hypermodel, directory=str(run.path), project_name="search",
                             overwrite=False)

    def _check_same(self, tuner):
        """A resumed search must ask the same question, else scores of two would be mixed."""
        question = {"tuner": tuner, **asdict(self.run.config)}
        path = self.path / "question.json"
        if not path.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(path, question)
            return
        before = read_json(path)
        different = [f"{k} was {before.get(k)!r}, is {v!r}" for k, v in question.items()
                     if before.get(k) != v]
        if different:
            raise UsageError(
                f"The search in {self.path} was started with other settings "
                f"({'; '.join(different)}). Give the same, or choose another --name."
            )

    def search(self, *, on_epoch=lambda trial, row: None, on_trial=lambda record: None):
        """Runs the trials that are left; returns all records, best first.

        Args:
            on_epoch: called with a trial's id and its numbers after each epoch.
            on_trial: called with a trial's record in its end.

        Raises:
            HandgradError: where no trial was completed.
        """
        try:
            super().search(on_epoch, on_trial)
        finally:
            self.worker.close()
        ranked = self.ranking()
        if ranked[0]["status"] != "COMPLETED":
            reasons = sorted({record["reason"] for record in ranked})
            raise HandgradError(f"All {len(ranked)} trials failed: {'; '.join(reasons[:3])}")
        write_json(self.run.path / "best.json", ranked[0])
        return ranked

    def run_trial(self, trial, on_epoch, on_trial):
        chosen = choose(trial.hyperparameters, self.run.config.model, self.images,
                        self.run.config.craft)
        config = asdict(replace(self.run.config, search=False, **chosen))
        record = {"trial": trial.trial_id, "values": dict(trial.hyperparameters.values),
                  "settings": config, "reason": None, "score": None, "loss": None,
                  "best_epoch": 0, "curve": []}
        started = time.perf_counter()
        try:
            result = self.worker.run(config, lambda row: on_epoch(trial.trial_id, row))
            record.update(status="COMPLETED", **result)
        except TrialFailed as error:
            record.update(status="FAILED", reason=str(error))
        record.update(epochs=len(record["curve"]), seconds=time.perf_counter() - started)
        self._keep(record)
        on_trial(record)
        if record["score"] is None:
            raise keras_tuner.errors.FailedTrialError(record["reason"])
        return {"val_accuracy": record["score"]}

    def _keep(self, record):
        self.records[record["trial"]] = record
        write_json(self.path / "records.json", self.records)
        self._write_table()
        figures.save(figures.search(list(self.records.values())), self.run.path / "trials.png")

    def ranking(self):
        """All records: best accuracy first, the lower loss among equals, failed ones last."""
        def merit(record):
            done = record["score"] is not None
            return (done, record["score"], -record["loss"]) if done else (done,)

        return sorted(self.records.values(), key=merit, reverse=True)

    def _write_table(self):
        names = sorted({name for r in self.records.values() for name in r["values"]})
        columns = ["trial", "status", "score", "loss", "best_epoch", "epochs", "seconds", "reason"]
        with replacing(self.run.path / "trials.csv") as aside, aside.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns + names)
            for record in self.records.values():
                row = [record[c] for c in columns] + [record["values"].get(n) for n in names]
                writer.writerow("" if value is None else value for value in row)

    def save(self):
        self.oracle.save()
        write_json(self._get_tuner_fname(), self.get_state())

    # Trials leave no checkpoints: the best is trained again, on all but the test part.
    def save_model(self, trial_id, model, step=0):
        pass

    def load_model(self, trial):
        return self.hypermodel.build(trial.hyperparameters)
