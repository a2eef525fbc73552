"""The process that trials run in: `python -m tuning.worker`, one JSON line a job, one a reply.

A graph that TensorFlow has made is never given back, so a process that runs trial after trial
grows without bound. This one is replaced every few trials, and whatever happens to it, out of
memory or worse, happens to a trial and not to the search.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque

TRIALS_A_PROCESS = 8


class TrialFailed(Exception):
    """A trial that ended without a score; the message says why."""


class Worker:
    """Runs trials one by one in a child process."""

    def __init__(self, log):
        self.log = log
        self.process, self.trials = None, 0

    def run(self, job, on_epoch=lambda row: None):
        """The result of a job, calling `on_epoch` with each epoch's numbers.

        Raises:
            TrialFailed: where the trial raised an error or its process died.
        """
        if self.process is None or self.trials >= TRIALS_A_PROCESS:
            self.close()
            self._start()
        self.trials += 1
        try:
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
            for line in self.process.stdout:
                reply = json.loads(line)
                if "epoch" in reply:
                    on_epoch(reply)
                elif "error" in reply:
                    raise TrialFailed(reply["error"])
                else:
                    return reply
        except BrokenPipeError:
            pass
        except KeyboardInterrupt:
            self.close()
            raise
        raise TrialFailed(self._death())

    def _start(self):
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tuning.worker"], text=True, bufsize=1,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )
        self.trials = 0

    def _death(self):
        code = self.process.wait()
        self.process = None
        if code == -signal.SIGKILL:
            return "the process was killed (signal 9), probably out of memory"
        with self.log.open() as log:
            last = "".join(deque(log, 1)).strip()
        return f"the process died with code {code}: {last}"

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def main():
    """Answers jobs from standard input until it ends."""
    # TensorFlow and others may print: standard output is the parent's, for replies alone.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle

    def reply(value):
        replies.write(json.dumps(value) + "\n")

    loaded = {}
    for line in sys.stdin:
        try:
            reply(run_trial(json.loads(line), loaded, reply))
        except MemoryError:
            reply({"error": "out of memory"})
        except Exception as error:
            import traceback

            traceback.print_exc()
            reply({"error": _one_line(error)})


def run_trial(job, loaded, on_epoch):
    """Trains one trial; returns its score, best epoch, curve and seconds."""
    import keras

    from app.data import load
    from app.runs import Config
    from app.training import best_epoch, fit, new_model

    config = Config(**job["config"])
    key = json.dumps(job["data"], sort_keys=True)
    if key not in loaded:
        loaded.clear()
        loaded[key] = load(**job["data"])
    data, started, rows = loaded[key], time.perf_counter(), []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            rows.append({name: float(value) for name, value in logs.items()})
            on_epoch({"epoch": epoch, **rows[-1]})
            if config.patience and len(rows) - best_epoch(rows) >= config.patience:
                self.model.stop_training = True

    keras.backend.clear_session()
    fit(new_model(config, data), config, data.train, data.validation, callbacks=[Watch()])
    best = best_epoch(rows)
    return {
        "score": rows[best - 1]["val_accuracy"],
        "best_epoch": best,
        "curve": [row["val_accuracy"] for row in rows],
        "seconds": round(time.perf_counter() - started, 2),
    }


def _one_line(error):
    text = " ".join(str(error).split())
    name = type(error).__name__
    if name == "ResourceExhaustedError":
        return f"out of memory: {text[:200]}"
    return text[:300] if name in ("HandgradError", "UsageError") else f"{name}: {text[:300]}"


if __name__ == "__main__":
    main()
