"""A trial: what it trains on, how it ends and goes on."""

from dataclasses import replace

import pytest
from search_cases import job

from app import data as data_sets
from app.errors import HandgradError
from tuning.scoring import run_trial


@pytest.fixture(scope="module")
def digits():
    return data_sets.load("digits")


class Unseen:
    def __getattr__(self, name):
        raise AssertionError("a trial looked at the test part")


def test_a_trial_does_not_see_the_test_part(digits, tmp_path):
    seen = []
    result = run_trial(job(tmp_path, epochs=1), {"here": replace(digits, test=Unseen())},
                       seen.append)
    assert result["best_epoch"] == 1 == result["trained"]
    assert result["curve"] == [result["score"]] == seen[0]["scores"]
    assert seen[0]["val_accuracy"] == result["score"] and seen[0]["val_loss"] == result["loss"]


def test_a_trial_refuses_data_that_have_changed(tmp_path):
    with pytest.raises(HandgradError, match="digits has changed since the search began"):
        run_trial(job(tmp_path, fingerprint="other"), {}, print)


def test_patience_ends_a_trial(digits, tmp_path):
    asked = job(tmp_path, epochs=9, patience=1, optimizer="sgd", learning_rate=1e-9)
    result = run_trial(asked, {"here": digits}, lambda row: None)
    assert len(result["curve"]) == result["best_epoch"] + 1 < 9
    again = run_trial(asked, {"here": digits}, lambda row: None)
    assert again == {**result, "trained": 0}


def test_a_killed_trial_goes_on_behind_its_last_epoch(digits, tmp_path):
    """Also one that continues another, to the same scores as one that was never interrupted."""
    whole = run_trial(job(tmp_path / "whole", epochs=4), {"here": digits}, print)

    def stop(row):
        if row["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(job(tmp_path / "cut", epochs=4), {"here": digits}, stop)
    first = run_trial({**job(tmp_path / "cut", epochs=4), "until": 3}, {"here": digits}, print)
    assert first["trained"] == 1 and first["curve"] == whole["curve"][:3]
    asked = {**job(tmp_path / "next", epochs=4), "before": str(tmp_path / "cut")}
    last = run_trial(asked, {"here": digits}, print)
    assert last == {**whole, "trained": 1}


def test_a_trial_ends_when_it_is_told_to(digits, tmp_path):
    result = run_trial(job(tmp_path, epochs=9), {"here": digits}, lambda row: row["epoch"] < 1)
    assert len(result["curve"]) == 2


def test_a_state_of_other_settings_is_not_gone_on_with(digits, tmp_path):
    run_trial(job(tmp_path, epochs=2), {"here": digits}, print)
    other = run_trial(job(tmp_path, epochs=2, learning_rate=0.01), {"here": digits}, print)
    assert other["trained"] == 2


def test_the_lowest_loss_can_be_searched_for(digits, tmp_path):
    asked = {**job(tmp_path), "objective": "val_loss"}
    result = run_trial(asked, {"here": digits}, print)
    assert result["score"] == result["loss"] == min(result["curve"])


# Whole searches


def test_what_is_not_kept_is_trained_again(digits, tmp_path):
    asked = {**job(tmp_path / "next", epochs=2), "before": str(tmp_path / "gone")}
    assert run_trial(asked, {"here": digits}, print)["trained"] == 2


# What goes wrong in a trial
