"""Search: hyper-parameters tried on the validation part, each trial in a process of its own."""

import csv
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace

import keras_tuner
import psutil

from app import figures
from app.errors import HandgradError, UsageError
from app.runs import read_json, replacing, write_json
from custom_layers.byte_sizes import shown
from tuning.journal import Journal, alone
from tuning.median_rule import hopeless
from tuning.oracles import OBJECTIVES, objective_of, oracle_of
from tuning.spaces import choose
from tuning.trial import NO_SPACE
from tuning.worker import Limits, TrialFailed, Worker

WORKER_BYTES = 700e6  # what TensorFlow and its graphs hold in a worker, beside the data


class _Ended(Exception):
    """Another thread has ended the search by an error."""


@dataclass(frozen=True)
class Plan:
    """How a search goes about it.

    Attributes:
        tuner: a name out of `tuning.oracles.TUNERS`.
        trials: how many to start, counting those of an interrupted search; continued trainings of
            "halving" do not count.
        objective: "val_accuracy" or "val_loss".
        workers: trials that run at once.
        limits: of a trial.
        stop_hopeless: whether the median rule ends trials early.
        keep: so many trials, the best, keep their weights.
    """

    tuner: str = "random"
    trials: int = 6
    objective: str = "val_accuracy"
    workers: int = 1
    limits: Limits = Limits()
    stop_hopeless: bool = False
    keep: int = 3

    def check(self):
        """Raises UsageError for what cannot be."""
        objective_of(self.objective)
        oracle_of(self.tuner, objective_of(self.objective), 1, 1, 0)
        for name, least in (("trials", 1), ("workers", 1), ("keep", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"--{name} must be at least {least}. "
                                 f"Received: {getattr(self, name)}")
        _check_memory(self.workers)


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

    Attributes:
        records: what came of each trial so far, a dict a trial, by its id.
        damaged: lines of the journal that could not be read, and were set aside.

    Raises:
        UsageError: for an unknown tuner or model, or where the folder holds another search.
    """

    def __init__(self, run, data, plan=Plan()):
        plan.check()
        _check_memory(plan.workers, data)
        self.run, self.plan, self.images = run, plan, len(data.train)
        self.path = run.path / "search"
        space = keras_tuner.HyperParameters()
        choose(space, run.config.model, self.images, run.config.craft)
        self._check_same(space)
        self.oracle = oracle_of(plan.tuner, objective_of(plan.objective), plan.trials,
                                run.config.epochs, run.config.seed)
        self.oracle.update_space(space)
        self.journal = Journal(self.path / "journal.jsonl")
        self.damaged, self.records, self._curves = self.journal.damaged, {}, {}
        self._lock, self._ending, self._broken = threading.RLock(), False, False
        self._replay()
        threads = max(1, (os.cpu_count() or 1) // plan.workers) if plan.workers > 1 else None
        self.workers = [Worker(self.path / f"worker-{i}.log", plan.limits, threads)
                        for i in range(plan.workers)]

    def _check_same(self, space):
        """A resumed search must ask the same question, else scores of two would be mixed."""
        question = {"tuner": self.plan.tuner, "objective": self.plan.objective,
                    **asdict(self.run.config),
                    **{f"space of {hp.name}": _plain(hp.get_config()) for hp in space.space}}
        if self.plan.tuner == "coarse-to-fine":  # its rounds are parts of all its trials
            question["trials"] = self.plan.trials
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
        """Brings the oracle to where the journal ends; what ran then is to be run again."""
        for event in self.journal.events:
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
            else:
                self._count(self.oracle.trials[event["record"]["trial"]], event["record"])
        waiting = [trial.trial_id for trial in self.oracle.ongoing_trials.values()]
        self.oracle.ongoing_trials = {}
        self.oracle._retry_queue = sorted(waiting, key=int, reverse=True)

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
            self._run_all(on_epoch, on_trial)
            self._drop_states(final=True)
            ranked = self.ranking()
            if not ranked or ranked[0]["score"] is None:
                reasons = sorted({record["reason"] for record in ranked})
                raise HandgradError(
                    f"All {len(ranked)} trials failed: {'; '.join(reasons[:3])}")
            if not self._written():  # a kill may have come between the last trial and this
                self._write()
            write_json(self.run.path / "best.json", ranked[0])
            return ranked

    def _run_all(self, on_epoch, on_trial):
        with ThreadPoolExecutor(self.plan.workers) as pool:
            runs = [pool.submit(self._work, worker, on_epoch, on_trial)
                    for worker in self.workers]
            try:
                wait(runs, return_when="FIRST_EXCEPTION")
            finally:
                self._ending = True
                for worker in self.workers:
                    worker.end()
            for run in runs:
                run.result()

    def _work(self, worker, on_epoch, on_trial):
        """Runs trial after trial in a worker, until there is none left or the search ends."""
        name = str(self.workers.index(worker))
        with suppress(_Ended):
            while True:
                with self._whole():
                    trial = None if self._ending else self._next(name)
                if trial is None:
                    return
                if trial.status == "IDLE":
                    time.sleep(0.05)
                    continue
                record = self._trial(worker, trial, on_epoch)
                if self._ending and record["score"] is None:
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
                self._ending = self._broken = True
                raise

    def _next(self, worker):
        """The trial that a worker is to run, or wait for; None at the end."""
        resumed = bool(self.oracle._retry_queue)
        trial = self.oracle.create_trial(worker)
        if trial.status == "STOPPED":
            return None
        if trial.status == "RUNNING" and not resumed:
            self.journal.add({"event": "start", "trial": trial.trial_id,
                              "values": trial.hyperparameters.values})
        return trial

    def _trial(self, worker, trial, on_epoch):
        """Runs a trial; returns its record."""
        config = self.config(trial)
        values, own = self._values(trial)
        record = {"trial": trial.trial_id, "values": values, "tuner": own,
                  "objective": self.plan.objective,
                  "settings": asdict(config), "reason": None, "score": None, "loss": None,
                  "best_epoch": 0, "curve": []}
        before = own.get("tuner/trial_id")
        job = {"config": asdict(config), "folder": str(self.folder(trial.trial_id)),
               "before": None if before is None else str(self.folder(before)),
               "until": own.get("tuner/epochs", config.epochs), "objective": self.plan.objective}
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
    def _values(trial):
        """A trial's hyper-parameters, and what its strategy has noted beside them."""
        values = trial.hyperparameters.values
        own = {name: value for name, value in values.items() if name.startswith("tuner/")}
        return {name: value for name, value in values.items() if name not in own}, own

    def config(self, trial):
        """The `Config` of a trial."""
        values, own = self._values(trial)
        hps = keras_tuner.HyperParameters()
        hps.values = values
        chosen = choose(hps, self.run.config.model, self.images, self.run.config.craft)
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
        self._write()

    def _written(self):
        path = self.path / "records.json"
        return path.exists() and list(read_json(path)) == list(self.records)

    def _write(self):
        """What follows from the journal, for people and for the report."""
        write_json(self.path / "records.json", self.records)
        self._write_table()
        figures.save(figures.search(list(self.records.values())), self.run.path / "trials.png")

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
        """All records: the best first, the lower loss among equals, failed ones last."""
        sign = 1 if OBJECTIVES[self.plan.objective] == "max" else -1

        def merit(record):
            done = record["score"] is not None
            return (done, sign * record["score"], -record["loss"]) if done else (done,)

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


def _plain(config):
    """What can be compared of a parameter's settings."""
    return {k: v for k, v in config.items() if isinstance(v, (int, float, str, bool, list))
            and k not in ("name", "conditions")}


def _check_memory(workers, data=None):
    """Raises UsageError where more workers are asked for than there is memory for."""
    images = sum(split.images.nbytes for split in data.splits.values()) if data else 0
    each = WORKER_BYTES + 2 * images  # the arrays, and the tensors made of them
    free = psutil.virtual_memory().available
    if workers > 1 and workers * each > free:
        raise UsageError(
            f"--workers {workers} would take about {shown(workers * each)} of memory, "
            f"{shown(each)} each; {shown(free)} are free. Expected: at most "
            f"{max(1, int(free // each))}")
