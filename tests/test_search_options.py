"""Search: budgets of epochs, cross-validation, TensorBoard, disks and clocks that fail."""

import io
import random
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from command_line import ENVIRONMENT
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from app import data as data_sets
from app.errors import UsageError
from app.runs import Config, Run
from app.split import join
from tuning.plan import Plan
from tuning.progress import Progress
from tuning.scoring import SearchFailed, folds, run_trial
from tuning.search import Search


@pytest.fixture(scope="module")
def digits():
    return data_sets.load("digits")


def start(folder, data, epochs=9):
    return Run(folder, Config("mlp", "digits", search=True, epochs=epochs,
                              fingerprint=data.fingerprint))


def played(search, workers=1):
    """The trials that a search would run, each as long as it may be."""
    rng, running, records = np.random.default_rng(0), [], []
    while True:
        for worker in range(workers):
            trial = search._next(str(worker))
            if trial is None:
                return records
            if trial.status == "RUNNING" and trial not in running:
                running.append(trial)
        trial = running.pop(0)
        values, own = search.values(trial)
        epochs = own.get("tuner/epochs", search.run.config.epochs)
        score = float(rng.random())
        record = {"trial": trial.trial_id, "values": values, "tuner": own, "settings": {},
                  "objective": "val_accuracy", "status": "COMPLETED", "reason": None,
                  "score": score, "loss": 1.0, "best_epoch": 1, "curve": [score] * epochs,
                  "epochs": epochs, "seconds": 1.0}
        search._keep(trial, record)
        records.append(record)


def given(records):
    return sum(r["epochs"] - r["tuner"].get("tuner/initial_epoch", 0) for r in records)


@pytest.mark.parametrize("tuner, least, most", [
    ("random", 36, 44), ("bayesian", 36, 44), ("hyperband", 36, 44), ("halving", 36, 44),
    ("coarse-to-fine", 30, 44)])
def test_a_budget_of_epochs_ends_every_search(digits, tmp_path, tuner, least, most):
    """It may be passed by no more than one trial."""
    plan = Plan(tuner, None, keep=0, epoch_budget=36)
    search = Search(start(tmp_path, digits), digits, plan)
    assert least <= given(played(search)) <= most
    again = Search(search.run, digits, plan)
    assert again._over and again._next("0") is None
    if tuner != "coarse-to-fine":  # whose rounds are parts of the budget
        more = played(Search(search.run, digits, replace(plan, epoch_budget=54)))
        assert 0 < given(more) <= 27


def test_what_runs_counts_towards_the_budget(digits, tmp_path):
    search = Search(start(tmp_path, digits), digits, Plan(trials=None, keep=0, epoch_budget=18))
    assert len(played(search, workers=4)) == 2


@pytest.mark.parametrize("plan, message", [
    ({"trials": None}, "A search needs --trials or --epoch-budget"),
    ({"epoch_budget": 0}, "--epoch-budget must be at least 1. Received: 0"),
    ({"folds": 1}, "--folds must be at least 2. Received: 1"),
])
def test_wrong_plans(plan, message):
    with pytest.raises(UsageError, match=message):
        Plan(**plan).check()


# Cross-validation


def test_folds_divide_what_is_not_the_test_part(digits):
    both, validated = join(digits.train, digits.validation), []
    for fold in folds(digits, 4, 0):
        assert fold.test is digits.test
        assert len(fold.train) + len(fold.validation) == len(both)
        counts = np.bincount(fold.validation.labels)
        assert np.ptp(counts / np.bincount(both.labels)) < 0.02  # each class has its share
        validated.append(fold.validation)
        assert fold.statistics() != digits.statistics()  # those of its own training images
    images = np.concatenate([part.images for part in validated])
    assert sorted(map(bytes, images)) == sorted(map(bytes, both.images))
    again = [fold.validation.labels.tolist() for fold in folds(digits, 4, 0)]
    assert again == [part.labels.tolist() for part in validated]


def test_the_score_of_folds_is_their_mean(digits, tmp_path):
    """Also of a trial that was killed in its second fold, which trains nothing twice."""
    config = Config("mlp", "digits", epochs=2, fingerprint="here")
    job = {"config": vars(config), "folder": str(tmp_path / "whole"), "before": None, "until": 2,
           "objective": "val_accuracy", "folds": 3}
    rows = []
    whole = run_trial(job, {"here": digits}, rows.append)
    assert [row["fold"] for row in rows] == [0, 0, 1, 1, 2, 2] and whole["trained"] == 6
    by_epoch = [np.mean([row["val_accuracy"] for row in rows if row["epoch"] == e]) for e in (0, 1)]
    np.testing.assert_allclose(whole["curve"], by_epoch)
    np.testing.assert_allclose(rows[-1]["scores"], by_epoch)
    assert whole["score"] == max(whole["curve"]) and [r["scores"] for r in rows[:4]] == 4 * [[]]

    def stop(row):
        if (row["fold"], row["epoch"]) == (1, 0):
            raise KeyboardInterrupt

    job["folder"] = str(tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        run_trial(job, {"here": digits}, stop)
    rest = run_trial(job, {"here": digits}, lambda row: True)
    assert rest == {**whole, "trained": 3}


def test_more_folds_than_images_of_a_class_end_the_search(digits):
    fewest = np.bincount(join(digits.train, digits.validation).labels).min()
    with pytest.raises(SearchFailed, match=f"at most {fewest}, the images of the rarest class"):
        next(folds(digits, 999, 0))


# What is written, and where it cannot be


def test_trials_are_written_for_tensorboard(digits, tmp_path):
    search = Search(start(tmp_path, digits), digits, Plan(trials=2, keep=0))
    records = played(search)
    for record in records:
        events = EventAccumulator(str(search.path / "logs" / f"trial-{record['trial']}")).Reload()
        assert "_hparams_/session_start_info" in events.summary_metadata
        tensors = events.Tensors("val_accuracy")
        assert [event.step for event in tensors] == list(range(1, 10))
    assert "logs" not in [path.name for path in search.run.path.iterdir()]


def test_a_full_disk(tmp_path):
    """A small one: the search ends with what to do, and goes on when there is room."""
    mount = f"mount -t tmpfs -o size=1m tmpfs {tmp_path}"
    tune = (f"{sys.executable} -P -m app.cli tune mlp --trials 3 --epochs 2 --keep 9 "
            "--augment none --name n")
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a disk")
    script = (f"{mount} && cd {tmp_path} && {tune}; echo code $?; "
              f"mount -o remount,size=100m {tmp_path} && {tune} --resume; echo code $?; "
              "wc -l runs/n/trials.csv")
    found = subprocess.run(["unshare", "-rm", "sh", "-c", script], text=True, capture_output=True,
                           env=ENVIRONMENT)
    lines = [line for line in found.stdout.splitlines() if line.startswith("code")]
    assert lines == ["code 1", "code 0"], found.stderr
    assert "o space left" in found.stderr and "4 runs/n/trials.csv" in found.stdout


def test_a_clock_that_jumps_changes_nothing(digits, tmp_path, monkeypatch):
    scores = []
    for jumps in (False, True):
        if jumps:
            rng = random.Random(0)
            monkeypatch.setattr(time, "time", lambda: rng.uniform(0, 4e9))
        search = Search(start(tmp_path / str(jumps), digits, epochs=1), digits, Plan(trials=2))
        records = search.search()
        assert all(record["seconds"] < 100 for record in records)
        scores.append([record["curve"] for record in records])
    assert scores[0] == scores[1]


@pytest.mark.parametrize("terminal", [True, False])
def test_the_table_shows_what_runs_and_the_best(digits, tmp_path, terminal):
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=150, highlight=False)
    search = Search(start(tmp_path, digits), digits, Plan("halving", 9, keep=0))
    with Progress(search, console) as progress:
        for score in (0.5, None, 0.75):
            trial = search._next("0")
            values, own = search.values(trial)
            progress.epoch(trial.trial_id, {"epoch": 0, "val_accuracy": 0.25})
            table = progress.table()
            assert list(table.columns[1].cells)[-1] == "running"
            assert list(table.columns[3].cells)[-1] == "1 of 1"
            record = {"trial": trial.trial_id, "values": values, "tuner": own, "settings": {},
                      "objective": "val_accuracy", "status": "FAILED" if score is None else
                      "COMPLETED", "reason": "[b]it[/b]" if score is None else None, "loss": 1.0,
                      "score": score, "best_epoch": 1, "curve": [], "epochs": 1, "seconds": 1.0}
            search._keep(trial, record)
            progress.trial(record)
        table = progress.table()
    assert list(table.columns[0].cells) == ["2", "0"] and list(table.columns[2].cells) == ["0", "0"]
    assert list(table.columns[4].cells) == ["0.7500", "0.5000"]
    assert progress.bars.tasks[0].completed == 3 and progress.bars.tasks[0].total == 81
    assert "trial 1 (0 epochs, 1.0 s): [b]it[/b]" in text.getvalue()
    assert ("┏" in text.getvalue()) == terminal
