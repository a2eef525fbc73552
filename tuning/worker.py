"""The process that trials run in: it reads a config a line, and replies in lines of JSON.

A graph that TensorFlow has made is never given back, so a process that runs trial after trial
grows without bound. This one is replaced every few trials, and whatever happens to it, out of
memory or worse, happens to a trial and not to the search.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import deque

from app.errors import HandgradError

TRIALS_A_PROCESS = 8
OUT_OF_MEMORY = "out of memory"


class TrialFailed(Exception):
    """A trial that ended without a score; the message says why."""


class Worker:
    """Runs trials one by one in a child process, whose log is the file `log`."""

    def __init__(self, log):
        self.log = log
        self.process, self.trials = None, 0

    def run(self, config, on_epoch=lambda row: None):
        """The result of a trial of a config, calling `on_epoch` with each epoch's numbers.

        Raises:
            TrialFailed: where the trial raised an error or its process died.
        """
        if self.process is None or self.trials >= TRIALS_A_PROCESS:
            self.close()
            self._start()
        self.trials += 1
        for reply in self._replies(config):
            if "epoch" in reply:
                on_epoch(reply)
            elif "error" in reply:
                if reply["error"].startswith(OUT_OF_MEMORY):
                    self.close()  # to give back all that the process has taken
                raise TrialFailed(reply["error"])
            else:
                return reply
        raise TrialFailed(self._death())

    def _replies(self, config):
        """What the process says, until it dies."""
        try:
            self.process.stdin.write(json.dumps(config) + "\n")
            self.process.stdin.flush()
            for line in self.process.stdout:
                yield json.loads(line)
        except (BrokenPipeError, ValueError):  # it died before, or in the middle of a line
            pass

    def _start(self):
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                # -P: no module of the current folder takes the place of ours.
                [sys.executable, "-P", "-m", "tuning.worker"], text=True, bufsize=1,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )
        self.trials = 0

    def _death(self):
        code = self.process.wait()
        self.close()
        if code == -signal.SIGKILL:
            return "the process was killed (signal 9), probably out of memory"
        with self.log.open() as log:
            last = "".join(deque(log, 1)).strip()
        return f"the process died with code {code}: {last}"

    def close(self):
        if self.process is not None:
            self.process.kill()
            with contextlib.suppress(BrokenPipeError):
                self.process.communicate()
            self.process = None


def main():
    """Runs the trials that come on standard input until it ends."""
    # TensorFlow and others may print: standard output is the parent's, for replies alone.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def reply(value):
        replies.write(json.dumps(value) + "\n")

    loaded = {}
    for line in sys.stdin:
        try:
            reply(run_trial(json.loads(line), loaded, reply))
        except MemoryError:
            reply({"error": OUT_OF_MEMORY})
        except Exception as error:
            import traceback

            traceback.print_exc()
            reply({"error": _one_line(error)})


def run_trial(config, loaded, on_epoch):
    """Trains one trial on the training part, and scores it on the validation part.

    Args:
        config: of the trial, in plain values.
        loaded: the data of earlier trials by their fingerprint.
        on_epoch: called with the numbers of each epoch.

    Returns:
        A dict: score and loss of the best epoch, best_epoch, and curve, the validation accuracies.
    """
    import keras

    from app.data import load
    from app.runs import Config
    from app.training import best_epoch, fit, new_model

    config, rows = Config(**config), []
    if config.fingerprint not in loaded:
        data = load(**config.data_arguments())
        if data.fingerprint != config.fingerprint:
            raise HandgradError(f"{config.data} has changed since the search began.")
        loaded[config.fingerprint] = data
    data = loaded[config.fingerprint]

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
        "loss": rows[best - 1]["val_loss"],
        "best_epoch": best,
        "curve": [row["val_accuracy"] for row in rows],
    }


def _one_line(error):
    text = " ".join(str(error).split())
    name = type(error).__name__
    if name == "ResourceExhaustedError":
        return f"{OUT_OF_MEMORY}: {text[:200]}"
    return text[:300] if name in ("HandgradError", "UsageError") else f"{name}: {text[:300]}"


if __name__ == "__main__":
    main()
