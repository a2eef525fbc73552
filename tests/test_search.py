"""Search: trials in processes of their own, whatever happens to them; taking up again."""

import csv
import json
import os
import signal
from dataclasses import replace

import numpy as np
import psutil
import pytest
from search_cases import ended, journal, start

import tuning.search
from app import data as data_sets
from app.errors import HandgradError, UsageError
from app.runs import Run, read_json
from tuning.oracles import TUNERS, objective_of, oracle_of
from tuning.pipeline import final_config
from tuning.plan import Plan, limits
from tuning.search import Search
from tuning.spaces import choose
from tuning.worker import Limits, Worker

TRIALS = 6
DIVERGES = {"optimizer": "sgd", "learning_rate": 1e30}


@pytest.fixture(scope="module")
def digits():
    return data_sets.load("digits")


@pytest.fixture(scope="module")
def searched(digits, tmp_path_factory):
    """A search with all that can happen, interrupted in trial 4 and resumed."""
    run = start(tmp_path_factory.mktemp("search"), digits)
    sabotage = {"1": {"optimizer": "adams"}, "2": DIVERGES}

    def choose_badly(*given):
        trial = str(len(search.records)) if "search" in locals_ else "none"
        return {**choose(*given), **sabotage.get(trial, {})}

    def on_epoch(trial, row):
        if trial == "3":
            os.kill(search.crew.workers[0].process.pid, signal.SIGKILL)
        if trial == "4":
            raise KeyboardInterrupt

    locals_ = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning.search, "choose", choose_badly)
        search = Search(run, digits, Plan(trials=TRIALS))
        locals_.add("search")
        with pytest.raises(KeyboardInterrupt):
            search.search(on_epoch=on_epoch)
        before, values = dict(search.records), search.oracle.trials["4"].hyperparameters.values
        search = Search(run, digits, Plan(trials=TRIALS))
        ranked = search.search()
    return run, before, ranked, values


def test_every_trial_is_recorded(searched):
    run, _, ranked, _ = searched
    records = read_json(run.path / "search" / "records.json")
    assert list(records) == [str(i) for i in range(TRIALS)]
    assert [r["status"] for r in records.values()] == [
        "COMPLETED", "FAILED", "FAILED", "FAILED", "COMPLETED", "COMPLETED"]
    assert sorted(r["trial"] for r in ranked) == list(records)


@pytest.mark.parametrize("trial, reason", [
    ("1", "Unknown optimizer 'adams'. Did you mean 'adam'"),
    ("2", "Training diverged: loss is "),
    ("3", "the process was killed (signal 9), probably out of memory"),
])
def test_a_failed_trial_has_its_reason(searched, trial, reason):
    record = read_json(searched[0].path / "search" / "records.json")[trial]
    assert record["reason"].startswith(reason) and record["score"] is None
    assert record["seconds"] > 0


def test_the_first_trial_is_the_plain_model(searched):
    record = read_json(searched[0].path / "search" / "records.json")["0"]
    assert record["values"]["units1"] == 50 and record["settings"]["sizes"] == {
        "hidden": [50, 100], "dropout": 0.0}


def test_a_resumed_search_runs_what_was_left(searched):
    run, before, _, values = searched
    events = journal(run)
    assert [e["trial"] for e in events if e["event"] == "start"] == list("012345")
    ends = [e["record"] for e in events if e["event"] == "end"]
    assert [r["trial"] for r in ends] == list("012345")
    assert {r["trial"]: r for r in ends[:4]} == before and len(before) == 4
    assert ends[4]["values"] == values
    assert ends[4]["trained"] == 1  # its first epoch was not lost


def test_the_best_has_the_highest_validation_accuracy(searched):
    run, _, ranked, _ = searched
    scores = [r["score"] for r in ranked if r["status"] == "COMPLETED"]
    assert scores == sorted(scores, reverse=True) and len(scores) == 3
    assert scores[0] == max(ranked[0]["curve"])
    assert read_json(run.path / "best.json") == json.loads(json.dumps(ranked[0]))
    config = final_config(ranked[0])
    assert config.on_train_and_validation and not config.search
    assert config.epochs == ranked[0]["best_epoch"]


def test_the_table_of_trials(searched):
    run, _, ranked, _ = searched
    with (run.path / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == [str(i) for i in range(TRIALS)]
    best = rows[int(ranked[0]["trial"])]
    assert float(best["score"]) == ranked[0]["score"]
    assert float(best["learning_rate"]) == ranked[0]["values"]["learning_rate"]
    assert rows[3]["score"] == "" and rows[3]["reason"]
    assert (run.path / "trials.png").read_bytes().startswith(b"\x89PNG")


def test_the_best_keep_their_weights(searched):
    run, _, ranked, _ = searched
    kept = {path.name for path in (run.path / "search").glob("trial-*")}
    assert kept == {f"trial-{record['trial']}" for record in ranked[:3]}
    assert all(list((run.path / "search" / name).glob("state-*.npz")) for name in kept)


def test_two_workers_find_what_one_finds(digits, tmp_path):
    """Trials follow from the seed, in the whole of a round; none is run twice."""
    found = []
    for workers in (1, 2):
        run = start(tmp_path / str(workers), digits, epochs=1)
        plan = Plan("coarse-to-fine", 5, workers=workers, keep=0)
        records = Search(run, digits, plan).search()
        found.append(sorted((r["trial"], r["values"], r["curve"]) for r in records))
        started = [e["trial"] for e in journal(run) if e["event"] == "start"]
        assert sorted(started) == list("01234")
        assert not list((run.path / "search").glob("trial-*"))
    assert found[0] == found[1]


def test_halving_trains_no_epoch_twice(digits, tmp_path):
    run = start(tmp_path, digits, epochs=4)
    records = Search(run, digits, Plan("halving", 4, keep=1)).search()
    continued = [r for r in records if "tuner/trial_id" in r["tuner"]]
    by_id = {r["trial"]: r for r in records}
    assert len(records) - len(continued) == 4 and 1 <= len(continued) <= 2
    for record in continued:
        before = by_id[record["tuner"]["tuner/trial_id"]]
        assert record["curve"][:1] == before["curve"] and len(record["curve"]) == 4
    assert sum(r["trained"] for r in records) == 4 + 3 * len(continued)


def test_hopeless_trials_are_stopped(digits, tmp_path, monkeypatch):
    rates = iter([0.5, 0.4, 0.3, 1e-7])
    given = {}

    def choose_rates(hp, *more):
        key = json.dumps(hp.values, sort_keys=True)
        if "learning_rate" in hp.values and key not in given:
            given[key] = next(rates)
        return {**choose(hp, *more), "optimizer": "sgd", "batch_size": 64,
                **({"learning_rate": given[key]} if key in given else {})}

    search = Search(start(tmp_path, digits, epochs=4), digits, Plan(trials=4, stop_hopeless=True))
    monkeypatch.setattr(tuning.search, "choose", choose_rates)
    records = {r["trial"]: r for r in search.search()}
    assert [records[t]["status"] for t in "0123"] == 3 * ["COMPLETED"] + ["STOPPED"]
    assert len(records["3"]["curve"]) == 2
    assert records["3"]["reason"] == "stopped by the median rule"
    assert records["3"]["score"] is not None


def test_equal_accuracies_are_ranked_by_loss(digits, tmp_path):
    search = Search(start(tmp_path, digits), digits)
    search.records = {
        name: {"trial": name, "score": score, "loss": loss}
        for name, score, loss in (("a", 0.9, 0.3), ("b", None, None), ("c", 0.9, 0.2),
                                  ("d", 0.5, 0.1))
    }
    assert [r["trial"] for r in search.ranking()] == ["c", "a", "d", "b"]


# Taking up again


@pytest.mark.parametrize("change, plan, message", [
    ({"learning_rate": 0.5}, {}, "learning_rate was 0.001, is 0.5"),
    ({"seed": 1}, {}, "seed was 0, is 1"),
    ({"fingerprint": "x"}, {}, "fingerprint was '[0-9a-f]{16}', is 'x'"),
    ({"epochs": 3}, {}, "epochs was 2, is 3"),
    ({}, {"tuner": "bayesian"}, "tuner was 'random', is 'bayesian'"),
    ({}, {"objective": "val_loss"}, "objective was 'val_accuracy', is 'val_loss'"),
    ({"craft": True}, {}, "craft was False, is True.*space of schedule was None"),
])
def test_another_question_is_refused(digits, tmp_path, change, plan, message):
    run = start(tmp_path, digits)
    Search(run, digits)
    with pytest.raises(UsageError, match=message):
        Search(Run(run.path, replace(run.config, **change)), digits, Plan(**plan))


def test_another_space_is_refused(digits, tmp_path, monkeypatch):
    run = start(tmp_path, digits)
    Search(run, digits)

    def wider(hp, *more):
        hp.Float("learning_rate", 1e-5, 5e-3, sampling="log", default=1e-3)
        return choose(hp, *more)

    monkeypatch.setattr(tuning.search, "choose", wider)
    with pytest.raises(UsageError, match="space of learning_rate was .*0.0003.* is .*1e-05"):
        Search(run, digits)


def test_all_failed_is_an_error_with_the_reason(digits, tmp_path, monkeypatch):
    search = Search(start(tmp_path, digits), digits, Plan(trials=2))
    monkeypatch.setattr(tuning.search, "choose", lambda *given: {**choose(*given), **DIVERGES})
    with pytest.raises(HandgradError, match="All 2 trials failed: Training diverged: loss is"):
        search.search()
    assert not (tmp_path / "best.json").exists()


def test_what_is_no_trial_s_fault_ends_the_search(digits, tmp_path, monkeypatch):
    """And is not recorded: mended, the search goes on."""
    run = start(tmp_path, digits)
    other = Run(run.path, replace(run.config, fingerprint="other"))
    search = Search(other, digits, Plan(trials=2))
    with pytest.raises(HandgradError, match="digits has changed since the search began"):
        search.search()
    assert search.records == {} and [e["event"] for e in journal(run)] == ["start"]


def test_an_error_between_threads_leaves_the_journal_whole(digits, tmp_path, monkeypatch):
    """One of two workers cannot write that its trial starts: nothing is started behind it."""
    search = Search(start(tmp_path, digits), digits, Plan(trials=9, workers=2))
    add, events = search.journal.add, []

    def fail_once(event):
        events.append(event)
        if len(events) == 2:
            raise HandgradError("no room")
        add(event)

    monkeypatch.setattr(search.journal, "add", fail_once)
    with pytest.raises(HandgradError, match="no room"):
        search.search()
    assert len(events) == 2
    assert len(Search(search.run, digits, Plan(trials=9)).journal.events) == 1


def test_a_failed_trial_counts_for_every_strategy(digits, tmp_path):
    """Bayesian search does not propose its place again; replayed, all is as it was."""
    run, plan = start(tmp_path, digits), Plan("bayesian", 6, keep=0)
    search = Search(run, digits, plan)
    for i in range(5):
        ended(search, search._next("0"), None if i == 3 else i / 10)
    assert [r["score"] for r in search.records.values()] == [0.0, 0.1, 0.2, None, 0.4]
    again = Search(run, digits, plan)
    ours, theirs = again._next("0"), search._next("0")
    assert ours.hyperparameters.values == theirs.hyperparameters.values
    tried = [r["values"] for r in search.records.values()]
    assert ours.hyperparameters.values not in tried


@pytest.mark.parametrize("plan, message", [
    ({"tuner": "randm"}, "Unknown tuner 'randm'. Did you mean 'random'"),
    ({"objective": "val_acuracy"}, "Unknown objective 'val_acuracy'. Did you mean 'val_accuracy'"),
    ({"trials": 0}, "--trials must be at least 1. Received: 0"),
    ({"workers": 0}, "--workers must be at least 1. Received: 0"),
    ({"keep": -1}, "--keep must be at least 0. Received: -1"),
    ({"workers": 10**6}, "--workers 1000000 would take about .* each; .* are free. Expected: at"),
])
def test_wrong_searches(digits, tmp_path, plan, message):
    with pytest.raises(UsageError, match=message):
        Search(start(tmp_path, digits), digits, Plan(**plan))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("minutes, memory, message", [
    (0, None, "--trial-minutes must be above 0. Received: 0"),
    (None, "lots", "--trial-memory must be a size such as '4 GB' .* Received: lots"),
])
def test_wrong_limits(minutes, memory, message):
    assert limits(2, "1 GB") == Limits(120, 10**9) and limits(None, None) == Limits()
    with pytest.raises(UsageError, match=message):
        limits(minutes, memory)


@pytest.mark.parametrize("tuner", TUNERS)
def test_every_strategy_looks_for_high_scores(tuner):
    """A search of a function."""
    oracle = oracle_of(tuner, objective_of("val_accuracy"), 16, 4, 0)
    oracle._set_project_dir("unused", "search")
    oracle.hyperparameters.Float("x", 0.0, 1.0, step=0.05, default=0.5)
    scores = []
    while (trial := oracle.create_trial("tuner0")).status == "RUNNING":
        x = trial.hyperparameters.values["x"]
        scores.append(-(x - 0.8) ** 2)
        oracle.update_trial(trial.trial_id, {"val_accuracy": scores[-1]})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    assert trial.status == "STOPPED" and 16 <= len(scores) <= 24
    assert oracle.get_best_trials()[0].score == max(scores) > -0.02


class Quick:
    """A crew whose trials take no time, so that the driver alone is measured."""

    outlives = False

    def run(self, work, over=False):
        worker = Worker("log")
        worker.run = quick_result
        work(worker)


def quick_result(job, on_epoch, epochs=5):
    rng = np.random.default_rng(int(job["trial"]))
    curve = rng.random(epochs).tolist()
    for epoch in range(epochs):
        on_epoch({"epoch": epoch, "scores": curve[:epoch + 1], "val_accuracy": curve[epoch]})
    return {"score": max(curve), "loss": 1.0, "best_epoch": 1, "curve": curve, "trained": epochs}


@pytest.mark.parametrize("tuner", ["random", "coarse-to-fine", "halving"])
def test_the_driver_does_not_grow(digits, tmp_path, tuner):
    """By at most 50 MB over 200 trials."""
    search = Search(start(tmp_path, digits), digits, Plan(tuner, 201, keep=3), Quick())
    sizes = []
    search.search(on_trial=lambda record: sizes.append(psutil.Process().memory_info().rss / 2**20))
    assert len(sizes) >= 201
    print(f"{tuner}: {sizes[200] - sizes[0]:.1f} MB over 200 trials")
    assert sizes[200] - sizes[0] < 50


@pytest.mark.slow
def test_thirty_trials_do_not_grow_the_parent(digits, tmp_path):
    """And they run in several processes, one after the other."""
    run = start(tmp_path, digits, epochs=1)
    search, processes, sizes = Search(run, digits, Plan(trials=31)), set(), []

    def on_epoch(trial, row):
        processes.add(search.crew.workers[0].process.pid)

    def on_trial(record):
        sizes.append(psutil.Process().memory_info().rss / 2**20)

    search.search(on_epoch=on_epoch, on_trial=on_trial)
    assert len(sizes) == 31 and len(processes) == 4
    print(f"{sizes[-1] - sizes[0]:.1f} MB over 30 trials")
    assert sizes[-1] - sizes[0] < 50
