"""Search: hyper-parameters tried on the validation part, each trial in a process of its own."""

import csv
import os
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
        if not self.start_order:
            values = {p.name: p.default for p in self.get_space().space}
            return {"status": "RUNNING", "values": values}
        return super().populate_space(trial_id)

    def save(self):
        path = Path(self._get_oracle_fname())
        with replacing(path) as aside:
            super(keras_tuner.Oracle, self).save(str(aside))


class _Random(_Careful, RandomSearchOracle):
    pass


class _Bayesian(_Careful, BayesianOptimizationOracle):
    pass


TUNERS = {"random": _Random, "bayesian": _Bayesian}


class Search(BaseTuner):
    """A Keras Tuner search whose trials run in child processes.

    Args:
        run: the `app.runs.Run` it belongs to; its config gives all that is not searched.
        data: the `app.data.Data`. Trials see its training and validation parts only.
        tuner: "random" or "bayesian".
        trials: how many to run, counting those of an interrupted search.
        on_epoch, on_trial: called with (trial id, numbers) and with a trial's record.

    Raises:
        UsageError: for an unknown tuner or model, or where the folder holds another search.
    """

    def __init__(self, run, data, *, tuner="random", trials=6,
                 on_epoch=lambda trial, row: None, on_trial=lambda record: None):
        if tuner not in TUNERS:
            raise unknown("tuner", tuner, list(TUNERS))
        if trials < 1:
            raise UsageError(f"--trials must be at least 1. Received: {trials}")
        self.run, self.data = run, data
        self.path = run.path / "search"
        self.on_epoch, self.on_trial = on_epoch, on_trial
        self._check_same(tuner)
        self.records = {}
        if (self.path / "records.json").exists():
            self.records = read_json(self.path / "records.json")
        oracle = TUNERS[tuner](
            objective=keras_tuner.Objective("val_accuracy", "max"),
            max_trials=trials,
            seed=run.config.seed + 1,  # Keras Tuner takes 0 for none
            max_consecutive_failed_trials=trials + 1,
        )
        oracle.verbose = 0
        self.worker = Worker(self.path / "worker.log")
        hypermodel = space(run.config.model, data.image_shape, len(data.class_names))
        super().__init__(oracle, hypermodel, directory=str(run.path), project_name="search",
                         overwrite=False)

    def _check_same(self, tuner):
        """A resumed search must ask the same question, else scores of two would be mixed."""
        config = asdict(self.run.config)
        question = {"tuner": tuner, "data": self.data.fingerprint, **config}
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

    def search(self):
        """Runs the trials that are left; returns all records, best first.

        Raises:
            HandgradError: where no trial was completed.
        """
        try:
            super().search()
        finally:
            self.worker.close()
        ranked = self.ranking()
        if ranked[0]["status"] != "COMPLETED":
            reasons = sorted({record["reason"] for record in ranked})
            raise HandgradError(f"All {len(ranked)} trials failed: {'; '.join(reasons[:3])}")
        write_json(self.run.path / "best.json", ranked[0])
        return ranked

    def run_trial(self, trial):
        chosen = choose(trial.hyperparameters, self.run.config.model)
        config = replace(self.run.config, **chosen)
        job = {"config": asdict(config), "data": data_arguments(config)}
        try:
            result = self.worker.run(job, lambda row: self.on_epoch(trial.trial_id, row))
        except TrialFailed as error:
            self._record(trial, status="FAILED", score=None, reason=str(error))
            raise keras_tuner.errors.FailedTrialError(str(error))
        self._record(trial, status="COMPLETED", reason=None, settings=asdict(config), **result)
        return {"val_accuracy": result["score"]}

    def _record(self, trial, **what):
        record = {"trial": trial.trial_id, "values": dict(trial.hyperparameters.values),
                  "best_epoch": 0, "curve": [], "seconds": 0.0, **what}
        record["epochs"] = len(record["curve"])
        self.records[trial.trial_id] = record
        write_json(self.path / "records.json", self.records)
        self._write_table()
        figures.save(figures.search(list(self.records.values())), self.run.path / "trials.png")
        self.on_trial(record)

    def ranking(self):
        """All records, the best first, the failed ones last."""
        return sorted(self.records.values(), key=lambda r: -1.0 if r["score"] is None
                      else r["score"], reverse=True)

    def _write_table(self):
        names = sorted({name for r in self.records.values() for name in r["values"]})
        columns = ["trial", "status", "score", "best_epoch", "epochs", "seconds", "reason"]
        with replacing(self.run.path / "trials.csv") as aside, aside.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns + names)
            for record in self.records.values():
                row = [record[c] for c in columns] + [record["values"].get(n) for n in names]
                writer.writerow("" if value is None else value for value in row)

    # Trials leave no checkpoints: the best is trained again, on all but the test part.
    def save_model(self, trial_id, model, step=0):
        pass

    def load_model(self, trial):
        return self.hypermodel.build(trial.hyperparameters)


def data_arguments(config):
    """The arguments of `app.data.load` for a config."""
    return {"source": os.path.abspath(config.data) if os.path.exists(config.data) else config.data,
            "image_size": config.image_size, "seed": config.seed,
            "skip_corrupt": config.skip_corrupt}
