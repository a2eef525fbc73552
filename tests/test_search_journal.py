"""The journal of a search: cut, damaged, held by another, on a full disk; taken up again."""

import json
import subprocess
import sys

import pytest
from search_cases import played, start

from app import data as data_sets
from app.errors import HandgradError, UsageError
from tuning.oracles import TUNERS
from tuning.plan import Plan
from tuning.search import Search


@pytest.fixture(scope="module")
def digits():
    return data_sets.load("digits")


@pytest.mark.parametrize("tuner", TUNERS)
def test_a_journal_brings_every_strategy_back(digits, tmp_path, tuner):
    run, plan = start(tmp_path, digits, epochs=9), Plan(tuner, 12, keep=0)
    search, _ = played(run, digits, plan, 6)
    again = Search(run, digits, plan)
    assert again.records == json.loads(json.dumps(search.records)) and len(again.records) == 6
    waiting = [again._next(f"a{i}").trial_id for i in range(len(again._waiting))]
    assert sorted(waiting) == sorted(t.trial_id for t in search.oracle.ongoing_trials.values())
    for worker in "bc":
        ours, theirs = again._next(worker), search._next(worker)
        assert (ours is None) == (theirs is None)
        if ours is not None and ours.status == "RUNNING":
            assert ours.hyperparameters.values == theirs.hyperparameters.values


@pytest.mark.parametrize("place", range(20))
def test_a_journal_cut_anywhere_loses_no_more_than_the_cut(digits, tmp_path, place):
    run, plan = start(tmp_path, digits), Plan(trials=10, keep=0)
    search, _ = played(run, digits, plan, 6)
    path = search.journal.path
    content = path.read_bytes()
    cut = len(content) * place // 20
    path.write_bytes(content[:cut])
    whole = content[:cut].count(b"\n")
    again = Search(run, digits, plan)
    assert again.damaged == (content[:cut] != b"" and not content[:cut].endswith(b"\n"))
    assert path.read_bytes() == content[:cut]  # nothing is changed by who only looks
    again.journal.repair()
    assert again.journal.events == [json.loads(x) for x in content.splitlines()[:whole]]
    again._next("x")
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_garbage_is_set_aside(digits, tmp_path):
    run, plan = start(tmp_path, digits), Plan(trials=10, keep=0)
    search, _ = played(run, digits, plan, 6)
    lines = search.journal.path.read_bytes().splitlines(keepends=True)
    lines[4:5] = [b"\0\xff{garbage}\n"]
    search.journal.path.write_bytes(b"".join(lines))
    again = Search(run, digits, plan)
    assert again.damaged == len(lines) - 4 and len(again.journal.events) == 4
    again.journal.repair()
    assert again.journal.path.with_suffix(".damaged").read_bytes().startswith(b"\0\xff{garbage}")


def test_a_second_driver_is_refused_with_the_first_s_process(digits, tmp_path):
    search = Search(start(tmp_path, digits), digits)
    code = ("import sys, time; from pathlib import Path; from tuning.journal import alone\n"
            f"with alone(Path({str(search.path)!r})): print(1, flush=True); time.sleep(60)")
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "1\n"
        with pytest.raises(UsageError, match=f"Received: process {other.pid}$"):
            search.search()
    finally:
        other.kill()
        other.communicate()
    with pytest.MonkeyPatch.context() as patch:  # the lock is gone with the process
        patch.setattr(search, "_work", lambda *given: None)
        with pytest.raises(HandgradError, match="All 0 trials failed"):
            search.search()


def test_a_full_disk_ends_the_search_and_loses_nothing(digits, tmp_path, monkeypatch):
    run, plan = start(tmp_path, digits), Plan(trials=10, keep=0)
    search, _ = played(run, digits, plan, 3)
    size = search.journal.path.stat().st_size

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tuning.journal.os.fsync", full)
    with pytest.raises(HandgradError, match="No space left on device.*--resume"):
        search._next("x")
    assert search.journal.path.stat().st_size == size
    monkeypatch.undo()
    assert len(Search(run, digits, plan).records) == 3


def test_more_trials_can_be_asked_for_later(digits, tmp_path):
    run = start(tmp_path, digits)
    search, _ = played(run, digits, Plan(trials=3, keep=0), 9)
    assert list(search.records) == list("012")
    more, _ = played(run, digits, Plan(trials=12, keep=0), 9)
    assert list(more.records) == [str(i) for i in range(12)]
