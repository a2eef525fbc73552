"""The parent's side of a trial: a child process, its limits, and what it says."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass

import psutil

from app.errors import HandgradError, UsageError
from custom_layers.byte_sizes import memory_bytes, shown
from tuning.trial import OUT_OF_MEMORY

TRIALS_A_PROCESS = 8


class TrialFailed(Exception):
    """A trial that ended without a score; the message says why."""


@dataclass(frozen=True)
class Limits:
    """Of a trial: seconds that it may take, bytes that its process may hold; None is no limit."""

    seconds: float | None = None
    memory: float | None = None


def limits(minutes, memory):
    """The `Limits` of a trial, by minutes and by a text such as "4 GB"; None is no limit."""
    if minutes is not None and not 0 < minutes < float("inf"):
        raise UsageError(f"--trial-minutes must be above 0. Received: {minutes}")
    try:
        most = None if memory is None else memory_bytes(memory)
    except ValueError as error:
        raise UsageError("--trial-memory must be a size such as '4 GB' or '512 MB'. "
                         f"Received: {memory}") from error
    return Limits(None if minutes is None else 60 * minutes, most)


class Worker:
    """Runs trials one by one in a child process, whose log is the file `log`.

    threads: of TensorFlow's arithmetic in it; None: all there are.
    """

    def __init__(self, log, limits=Limits(), threads=None):
        self.log, self.limits, self.threads = log, limits, threads
        self.process, self.trials, self.ended = None, 0, False

    def run(self, job, on_epoch=lambda row: True):
        """The result of a job, calling `on_epoch` with each epoch's numbers.

        Where `on_epoch` returns False the trial ends with this epoch.

        Raises:
            TrialFailed: where the trial raised an error, its process died, or a limit was passed.
            HandgradError: where no trial could be run.
        """
        gone = self.process is None or self.process.poll() is not None
        if gone or self.trials >= TRIALS_A_PROCESS:
            self.close()
            self._start()
        self.trials += 1
        try:
            return self._run(job, on_epoch)
        except TrialFailed as error:
            if not str(error).startswith(OUT_OF_MEMORY):
                raise
            self.close()  # to give back all that the process has taken
            if self.trials == 1:
                raise
        # Trials before it may have taken the memory: once more, alone.
        return self.run(job, on_epoch)

    def _run(self, job, on_epoch):
        self.excused = 0.0  # seconds that the trial waited for this side
        for reply in self._replies(job):
            if "epoch" in reply:
                began = time.monotonic()
                self._say(on_epoch(reply) is not False)
                self.excused += time.monotonic() - began
            elif "fatal" in reply:
                raise HandgradError(reply["error"])
            elif "error" in reply:
                raise TrialFailed(reply["error"])
            else:
                return reply
        raise TrialFailed(self._death())

    def _say(self, value):
        # Where the process has died, `_replies` ends.
        with contextlib.suppress(BrokenPipeError, ValueError, AttributeError):
            self.process.stdin.write(json.dumps(value) + "\n")
            self.process.stdin.flush()

    def _replies(self, job):
        """What the process says, until it dies or passes a limit."""
        began = time.monotonic()
        self._say(job)
        while True:
            self._check(time.monotonic() - began - self.excused)
            try:
                line = self.lines.get(timeout=0.5)
            except queue.Empty:
                continue
            if line is None:
                return
            try:
                yield json.loads(line)
            except ValueError:  # it died in the middle of a line
                return

    def _check(self, seconds):
        """Ends the process where it passes a limit."""
        limit, most = self.limits.seconds, self.limits.memory
        if limit is not None and seconds > limit:
            self.close()
            raise TrialFailed(f"it took longer than {limit:g} seconds")
        if most is not None:
            with contextlib.suppress(psutil.Error, AttributeError):
                held = psutil.Process(self.process.pid).memory_info().rss
                if held > most:
                    self.close()
                    raise TrialFailed(f"{OUT_OF_MEMORY}: its process held {shown(held)}, more than "
                                      f"{shown(most)}")

    def _start(self):
        environment = {**os.environ, "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
        if self.threads:
            environment |= {name: str(self.threads) for name in (
                "TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")}
        with self.log.open("a") as log:
            process = subprocess.Popen(
                # -P: no module of the current folder takes the place of ours.
                [sys.executable, "-P", "-m", "tuning.trial"], text=True, bufsize=1,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment,
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )
        self.process, self.trials, self.lines = process, 0, queue.Queue()
        threading.Thread(target=_read, args=(process.stdout, self.lines), daemon=True).start()
        if self.ended:  # meanwhile
            self.close()
            raise TrialFailed("it was stopped")

    def _death(self):
        process = self.process
        if process is None:
            return "it was stopped"
        code = process.wait()
        self.close()
        if code == -signal.SIGKILL:
            return "the process was killed (signal 9), probably out of memory"
        with self.log.open(errors="replace") as log:
            last = "".join(deque(log, 1)).strip()
        return f"the process died with code {code}: {last}"

    def close(self):
        """Kills the process; the next trial gets another."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()

    def end(self):
        """Kills the process for good, from any thread: the trial that runs in it has failed."""
        self.ended = True
        self.close()


def _read(stream, lines):
    """Hands on the lines of a stream, then None."""
    try:
        with stream:
            for line in stream:
                lines.put(line)
    finally:
        lines.put(None)
