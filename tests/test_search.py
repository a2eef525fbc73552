"""Search: spaces; trials in processes of their own, whatever happens to them; resuming."""

import csv
import inspect
import json
import os
import signal
from dataclasses import replace

import keras_tuner
import numpy as np
import psutil
import pytest
from model_cases import SMALLEST

import tuning.search
from app import data as data_sets
from app.errors import HandgradError, UsageError
from app.models import MODELS
from app.models.arithmetic import shapes_only
from app.results import trainable_parameters
from app.runs import Config, Run, read_json
from app.training import check
from tuning.pipeline import final_config
from tuning.search import Search
from tuning.spaces import SPACES, choose, find_space, space
from tuning.worker import Worker, run_trial

EPOCHS, TRIALS = 2, 6
DIVERGES = {"optimizer": "sgd", "learning_rate": 1e30}


@pytest.fixture(scope="module")
def digits():
    return data_sets.load("digits")


def start(folder, data, **settings):
    config = Config("mlp", "digits", epochs=EPOCHS, search=True, fingerprint=data.fingerprint,
                    **settings)
    return Run(folder, config)


# Spaces


@pytest.mark.parametrize("name", SPACES)
def test_defaults_are_the_plain_model(name):
    hp = keras_tuner.HyperParameters()
    sizes = choose(hp, name, 1000)["sizes"]
    plain = inspect.signature(MODELS[name].function).parameters
    assert {k: plain[k].default for k in sizes} == {
        k: tuple(v) if isinstance(v, list) else v for k, v in sizes.items()}
    side = max(28, SMALLEST.get(name, 1))
    with shapes_only():
        model = space(name, (side, side, 1), 10, 1000)(keras_tuner.HyperParameters())
        expected = trainable_parameters(MODELS[name]((side, side, 1), 10))
    assert trainable_parameters(model) == expected and model.compiled


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("corner", [0, -1])
def test_spaces_build_at_their_corners(name, corner):
    hp = keras_tuner.HyperParameters()
    choose(hp, name, 1000)
    for parameter in list(hp.space):
        hp.values[parameter.name] = list(ends(parameter))[corner]
    side = max(12, SMALLEST.get(name, 1))
    with shapes_only():
        model = space(name, (side, side, 1), 3, 1000)(hp)
    assert model.outputs[0].shape == (None, 3)


def ends(parameter):
    if isinstance(parameter, keras_tuner.engine.hyperparameters.Boolean):
        return False, True
    if hasattr(parameter, "min_value"):
        return parameter.min_value, parameter.max_value
    return parameter.values


@pytest.mark.parametrize("name", SPACES)
def test_the_whole_space_is_declared_at_once(name):
    hp = keras_tuner.HyperParameters()
    choose(hp, name, 1000)
    declared = {p.name for p in hp.space}
    assert {"batch_size", "learning_rate", "optimizer", "weight_decay"} <= declared
    for corner in (0, -1):
        for parameter in list(hp.space):
            hp.values[parameter.name] = list(ends(parameter))[corner]
        choose(hp, name, 1000)
        assert {p.name for p in hp.space} == declared


def test_the_craft_of_training_is_searched_when_asked_for():
    hp = keras_tuner.HyperParameters()
    chosen = choose(hp, "mlp", 1000, with_craft=True)
    plain = choose(keras_tuner.HyperParameters(), "mlp", 1000)
    crafts = {"schedule", "warmup", "label_smoothing", "ema", "augment"}
    assert set(chosen) - set(plain) == crafts <= {p.name for p in hp.space}
    for corner in (0, -1):
        for parameter in list(hp.space):
            hp.values[parameter.name] = list(ends(parameter))[corner]
        config = Config("mlp", "digits", **choose(hp, "mlp", 1000, with_craft=True))
        check(config, data_sets.load("digits"))


def test_sizes_that_are_not_there_have_no_value():
    oracle = tuning.search.TUNERS["random"](
        objective=keras_tuner.Objective("val_accuracy", "max"), max_trials=60, seed=1)
    choose(oracle.hyperparameters, "mlp", 1000)
    oracle.start_order.append("0")
    depths = set()
    for _ in range(40):
        values = oracle.populate_space("1")["values"]
        units = [name for name in values if name.startswith("units")]
        assert units == [f"units{i + 1}" for i in range(values["layers"])]
        depths.add(len(units))
    assert depths == {1, 2, 3}


@pytest.mark.parametrize("images, sizes", [(9, [9]), (16, [16]), (100, [16, 32, 64])])
def test_batch_sizes_are_at_most_the_images(images, sizes):
    hp = keras_tuner.HyperParameters()
    assert choose(hp, "mlp", images)["batch_size"] == min(32, sizes[-1])
    assert {p.name: p for p in hp.space}["batch_size"].values == sizes


def test_unknown_space():
    with pytest.raises(UsageError, match="Unknown search space 'perceptron'.*Known: .*mlp"):
        find_space("perceptron")


# Trials


class Unseen:
    def __getattr__(self, name):
        raise AssertionError("a trial looked at the test part")


def test_a_trial_does_not_see_the_test_part(digits):
    config = Config("mlp", "digits", epochs=1, fingerprint="here")
    seen = []
    result = run_trial(vars(config), {"here": replace(digits, test=Unseen())}, seen.append)
    assert result["best_epoch"] == 1 and result["curve"] == [result["score"]]
    assert seen[0]["val_accuracy"] == result["score"] and seen[0]["val_loss"] == result["loss"]


def test_a_trial_refuses_data_that_have_changed():
    with pytest.raises(HandgradError, match="digits has changed since the search began"):
        run_trial(vars(Config("mlp", "digits", fingerprint="other")), {}, print)


def test_patience_ends_a_trial(digits):
    config = Config("mlp", "digits", epochs=9, patience=1, optimizer="sgd", learning_rate=1e-9,
                    fingerprint="here")
    result = run_trial(vars(config), {"here": digits}, lambda row: None)
    assert len(result["curve"]) == result["best_epoch"] + 1 < 9


@pytest.fixture(scope="module")
def searched(digits, tmp_path_factory):
    """A search with all that can happen, interrupted in trial 4 and resumed."""
    run = start(tmp_path_factory.mktemp("search"), digits)
    sabotage = {"1": {"optimizer": "adams"}, "2": DIVERGES}
    started = []

    def choose_badly(hp, model, images):
        trial = str(len(search.records))
        started.append(trial)
        return {**choose(hp, model, images), **sabotage.get(trial, {})}

    def on_epoch(trial, row):
        if trial == "3":
            os.kill(search.worker.process.pid, signal.SIGKILL)
        if trial == "4":
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning.search, "choose", choose_badly)
        search = Search(run, digits, trials=TRIALS)
        with pytest.raises(KeyboardInterrupt):
            search.search(on_epoch=on_epoch)
        before, values = search.records, search.oracle.trials["4"].hyperparameters.values
        started.append("resumed")
        search = Search(run, digits, trials=TRIALS)
        ranked = search.search()
    return run, before, ranked, started, values


def test_every_trial_is_recorded(searched):
    run, _, ranked, _, _ = searched
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
    run, before, _, started, values = searched
    assert started == ["0", "1", "2", "3", "4", "resumed", "4", "5"]
    records = read_json(run.path / "search" / "records.json")
    assert {t: records[t] for t in before} == before and len(before) == 4
    assert records["4"]["values"] == values


def test_the_best_has_the_highest_validation_accuracy(searched):
    run, _, ranked, _, _ = searched
    scores = [r["score"] for r in ranked if r["status"] == "COMPLETED"]
    assert scores == sorted(scores, reverse=True) and len(scores) == 3
    assert scores[0] == max(ranked[0]["curve"])
    assert read_json(run.path / "best.json") == json.loads(json.dumps(ranked[0]))
    config = final_config(ranked[0])
    assert config.on_train_and_validation and not config.search
    assert config.epochs == ranked[0]["best_epoch"]


def test_the_table_of_trials(searched):
    run, _, ranked, _, _ = searched
    with (run.path / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == [str(i) for i in range(TRIALS)]
    best = rows[int(ranked[0]["trial"])]
    assert float(best["score"]) == ranked[0]["score"]
    assert float(best["learning_rate"]) == ranked[0]["values"]["learning_rate"]
    assert rows[3]["score"] == "" and rows[3]["reason"]
    assert (run.path / "trials.png").read_bytes().startswith(b"\x89PNG")


def test_equal_accuracies_are_ranked_by_loss(digits, tmp_path):
    search = Search(start(tmp_path, digits), digits)
    search.records = {
        name: {"trial": name, "score": score, "loss": loss}
        for name, score, loss in (("a", 0.9, 0.3), ("b", None, None), ("c", 0.9, 0.2),
                                  ("d", 0.5, 0.1))
    }
    assert [r["trial"] for r in search.ranking()] == ["c", "a", "d", "b"]


@pytest.mark.parametrize("change, tuner, message", [
    ({"learning_rate": 0.5}, "random", "learning_rate was 0.001, is 0.5"),
    ({"seed": 1}, "random", "seed was 0, is 1"),
    ({"fingerprint": "x"}, "random", "fingerprint was '[0-9a-f]{16}', is 'x'"),
    ({"epochs": 3}, "random", "epochs was 2, is 3"),
    ({}, "bayesian", "tuner was 'random', is 'bayesian'"),
])
def test_another_question_is_refused(digits, tmp_path, change, tuner, message):
    run = start(tmp_path, digits)
    Search(run, digits)
    with pytest.raises(UsageError, match=message):
        Search(Run(run.path, replace(run.config, **change)), digits, tuner=tuner)


def test_all_failed_is_an_error_with_the_reason(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning.search, "choose", lambda *given: {**choose(*given), **DIVERGES})
    search = Search(start(tmp_path, digits), digits, trials=2)
    with pytest.raises(HandgradError, match="All 2 trials failed: Training diverged: loss is"):
        search.search()
    assert not (tmp_path / "best.json").exists()


def test_a_worker_that_cannot_start_is_a_failed_trial(tmp_path, monkeypatch):
    monkeypatch.setattr("tuning.worker.sys.executable", "/bin/false")
    worker = Worker(tmp_path / "log")
    with pytest.raises(tuning.search.TrialFailed, match="the process died with code 1"):
        worker.run({})


@pytest.mark.parametrize("tuner, trials, message", [
    ("randm", 3, "Unknown tuner 'randm'. Did you mean 'random'"),
    ("random", 0, "--trials must be at least 1. Received: 0"),
])
def test_wrong_searches(digits, tmp_path, tuner, trials, message):
    with pytest.raises(UsageError, match=message):
        Search(start(tmp_path, digits), digits, tuner=tuner, trials=trials)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("tuner", tuning.search.TUNERS)
def test_the_oracle_looks_for_high_scores_and_survives_a_kill(tuner, tmp_path):
    """A search of a function: the kill comes between a trial's file and the oracle's."""
    def oracle():
        made = tuning.search.TUNERS[tuner](
            objective=keras_tuner.Objective("val_accuracy", "max"), max_trials=16, seed=1)
        made.verbose = 0
        made._set_project_dir(str(tmp_path), "search")
        return made

    first = oracle()
    first.hyperparameters.Float("x", 0.0, 1.0, default=0.5)
    scores = []
    for i in range(16):
        if i == 9:
            first.save = lambda: None
            killed = first.create_trial("tuner0").trial_id
            first = oracle()
            first.reload()
        trial = first.create_trial("tuner0")
        assert i != 9 or trial.trial_id == killed
        x = trial.hyperparameters.values["x"]
        assert i or x == 0.5
        scores.append(-(x - 0.8) ** 2)
        first.update_trial(trial.trial_id, {"val_accuracy": scores[-1]})
        trial.status = "COMPLETED"
        first.end_trial(trial)
    assert first.create_trial("tuner0").status == "STOPPED"
    assert first.get_best_trials()[0].score == max(scores)
    if tuner == "bayesian":
        assert np.mean(scores[10:]) > np.mean(scores[1:5])


def test_thirty_trials_do_not_grow_the_parent(digits, tmp_path, monkeypatch):
    """And they run in several processes, one after the other."""
    run = start(tmp_path, digits)
    run.config = replace(run.config, epochs=1)
    search, processes, sizes = Search(run, digits, trials=31), set(), []

    def on_epoch(trial, row):
        processes.add(search.worker.process.pid)

    def on_trial(record):
        sizes.append(psutil.Process().memory_info().rss / 2**20)

    search.search(on_epoch=on_epoch, on_trial=on_trial)
    assert len(sizes) == 31 and len(processes) == 4
    print(f"{sizes[-1] - sizes[0]:.1f} MB over 30 trials")
    assert sizes[-1] - sizes[0] < 100
