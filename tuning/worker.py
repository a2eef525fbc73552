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
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

import psutil

from app.errors import HandgradError
from tuning.trial import OUT_OF_MEMORY

TRIALS_A_PROCESS = 24
DEATHS = 3  # of a trial's process, one after the other without an epoch between them


class TrialFailed(Exception):
    """A trial that ended without a score; the message says why."""


class WorkerLost(Exception):
    """A worker that cannot go on; its trial is another's to go on with."""


class _Died(TrialFailed):
    """The trial's process has ended: another may get further."""


@dataclass(frozen=True)
class Limits:
    """Of a trial: seconds that it may take, bytes that its process may hold; None is no limit."""

    seconds: float | None = None
    memory: float | None = None


class Crew:
    """Workers in child processes of this one, and the threads that drive them."""

    outlives = False  # they end with the driver

    def __init__(self, count, folder, limits=Limits()):
        threads = max(1, (os.cpu_count() or 1) // count) if count > 1 else None
        self.workers = [Worker(folder / f"worker-{i}.log", limits, threads, name=str(i))
                        for i in range(count)]

    def run(self, work, over=False):
        """Calls `work(worker)` for each, in a thread each, until all are done or one raises.

        over: whether there is nothing to do.
        """
        if over:
            return
        with ThreadPoolExecutor(len(self.workers)) as pool:
            runs = [pool.submit(work, worker) for worker in self.workers]
            try:
                wait(runs, return_when="FIRST_EXCEPTION")
            finally:
                for worker in self.workers:
                    worker.end()
            for run in runs:
                run.result()


class Worker:
    """Runs trials one by one in a child process, whose log is the file `log`.

    threads: of TensorFlow's arithmetic in it; None: all there are.
    """

    def __init__(self, log, limits=Limits(), threads=None, name="0"):
        self.log, self.limits, self.threads, self.name = log, limits, threads, name
        self.process, self.trials, self.ended = None, 0, False
        self.ready = False  # whether a process has ever been as far as to take a job

    def run(self, job, on_epoch=lambda row: True):
        """The result of a job, calling `on_epoch` with each epoch's numbers.

        Where `on_epoch` returns False the trial ends with this epoch. Where the process dies, or
        takes more memory than it may, another goes on behind the last epoch.

        Raises:
            TrialFailed: where the trial raised an error or took too long, or its process died three
                times without an epoch between.
            HandgradError: where no trial could be run.
        """
        deaths = 0
        while True:
            gone = self.process is None or self.process.poll() is not None
            if gone or self.trials >= TRIALS_A_PROCESS:
                self.close()
                self._start()
            self.trials += 1
            try:
                return self._run(job, on_epoch)
            except _Died as error:
                self.close()
                deaths = 1 if self.epochs else deaths + 1
                if self.ended:
                    raise
                if deaths == DEATHS:
                    raise (TrialFailed if self.ready else HandgradError)(
                        f"{error}; {DEATHS} times without an epoch between") from error

    def _run(self, job, on_epoch):
        self.excused, self.epochs = 0.0, 0  # seconds that the trial waited for this side
        for reply in self._replies(job):
            if "ready" in reply:
                self.ready = True
            elif "epoch" in reply:
                began = time.monotonic()
                self._say(on_epoch(reply) is not False)
                self.excused += time.monotonic() - began
                self.epochs += "again" not in reply
            elif "fatal" in reply:
                raise HandgradError(reply["error"])
            elif "error" in reply:
                out = reply["error"].startswith(OUT_OF_MEMORY)
                raise (_Died if out else TrialFailed)(reply["error"])
            else:
                return reply
        raise _Died(self._death())

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
                    raise _Died(f"{OUT_OF_MEMORY}: its process held {held / 1e6:.1f} MB, more "
                                f"than {most / 1e6:.1f} MB")

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
            raise _Died("it was stopped")

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
        return f"the process died with code {code}" + (f": {last}" if last else "")

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
