"""A process that runs one training step on demand, and the one that asks: standard library alone.

The child prepares its step, measures how memory grows, answers with a line of JSON and then runs
as many steps as each line of its input says. So the steps of different processes, and of different
frameworks, are timed in turn.
"""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.peak import growth

ROOT = Path(__file__).parent.parent
STEPS = 5  # over which the peak is taken: fragmentation shows after the first one
# TensorFlow's allocator counts where it uses oneDNN's kernels, as it does by itself on most
# processors: here on all.
ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow",
               "TF_ENABLE_ONEDNN_OPTS": "1"}


def serve(prepare):
    """The child's side. `prepare(spec)` gives the step, its facts, and what runs around the peak.

    That is (step, facts, reset, after): `reset()` is called right before the measured steps and
    `after()`, whose result joins the facts, right after them.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    spec = json.loads(sys.argv[1])
    signal.alarm(spec["limit"])
    step, facts, reset, after = prepare(spec)
    times = []

    def steps():
        for _ in range(STEPS):
            begin = time.perf_counter()
            step()
            times.append(time.perf_counter() - begin)

    reset()
    facts["resident"] = growth(steps)
    facts.update(after())
    facts["seconds"] = min(times)
    signal.alarm(0)
    print(json.dumps(facts), file=answers, flush=True)
    for count in sys.stdin:
        signal.alarm(spec["limit"])
        for _ in range(int(count)):
            step()
        signal.alarm(0)
        print("{}", file=answers, flush=True)


class WorkerError(RuntimeError):
    """A child that ended before it answered."""


class Worker:
    """The parent's side: a fresh process that has measured its peak (`facts`) and can be called.

    A call runs `steps` steps, so many that what is sent to and fro takes no part in the time.
    """

    def __init__(self, python, module, spec):
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [python, "-m", module, json.dumps(spec)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.errors, text=True, cwd=ROOT,
            env={**os.environ, **ENVIRONMENT})
        try:
            self.facts = self._answer()
        except BaseException:
            self.close()
            raise
        self.steps = max(1, math.ceil(0.1 / self.facts["seconds"]))

    def __call__(self):
        with suppress(BrokenPipeError):  # where the child is gone, the missing answer says why
            self.process.stdin.write(f"{self.steps}\n")
            self.process.stdin.flush()
        self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        code = self.process.wait()
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace").strip().splitlines()
        why = {-signal.SIGALRM: "it ran out of time", -signal.SIGKILL: "it was killed (memory?)"}
        raise WorkerError(why.get(code) or (said[-1] if said else f"exit code {code}"))

    def close(self):
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.errors.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
