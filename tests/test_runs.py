"""Runs: names, configs, resuming, files that are never half."""

import os
from dataclasses import replace

import pytest

from app.errors import HandgradError, UsageError
from app.runs import ASIDE, Config, Run, read_json, replacing, write_json

CONFIG = Config("mlp", "digits", epochs=4, sizes={"hidden": [8, 9]})
pytestmark = pytest.mark.usefixtures("empty_folder")


@pytest.mark.parametrize("setting, message", [
    ({"epochs": 0}, "--epochs must be at least 1. Received: 0"),
    ({"batch_size": -1}, "--batch-size must be at least 0. Received: -1"),
    ({"patience": 0}, "--patience must be at least 1. Received: 0"),
    ({"learning_rate": 0.0}, "--learning-rate must be above 0. Received: 0.0"),
    ({"learning_rate": float("nan")}, "--learning-rate must be above 0. Received: nan"),
    ({"learning_rate": float("inf")}, "--learning-rate must be above 0. Received: inf"),
    ({"weight_decay": -1e-9}, "--weight-decay must be at least 0. Received: -1e-09"),
])
def test_settings_out_of_range(setting, message):
    with pytest.raises(UsageError, match=message):
        Config("mlp", "digits", **setting)


@pytest.mark.parametrize("name", ["", ".x", "-x", "a/b", "..", "a b", "x\n", "é", "12"])
def test_unfit_names(name):
    with pytest.raises(UsageError, match="--name must be letters"):
        Run.start(name, CONFIG)


def test_config_survives_its_file():
    run = Run.start("a", CONFIG)
    assert Run.open("a").config == CONFIG
    assert Run.open(run.path).config == CONFIG
    assert Run.open(run.path).name == "a"


def test_a_run_opens_from_within_its_folder(monkeypatch):
    monkeypatch.chdir(Run.start("a", CONFIG).path)
    assert Run.open(".").name == "a"


def test_taken_name_says_what_to_do():
    Run.start("a", CONFIG)
    with pytest.raises(UsageError, match="--resume.*--overwrite.*another --name"):
        Run.start("a", CONFIG)


def test_resume_starts_where_there_is_none():
    assert Run.start("a", CONFIG, resume=True).config == CONFIG


def test_resume_takes_more_epochs_only():
    Run.start("a", CONFIG)
    assert Run.start("a", replace(CONFIG, epochs=9), resume=True).config.epochs == 9
    assert Run.open("a").config.epochs == 9
    with pytest.raises(UsageError, match="epochs was 9, is 8"):
        Run.start("a", replace(CONFIG, epochs=8), resume=True)


@pytest.mark.parametrize("more", [{"schedule": "cosine"}, {"search": True}])
def test_epochs_that_decide_the_training_are_kept(more):
    config = replace(CONFIG, **more)
    Run.start("a", config)
    Run.start("a", config, resume=True)
    with pytest.raises(UsageError, match="epochs was 4, is 9"):
        Run.start("a", replace(config, epochs=9), resume=True)


def test_resume_with_other_settings_names_them_and_loses_nothing():
    Run.start("a", CONFIG)
    other = replace(CONFIG, batch_size=64, fingerprint="x")
    with pytest.raises(UsageError, match="batch_size was 32, is 64; fingerprint was '', is 'x'"):
        Run.start("a", other, resume=True)
    assert Run.open("a").config == CONFIG


def test_overwrite_removes_what_was_there():
    run = Run.start("a", CONFIG)
    (run.path / "history.csv").write_text("old")
    run = Run.start("a", replace(CONFIG, batch_size=8), overwrite=True)
    assert [p.name for p in run.path.iterdir()] == ["config.json"]


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "thesis.txt").write_text("work of years")
    for flag in ("resume", "overwrite"):
        with pytest.raises(UsageError, match="exists and is no run"):
            Run.start("a", CONFIG, **{flag: True})
    assert (tmp_path / "runs" / "a" / "thesis.txt").exists()


def test_resume_and_overwrite_exclude_each_other():
    with pytest.raises(UsageError, match="--resume and --overwrite"):
        Run.start("a", CONFIG, resume=True, overwrite=True)


def test_unknown_run():
    with pytest.raises(UsageError, match="There is no run 'a'.*handgrad train"):
        Run.open("a")
    Run.start("digits", CONFIG)
    with pytest.raises(UsageError, match="Unknown run 'digit'. Did you mean 'digits'"):
        Run.open("digit")


def test_a_run_without_a_model_says_so():
    with pytest.raises(HandgradError, match="has no trained model yet .*best.keras.*--resume"):
        Run.start("a", CONFIG).model()


def test_training_with_another_config_starts_from_nothing():
    run = Run.start("a", replace(CONFIG, search=True))
    first = Run(run.path, CONFIG)
    first.begin_training()
    files = ["state-00002.npz", "best.keras", "history.csv", "initial_filters.npy",
             "metrics.json", "report.html"]
    for name in files:
        (run.path / name).touch()
    (run.path / f"{ASIDE}7-best.keras").touch()
    (run.path / "logs").mkdir()
    (run.path / "trials.csv").touch()
    first.begin_training()
    assert all((run.path / name).exists() for name in files)
    assert Run.open("a").config == CONFIG
    second = Run(run.path, replace(CONFIG, batch_size=8))
    second.begin_training()
    assert sorted(p.name for p in run.path.iterdir()) == [
        "config.json", "training.json", "trials.csv"]
    assert Run.open("a").config.batch_size == 8


def test_replacing_is_all_or_nothing(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    with pytest.raises(ZeroDivisionError), replacing(path) as aside:
        aside.write_text("half")
        1 / 0
    assert read_json(path) == {"x": 1} and os.listdir(tmp_path) == ["a.json"]


def test_damaged_json_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(HandgradError, match="a.json is not valid JSON"):
        read_json(tmp_path / "a.json")
