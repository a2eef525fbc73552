"""What is shown of a search: coordinates, importances, the path, its page, its table."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from app import data as data_sets
from app import search_figures as figures
from app.drawing import ORANGE
from app.errors import UsageError
from app.evaluation import score
from app.runs import Config, Run
from app.search_report import search_section
from tuning.plan import Plan
from tuning.search import Search
from tuning.show import show


def trial(number, values, value, round_=None):
    own = {} if round_ is None else {"tuner/round": round_}
    return {"trial": str(number), "status": "COMPLETED", "score": value, "loss": 1.0, "tuner": own,
            "values": values, "best_epoch": 1, "epochs": 1, "seconds": 1.0, "reason": None,
            "curve": [value], "objective": "val_accuracy"}


def trials(count=24):
    """Of which `x` decides nearly all, `kind` a little, and `noise` nothing."""
    rng, found = np.random.default_rng(0), []
    for i in range(count):
        x, noise = 10 ** rng.uniform(-4, 0), 1 + float(rng.random())
        kind = str(rng.choice(["a", "b"]))
        values = {"x": x, "kind": kind, "noise": noise, "fixed": 3}
        if kind == "a":
            values["inner"] = float(rng.random())
        found.append(trial(i, values, math.log10(x) / 4 + 0.1 * (kind == "b"), i // 8))
    return found


def test_coordinates_go_through_the_values_to_the_score():
    """On each parameter's own scale; the best last, over all others."""
    found = trials()
    (axes,) = figures.parallel_coordinates(found).axes
    lines = [line for line in axes.lines if len(line.get_ydata()) == 5]
    assert [t.get_text() for t in axes.get_xticklabels()] == [
        "x", "kind", "noise", "inner", "validation accuracy"]
    assert len(lines) == 24 and lines[-1].get_color() == ORANGE
    best, ranked = lines[-1].get_ydata(), sorted(found, key=lambda t: t["score"])
    logs = [math.log(t["values"]["x"]) for t in found]
    x = (math.log(ranked[-1]["values"]["x"]) - min(logs)) / (max(logs) - min(logs))
    np.testing.assert_allclose(best[[0, 1, 4]], [x, ranked[-1]["values"]["kind"] == "b", 1.0])
    gaps = [math.isnan(line.get_ydata()[3]) for line in lines]
    assert gaps == ["inner" not in t["values"] for t in ranked]


def test_what_decides_is_the_most_important():
    (axes,) = figures.importances(trials()).axes
    names = [t.get_text() for t in axes.get_yticklabels()]
    widths = dict(zip(names, (bar.get_width() for bar in axes.patches)))
    assert names[-1] == "x" and set(names) == {"x", "kind", "noise", "inner"}
    assert widths["x"] > 1 > 5 * widths["noise"]


def test_the_path_shows_each_round():
    axes = [a for a in figures.narrowing(trials()).axes if a.get_title(loc="left")]
    assert [a.get_title(loc="left") for a in axes] == ["x", "noise", "inner"]
    assert axes[0].get_yscale() == "log" and axes[1].get_yscale() == "linear"
    assert len(axes[0].collections) == 3  # rounds
    shaded = axes[0].collections[1].get_paths()[0].get_extents()
    values = [t["values"]["x"] for t in trials()[8:16]]
    np.testing.assert_allclose([shaded.ymin, shaded.ymax], [min(values), max(values)])
    assert (shaded.xmin, shaded.xmax) == (7.6, 15.4)


@pytest.mark.parametrize("found, there", [
    (trials(), {"coordinates", "importances", "narrowing"}),
    (trials(7), {"coordinates", "narrowing"}),
    ([{**t, "tuner": {}} for t in trials()], {"coordinates", "importances"}),
    (trials(1), set()),
    ([{**t, "values": {"kind": t["values"]["kind"]}} for t in trials()],
     {"coordinates", "importances"}),
    ([{**t, "score": None, "status": "FAILED", "curve": []} for t in trials()], set()),
])
def test_only_what_can_be_told_is_drawn(found, there):
    section = search_section(found)
    assert {n for n in ("coordinates", "importances", "narrowing") if section[n]} == there


@pytest.mark.parametrize("objective, best, accuracy, worse", [
    ("val_accuracy", 0.9, 0.75, True), ("val_accuracy", 0.5, 0.75, False)])
def test_the_gain_of_choosing_is_told(objective, best, accuracy, worse):
    logits = np.log([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    evaluation = score(np.exp(logits), np.array([0, 0, 1, 1]), ("a", "b"))
    assert evaluation.accuracy == accuracy
    found = [{**trial(0, {"x": 1.0}, best), "objective": objective}]
    gap = search_section(found, evaluation)["gap"]
    assert gap == {"test": accuracy, "size": pytest.approx(abs(best - accuracy)), "worse": worse}
    lost = search_section([{**found[0], "objective": "val_loss", "score": 0.1}], evaluation)["gap"]
    assert lost["test"] == evaluation.loss and lost["worse"]


def test_a_search_is_shown_while_it_runs(tmp_path, monkeypatch):
    """By its name or its folder."""
    monkeypatch.chdir(tmp_path)
    digits = data_sets.load("digits")
    run = Run(tmp_path / "runs" / "n", Config("mlp", "digits", search=True, fingerprint="x"))
    search = Search(run, replace(digits), Plan(trials=9, keep=0))
    result, table = show("n")
    assert result["best"] is None and not table.row_count
    assert "No trial has ended yet" in (run.path / "search.html").read_text()
    for i in range(3):
        one = search._next("0")
        search._keep(one, {**trial(i, search.values(one)[0], None if i == 1 else 0.1 * i),
                           "status": "FAILED" if i == 1 else "COMPLETED",
                           "reason": "<b>" if i == 1 else None, "settings": {},
                           "curve": [] if i == 1 else [0.1 * i]})
    result, table = show(str(run.path))
    assert table.row_count == 3 and [t["trial"] for t in result["trials"]] == ["2", "0", "1"]
    assert result["best"]["trial"] == "2" and json.dumps(result)
    page = (run.path / "search.html").read_text()
    assert "coarse" not in page and "random" in page and "&lt;b&gt;" in page
    assert page.count("<img") >= 4 and "http" not in page.split("<style>")[1].split("</style>")[0]


def test_no_search_to_show(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="There is no search 'n': runs/ holds none. Make one with"):
        show("n")
    (tmp_path / "runs" / "first" / "search").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "search" / "question.json").write_text("{}")
    with pytest.raises(UsageError, match="Unknown search 'fist'. Did you mean 'first'"):
        show("fist")
