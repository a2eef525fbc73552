"""Search: hyper-parameters tried on the validation part, each trial in a process of its own."""

import shutil
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace

import keras_tuner
from keras_tuner.engine.trial import Trial

from app.errors import HandgradError, UsageError
from app.runs import read_json, write_json
from tuning.journal import Journal, alone
from tuning.median_rule import hopeless
from tuning.oracles import OBJECTIVES, objective_of, oracle_of
from tuning.plan import Plan, check_memory
from tuning.records import are_written, draw, ranked, write, write_events
from tuning.spaces import choose
from tuning.trial import NO_SPACE
from tuning.worker import Crew, TrialFailed, WorkerLost


class _Ended(Exception):
    """Another thread has ended the search by an error."""


class Search:
    """A search by one of Keras Tuner's oracles, or ours, whose trials run in child processes.

    Everything that happens is written to `search/journal.jsonl` before it counts, and replayed when
    a search is taken up again: finished trials stay finished, and a trial that was killed goes on
    behind its last epoch, whose state lies in `search/trial-ID/`.

    Args:
        run: the `app.runs.Run` it belongs to; its config gives all that is not searched.
        data: the `app.data.Data`. Trials train on its training part and are scored on its
            validation part.
        plan: a `Plan`.
        crew: who runs the trials; without one, `plan.workers` processes of this machine.

    Attributes:
        oracle: the strategy.
        records: what came of each trial so far, a dict a trial, by its id.
        damaged: lines of the journal that could not be read, and were set aside.

    Raises:
        UsageError: for an unknown tuner or model, or where the folder holds another search.
    """

    def __init__(self, run, data, plan=Plan(), crew=None):
        plan.check()
        check_memory(plan.workers, data)
        self.run, self.plan, self.images = run, plan, len(data.train)
        self.path = run.path / "search"
        space = keras_tuner.HyperParameters()
        choose(space, run.config.model, self.images, run.config.craft, run.config.task)
        self._check_same(space)
        self.oracle = oracle_of(plan.tuner, objective_of(plan.objective), plan.trials,
                                run.config.epochs, run.config.seed, plan.epoch_budget)
        self.oracle.update_space(space)
        self.journal = Journal(self.path / "journal.jsonl")
        self.damaged, self.records, self._curves = self.journal.damaged, {}, {}
        self._lock, self._broken, self._over = threading.RLock(), False, False
        self.crew = crew or Crew(plan.workers, self.path, plan.limits)
        self._replay()

    def _check_same(self, space):
        """A resumed search must ask the same question, else scores of two would be mixed."""
        question = {"tuner": self.plan.tuner, "objective": self.plan.objective,
                    "folds": self.plan.folds,
                    **asdict(self.run.config),
                    **{f"space of {hp.name}": _plain(hp.get_config()) for hp in space.space}}
        if self.plan.tuner == "coarse-to-fine":  # its rounds are parts of all its trials
            question |= {"trials": self.plan.trials, "epoch_budget": self.plan.epoch_budget}
        path = self.path / "question.json"
        if not path.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(path, question)
            return
        before = read_json(path)
        different = [f"{k} was {before.get(k)!r}, is {question.get(k)!r}"
                     for k in {**before, **question} if before.get(k) != question.get(k)]
        if different:
            raise UsageError(
                f"The search in {self.path} was started with other settings "
                f"({'; '.join(different)}). Give the same, or choose another --name."
            )

    def _replay(self):
        """Brings the oracle to where the journal ends; what ran then is to be gone on with."""
        holders = {}
        for event in self.journal.events:
            self._over = event == self._end()  # and not one of fewer trials
            if event["event"] == "start":
                self.oracle.known = event["values"]
                trial = self.oracle.create_trial(event["trial"])
                self.oracle.known = None
                if (trial.trial_id, trial.hyperparameters.values) != (
                        event["trial"], event["values"]):
                    raise HandgradError(
                        f"{self.journal.path} is not the journal of this search: its trial "
                        f"{event['trial']} would be {trial.hyperparameters.values} here. "
                        f"Received: {event['values']}. Choose another --name.")
            if event["event"] == "end":
                self._count(self.oracle.trials[event["record"]["trial"]], event["record"])
            elif event["event"] in ("start", "take up"):
                holders[event["trial"]] = event.get("worker")
        running = [trial.trial_id for trial in self.oracle.ongoing_trials.values()]
        self.oracle.ongoing_trials = {}
        # {trial: the worker that may still run it}, of those that nobody is known to run
        self._waiting = {trial: holders[trial] for trial in sorted(running, key=int)}
        self._began = time.monotonic()

    def search(self, *, on_epoch=lambda trial, row: None, on_trial=lambda record: None):
        """Runs the trials that are left; returns all records, best first.

        Args:
            on_epoch: called with a trial's id and its numbers after each epoch.
            on_trial: called with a trial's record in its end.

        Raises:
            HandgradError: where no trial was completed, or the disk is full.
            UsageError: where another process runs this search.
        """
        with alone(self.path):
            if Journal(self.journal.path).events != self.journal.events:
                raise UsageError(f"Another process has gone on with the search in {self.path}. "
                                 "Give the command once more.")
            self.journal.repair()
            self.crew.run(lambda worker: self._work(worker, on_epoch, on_trial), self._over)
            self._drop_states(final=True)
            ranking = self.ranking()
            if not ranking or ranking[0]["score"] is None:
                reasons = sorted({record["reason"] for record in ranking})
                raise HandgradError(
                    f"All {len(ranking)} trials failed: {'; '.join(reasons[:3])}")
            if not are_written(self.run, self.records):  # a kill may have come before this
                write(self.run, self.records)
            draw(self.run, self.records)
            write_json(self.run.path / "best.json", ranking[0])
            return ranking

    def _work(self, worker, on_epoch, on_trial):
        """Runs trial after trial in a worker, until there is none left or the worker ends."""
        with suppress(_Ended):
            while True:
                with self._whole():
                    trial = None if worker.ended else self._next(worker.name)
                if trial is None:
                    return
                if trial.status == "IDLE":
                    time.sleep(0.05)
                    continue
                try:
                    record = self._trial(worker, trial, on_epoch)
                except WorkerLost:
                    with self._whole():
                        del self.oracle.ongoing_trials[worker.name]
                        self._waiting[trial.trial_id] = None
                    raise
                if worker.ended and record["score"] is None:
                    return  # it was not the trial's fault: it is taken up again
                with self._whole():
                    self._keep(trial, record)
                    on_trial(record)

    @contextmanager
    def _whole(self):
        """One thread at a time; after an error in here, which may have left a half, none."""
        with self._lock:
            if self._broken:
                raise _Ended
            try:
                yield
            except BaseException:
                self._broken = True
                raise

    def _next(self, worker):
        """The trial that a worker is to run, or wait for; None at the end."""
        waiting = self._to_take_up(worker)
        self.oracle._retry_queue = [waiting] if waiting else []
        if not waiting and self._spent():
            trial = Trial(self.oracle.get_space(), worker, "STOPPED")
        else:
            trial = self.oracle.create_trial(worker)
        if waiting:
            del self._waiting[waiting]
        if trial.status == "RUNNING":
            self.journal.add({
                "trial": trial.trial_id, "worker": worker,
                **({"event": "take up"} if waiting else
                   {"event": "start", "values": trial.hyperparameters.values})})
        elif trial.status == "STOPPED":
            if not self._waiting and not self.oracle.ongoing_trials:
                if not self._over:
                    self.journal.add(self._end())
                self._over = True
                return None
            trial.status = "IDLE"  # what runs may yet have to be taken up
        return trial

    def _end(self):
        """What the journal says where nothing is left to do."""
        return {"event": "over", "trials": self.plan.trials,
                "epoch_budget": self.plan.epoch_budget}

    def _spent(self):
        """Whether the trials that were started leave nothing of the budget of epochs."""
        budget, spent = self.plan.epoch_budget, 0
        if budget is None:
            return False
        for trial in self.oracle.trials.values():
            own = self.values(trial)[1]
            record = self.records.get(trial.trial_id)
            until = record["epochs"] if record else own.get("tuner/epochs", self.run.config.epochs)
            spent += max(0, until - own.get("tuner/initial_epoch", 0))
        return spent * (self.plan.folds or 1) >= budget

    def _to_take_up(self, worker):
        """A trial that this worker may go on with: its own, or one that nobody runs any more."""
        if not self.crew.outlives or time.monotonic() > self._began + self.crew.silence:
            return next(iter(self._waiting), None)
        return next((t for t, holder in self._waiting.items() if holder in (worker, None)), None)

    def _trial(self, worker, trial, on_epoch):
        """Runs a trial; returns its record."""
        config = self.config(trial)
        values, own = self.values(trial)
        record = {"trial": trial.trial_id, "values": values, "tuner": own,
                  "objective": self.plan.objective,
                  "settings": asdict(config), "reason": None, "score": None, "loss": None,
                  "best_epoch": 0, "curve": []}
        before = own.get("tuner/trial_id")
        job = {"trial": trial.trial_id, "config": asdict(config),
               "folder": str(self.folder(trial.trial_id)),
               "before": None if before is None else str(self.folder(before)),
               "until": own.get("tuner/epochs", config.epochs),
               "objective": self.plan.objective, "folds": self.plan.folds}
        started = time.perf_counter()

        def after_epoch(row):
            with self._whole():
                self._curves[self._lineage(own, trial.trial_id)] = row["scores"]
                on_epoch(trial.trial_id, row)
                if self._hopeless(self._lineage(own, trial.trial_id)):
                    record["reason"] = "stopped by the median rule"
                return record["reason"] is None

        try:
            result = worker.run(job, after_epoch)
            record.update(result, status="STOPPED" if record["reason"] else "COMPLETED")
        except TrialFailed as error:
            if str(error).startswith(NO_SPACE):
                raise HandgradError(f"{error}. What was finished is kept: make room and continue "
                                    "with --resume.") from error
            record.update(status="FAILED", reason=str(error))
        record.update(epochs=len(record["curve"]), seconds=time.perf_counter() - started)
        return record

    def _lineage(self, own, trial_id):
        """(round, first trial): what continued trainings share, and rounds do not."""
        while "tuner/trial_id" in own:
            trial_id = own["tuner/trial_id"]
            own = self.records[trial_id]["tuner"]
        return own.get("tuner/round", 0), trial_id

    def _hopeless(self, lineage):
        others = [curve for other, curve in self._curves.items()
                  if other != lineage and other[0] == lineage[0]]
        return self.plan.stop_hopeless and hopeless(
            self._curves[lineage], others, OBJECTIVES[self.plan.objective])

    @staticmethod
    def values(trial):
        """A trial's hyper-parameters, and what its strategy has noted beside them."""
        values = trial.hyperparameters.values
        own = {name: value for name, value in values.items() if name.startswith("tuner/")}
        return {name: value for name, value in values.items() if name not in own}, own

    def config(self, trial):
        """The `Config` of a trial."""
        values, own = self.values(trial)
        hps = keras_tuner.HyperParameters()
        hps.values = values
        chosen = choose(hps, self.run.config.model, self.images, self.run.config.craft,
                        self.run.config.task)
        config = replace(self.run.config, search=False, craft=False, **chosen)
        if self.plan.tuner == "coarse-to-fine":
            # A short training of its own, not the begin of a long one.
            config = replace(config, epochs=own["tuner/epochs"])
        return config

    def folder(self, trial_id):
        """Where a trial's state is kept."""
        return self.path / f"trial-{trial_id}"

    def _keep(self, trial, record):
        """Writes a trial's end down, then counts it."""
        self.journal.add({"event": "end", "record": record})
        self._count(trial, record)
        self._drop_states()
        write(self.run, self.records)
        write_events(self.path / "logs", record)

    def _count(self, trial, record):
        """Tells the oracle what came of a trial."""
        self.records[record["trial"]] = record
        self._curves[self._lineage(record["tuner"], record["trial"])] = record["curve"]
        trial = self.oracle.trials[trial.trial_id]
        if record["score"] is None:
            trial.status, trial.message = "FAILED", record["reason"]
        else:
            self.oracle.update_trial(trial.trial_id, {self.plan.objective: record["score"]})
            trial.status = "COMPLETED"
        self.oracle.end_trial(trial)

    def _drop_states(self, final=False):
        """Keeps the weights of the best trials, and of those that may still be continued."""
        kept = {record["trial"] for record in self.ranking()[:self.plan.keep]}
        if self.plan.tuner in ("halving", "hyperband") and not final:
            return
        for trial_id in self.records:
            if trial_id not in kept:
                shutil.rmtree(self.folder(trial_id), ignore_errors=True)

    def disk(self):
        """Bytes that the search holds on the disk."""
        return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())

    def ranking(self):
        """All records: the best first, failed ones last."""
        return ranked(self.records.values(), self.plan.objective)


def _plain(config):
    """What can be compared of a parameter's settings."""
    return {k: v for k, v in config.items() if isinstance(v, (int, float, str, bool, list))
            and k not in ("name", "conditions")}
