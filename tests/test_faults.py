"""Searches whose processes are killed at random: nothing is lost, nothing is run twice."""

import json
import random
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from app.runs import read_json
from command_line import ENVIRONMENT

SEARCH = ("mlp --data digits --trials 5 --epochs 3 --augment none --resume").split()
ROUNDS = [10, pytest.param(60, marks=pytest.mark.slow)]
LONG = 300  # seconds in which something must have happened
SILENCE = 4


def handgrad(folder, log, *arguments):
    with (folder / log).open("a") as file:
        return subprocess.Popen([sys.executable, "-P", "-m", "app.cli", *arguments], cwd=folder,
                                stdout=file, stderr=file, env=ENVIRONMENT)


def journal(path):
    """The whole lines of a journal: the last may be on its way."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines]


def found(path):
    """{trial: (values, curve)} of a search that has ended."""
    return {trial: (record["values"], record["curve"])
            for trial, record in read_json(path / "search" / "records.json").items()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What a search finds that nobody kills, and its seconds: kills fall into all its parts."""
    folder, begun = tmp_path_factory.mktemp("undisturbed"), time.monotonic()
    assert handgrad(folder, "log", "tune", *SEARCH, "--name", "n").wait(LONG) == 0
    return found(folder / "runs" / "n"), time.monotonic() - begun


class Finished:
    """What has been finished of a search; it may only become more."""

    def __init__(self, path):
        self.path, self.ends, self.epochs = path, {}, {}

    def look(self):
        ends = [e["record"] for e in journal(self.path / "search" / "journal.jsonl")
                if e["event"] == "end"]
        ids = [record["trial"] for record in ends]
        assert len(ids) == len(set(ids)), "a trial has ended twice"
        now = {record["trial"]: record for record in ends}
        assert all(now.get(trial) == record for trial, record in self.ends.items()), "lost"
        epochs = {trial: len(record["curve"]) for trial, record in now.items()}
        for file in self.path.glob("search/trial-*/history.csv"):
            trial = file.parent.name.removeprefix("trial-")
            epochs.setdefault(trial, max(0, len(file.read_text().splitlines()) - 1))
        assert all(epochs.get(t, 0) >= n for t, n in self.epochs.items()), "an epoch is lost"
        self.ends, self.epochs = now, epochs


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def children(process):
    try:
        return psutil.Process(process.pid).children()
    except psutil.NoSuchProcess:
        return []


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_killed_search_is_the_undisturbed_one(undisturbed, tmp_path, rounds):
    """The driver and its child are killed at random moments, of starting up too."""
    expected, whole = undisturbed
    rng, kills, number = random.Random(rounds), 0, 0
    while kills < rounds:
        number += 1
        path = tmp_path / "runs" / f"n{number}"
        finished, driver, in_a_row = Finished(path), None, 0
        while True:
            if driver is None:
                driver = handgrad(tmp_path, f"log{number}", "tune", *SEARCH, "--name", path.name)
            last = kills >= rounds
            moment = time.monotonic() + (LONG if last else rng.uniform(0.05, 0.7) * whole)
            epochs = finished.epochs
            while driver.poll() is None and time.monotonic() < moment:
                time.sleep(0.05)
            finished.look()
            if driver.poll() is not None:
                assert driver.returncode == 0, (tmp_path / f"log{number}").read_text()
                break
            assert not last, "it does not end"
            in_a_row = 0 if finished.epochs != epochs else in_a_row
            child = children(driver) if rng.random() < 0.5 and in_a_row < 2 else []
            if child:  # a trial whose process dies three times in a row has failed
                child[0].kill()
                in_a_row += 1
            else:
                kill(driver)
                driver, in_a_row = None, 0
            kills += 1
        assert found(path) == expected
    print(f"{kills} kills, {number} searches")


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_killed_chief_or_worker_loses_nothing(undisturbed, tmp_path, rounds):
    """Any one of a chief and two workers; what is killed is started again, a worker perhaps late.
    """
    with socket.socket() as s:
        s.bind(("localhost", 0))
        address = f"localhost:{s.getsockname()[1]}"
    expected, whole = undisturbed
    rng, kills, number = random.Random(rounds), 0, 0
    begun = {}

    def begin(name):
        begun[name] = time.monotonic()
        who = (*SEARCH, "--name", path.name, "--silence", str(SILENCE)) if name == "chief" else (
            "--worker", name)
        return handgrad(tmp_path, f"{path.name}-{name}", "tune", *who, "--chief", address)

    while kills < rounds:
        number += 1
        path = tmp_path / "runs" / f"n{number}"
        finished = Finished(path)
        running, asleep = {name: begin(name) for name in ("chief", "w0", "w1")}, {}
        while running["chief"].poll() is None:
            last = kills >= rounds
            moment = time.monotonic() + (LONG if last else rng.uniform(0.05, 0.5) * whole)
            while running["chief"].poll() is None and time.monotonic() < moment:
                time.sleep(0.05)
                for name in [n for n, until in asleep.items() if time.monotonic() > until]:
                    running[name] = begin(name)
                    del asleep[name]
            finished.look()
            name = rng.choice(sorted(running))
            if running["chief"].poll() is not None or name in asleep:
                continue
            assert not last, "it does not end"
            kill(running[name])
            kills += 1
            if name == "chief":
                running[name] = begin(name)
            else:
                asleep[name] = time.monotonic() + rng.choice([0, 2 * SILENCE])
        log = (tmp_path / f"{path.name}-chief").read_text()
        assert running.pop("chief").returncode == 0, log
        ended = time.monotonic()
        for name, process in running.items():
            if name not in asleep and begun[name] < ended - SILENCE:
                assert process.wait(LONG) == 0
            else:  # it was started when the chief had gone, and would wait for another
                kill(process)
        finished.look()
        assert found(path) == expected
    print(f"{kills} kills, {number} searches")
