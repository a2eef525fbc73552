"""The benchmark of search strategies: the same trials, the same space, epochs counted."""

import json

import numpy as np
import pytest

from app import data as data_sets
from app.runs import Config
from app.split import join
from benchmarks import search
from tuning.spaces import choose


@pytest.fixture
def small(monkeypatch):
    """A case of few epochs."""
    monkeypatch.setattr(search, "EPOCHS", 2)
    monkeypatch.setattr(search, "BUDGET", 4)
    monkeypatch.setitem(search.CASES, "small", ("mlp", "digits", None))


def test_random_search_of_the_single_budget_begins_that_of_twice(small):
    found = search.run("small", 0, search.TWICE)
    assert [len(found[name]["curve"]) for name in (search.TWICE, search.RANDOM)] == [8, 4]
    assert found[search.RANDOM]["curve"] == found[search.TWICE]["curve"][:4]
    assert all(0.05 < result["test"] < 1 for result in found.values())
    curve = found[search.TWICE]["curve"]
    assert curve == sorted(curve) and curve[-1] > curve[0]


def test_optuna_searches_the_same_space(small):
    optuna = pytest.importorskip("optuna")
    found = search.run("small", 0, search.OPTUNA)[search.OPTUNA]
    assert len(found["curve"]) >= 4 and found["test"] > 0.05
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(30):
        trial = study.ask()
        chosen = choose(search.Suggestions(trial), "patternnet", 1000)
        assert set(chosen) == {"sizes", "weight_decay", "learning_rate", "optimizer", "batch_size"}
        assert ("units" in chosen["sizes"]) == (chosen["sizes"]["hidden"] > 0)
        assert 1e-6 <= chosen["weight_decay"] <= 1e-2 and Config("patternnet", "x", **chosen)


def test_few_images_are_of_the_training_part_alone():
    digits = data_sets.load("digits")
    search.CASES["few"] = ("mlp", "digits", 300)
    try:
        few = search.loaded("few", 0)
    finally:
        del search.CASES["few"]
    assert (len(few.train), len(few.validation)) == (255, 45)
    allowed = set(map(bytes, join(digits.train, digits.validation).images))
    assert set(map(bytes, join(few.train, few.validation).images)) <= allowed
    np.testing.assert_array_equal(few.test.labels, digits.test.labels)


def test_the_page_says_when_random_s_median_was_reached(tmp_path, monkeypatch, capsys):
    for name, file in (("PAGE", "p.md"), ("FIGURES", "f.json"), ("PICTURE", "p.png")):
        monkeypatch.setattr(search, name, tmp_path / file)
    steps = {search.RANDOM: 90, search.TWICE: 180, "bayesian": 45, "hyperband": 9,
             "coarse-to-fine": 30, "halving": 18, search.OPTUNA: 91}
    figures = {"digits-lenet5": {
        name: {str(seed): {"curve": np.minimum(np.arange(1, 181) / at, 1).tolist()[:max(at, 90)],
                           "test": 0.9 + seed / 100} for seed in range(3)}
        for name, at in steps.items()}}
    figures["digits-lenet5"]["bayesian"]["0"]["curve"] = [0.5]  # it ended soon
    (tmp_path / "kept.json").write_text(json.dumps(figures))
    search.main(["page", str(tmp_path / "kept.json")])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if " | " in line]
    reached = {row[0].removeprefix("| "): row[1].split()[0] for row in rows[1:]}
    assert reached == {"random": "1.00", "random, twice": "2.00", "bayesian": "0.50",
                       "hyperband": "0.10", "coarse-to-fine": "0.33", "halving": "0.20",
                       search.OPTUNA: "1.01"}
    assert rows[1][3] == "91.00 (90.50 to 91.50) |"
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
