"""The process of a trial, seen from its parent: it dies, hangs, grows, and is never left over."""

import subprocess
import sys

import psutil
import pytest

from app.errors import HandgradError
from tuning.worker import Limits, TrialFailed, Worker


def test_a_worker_that_cannot_start_is_no_trial_s_fault(tmp_path, monkeypatch):
    monkeypatch.setattr("tuning.worker.sys.executable", "/bin/false")
    worker = Worker(tmp_path / "log")
    with pytest.raises(HandgradError, match="the process died with code 1; 3 times without an"):
        worker.run({})


DIES = "import sys\nfor line in sys.stdin: print('{\"epoch\": 0}', flush=True); sys.exit('no luck')"
READY = "print('{\"ready\": true}', flush=True)\n"


def executable(tmp_path, program):
    file = tmp_path / "child"
    file.write_text(f"#!{sys.executable}\n{READY}{program}")
    file.chmod(0o755)
    return str(file)


def test_a_process_that_dies_is_replaced_while_the_trial_gets_on(tmp_path, monkeypatch):
    monkeypatch.setattr("tuning.worker.sys.executable", executable(tmp_path, DIES))
    epochs = []

    def on_epoch(row):
        epochs.append(row)
        if len(epochs) > 5:  # and no further
            row["again"] = True

    with pytest.raises(TrialFailed, match="died with code 1: no luck; 3 times without an epoch"):
        Worker(tmp_path / "log").run({}, on_epoch)
    assert len(epochs) == 7


HANGS = "import sys, time\nfor line in sys.stdin: time.sleep(60)"
GROWS = "import sys, time\nfor line in sys.stdin: x = bytearray(300_000_000); time.sleep(60)"


@pytest.mark.parametrize("program, limit, message", [
    (HANGS, Limits(seconds=1), "it took longer than 1 seconds"),
    (GROWS, Limits(memory=200e6), "out of memory: its process held .*, more than 200.0 MB"),
])
def test_limits_end_a_trial_and_its_process(tmp_path, monkeypatch, program, limit, message):
    monkeypatch.setattr("tuning.worker.sys.executable", executable(tmp_path, program))
    worker, started = Worker(tmp_path / "log", limit), []
    start_process = worker._start
    monkeypatch.setattr(worker, "_start", lambda: (start_process(), started.append(worker.process)))
    with pytest.raises(TrialFailed, match=message):
        worker.run({})
    assert started[0].poll() is not None and worker.process is None


def test_a_child_ends_with_its_parent(tmp_path):
    """Killed with SIGKILL, the parent can tell nobody."""
    code = ("import os, time; from pathlib import Path; from tuning.worker import Worker\n"
            f"w = Worker(Path({str(tmp_path / 'log')!r})); w._start()\n"
            "print(w.process.pid, flush=True); time.sleep(60)")
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    child.wait(timeout=20)
