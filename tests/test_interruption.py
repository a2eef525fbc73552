"""Commands cut short: what is kept, and the line that says how to go on."""

import errno
import os
import signal
import subprocess
import sys
import time

import keras
import psutil
from command_line import ENVIRONMENT, RUN

from app.runs import read_json


def test_a_full_disk_says_how_to_go_on(place, handgrad, monkeypatch):
    def save(*arguments, **settings):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("numpy.savez", save)
    command = "train mlp --data small.npz --epochs 3 --name full"
    code, _, err = handgrad(*command.split())
    assert code == 1
    assert err.splitlines()[-1] == (
        "handgrad: No space left on device. What was finished is kept. Continue with: "
        f"handgrad {command} --resume")
    assert not list(place.glob("runs/full/.writing*"))


class CtrlC(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise KeyboardInterrupt


def test_an_interrupted_training_says_how_to_go_on(place, handgrad, monkeypatch):
    command = "train mlp --data small.npz --epochs 3 --name stopped"
    with monkeypatch.context() as patch:
        patch.setattr("app.training.keras.callbacks.TensorBoard", lambda path: CtrlC())
        code, _, err = handgrad(*command.split(), "--overwrite")
    assert code == 1
    assert err.splitlines()[-1] == (
        "handgrad: Interrupted. What was finished is kept. Continue with: "
        f"handgrad {command} --resume")
    code, out, err = handgrad(*command.split(), "--resume")
    assert code == 0
    whole, stopped = (read_json(place / "runs" / name / "metrics.json")["test"]
                      for name in ("trained", "stopped"))
    assert whole == stopped


def test_nothing_to_resume_is_not_promised(handgrad, monkeypatch):
    def load(**arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("app.data.load", load)
    code, _, err = handgrad("train", "mlp", "--data", "small.npz", "--name", "never")
    assert (code, err) == (1, "handgrad: Interrupted.\n")


def test_a_run_interrupted_in_its_last_training_goes_on_there(place, handgrad, monkeypatch):
    command = [*RUN[:-1], "late"]
    monkeypatch.chdir(place)
    with monkeypatch.context() as patch:
        patch.setattr("app.training.keras.callbacks.TensorBoard", lambda path: CtrlC())
        code, _, err = handgrad(*command)
    assert code == 1 and err.endswith("--name late --resume\n")
    records = (place / "runs" / "late" / "search" / "records.json").read_text()
    code, out, err = handgrad(*command, "--resume")
    assert code == 0, err
    assert (place / "runs" / "late" / "search" / "records.json").read_text() == records
    whole, late = (read_json(place / "runs" / name / "metrics.json")["test"]
                   for name in ("whole", "late"))
    assert whole == late


def test_a_real_ctrl_c_in_a_search_leaves_no_process(tmp_path):
    # Where the tests run in the background, SIGINT is ignored, by what they start too.
    program = ("import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
               "from app.cli import main; main()")
    command = [sys.executable, "-c", program, "tune", "lenet5", "--trials", "3", "--epochs", "40",
               "--name", "x"]
    process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, text=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("runs/x/search/trial-0/training.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    while not (children := psutil.Process(process.pid).children()):
        time.sleep(0.05)
    time.sleep(1)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err == ("handgrad: Interrupted. What was finished is kept. Continue with: handgrad tune "
                   "lenet5 --trials 3 --epochs 40 --name x --resume\n")
    assert not [child for child in children if child.is_running()]
