"""The process that trials run in: it reads a job a line, and replies in lines of JSON.

A graph that TensorFlow has made is never given back, so a process that runs trial after trial
grows without bound. This one is replaced every few trials, and whatever happens to it, out of
memory or worse, happens to a trial and not to the search.
"""

import json
import os
import queue
import shutil
import sys
import threading
from pathlib import Path

from app.errors import HandgradError, UsageError
from app.runs import Config, Run, replacing

OUT_OF_MEMORY, NO_SPACE = "out of memory", "no space left on the disk"


class SearchFailed(HandgradError):
    """What is not a trial's fault: no trial could be run."""


def main():
    """Runs the jobs that come on standard input; ends as soon as that does, in a job too."""
    # TensorFlow and others may print: standard output is the parent's, for replies alone.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    lines = queue.Queue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()

    def reply(value):
        replies.write(json.dumps(value) + "\n")

    def on_epoch(row):
        reply(row)
        return json.loads(lines.get())  # whether to go on

    loaded = {}
    reply({"ready": True})
    while True:
        job = json.loads(lines.get())
        try:
            reply(run_trial(job, loaded, on_epoch))
        except MemoryError:
            reply({"error": OUT_OF_MEMORY})
        except SearchFailed as error:
            reply({"error": _one_line(error), "fatal": True})
        except Exception as error:
            import traceback

            traceback.print_exc()
            reply({"error": _one_line(error)})


def _listen(lines):
    """Hands on what comes; without a parent there is nothing left to do."""
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)


def run_trial(job, loaded, on_epoch):
    """Trains one trial on the training part, and scores it on the validation part.

    Its folder keeps the state after each epoch. A trial that was killed goes on from there; one
    that continues another starts from the other's state.

    Args:
        job: {"config": of the trial, in plain values, "folder": where its state is kept,
            "before": the folder of the trial that it continues, or None, "until": the number of
            epochs to reach, "objective": "val_accuracy" or "val_loss"}.
        loaded: the data of earlier trials by their fingerprint.
        on_epoch: called with the numbers of each epoch; where it returns False the trial ends.

    Returns:
        A dict: score and loss of the best epoch, best_epoch, curve (the objective by epoch), and
        trained, the number of epochs that this call has trained.
    """
    import keras

    from app.data import load
    from app.training import Checkpoints, fit, new_model

    config, folder = Config(**job["config"]), Path(job["folder"])
    if config.fingerprint not in loaded:
        try:
            data = load(**config.data_arguments())
        except HandgradError as error:
            raise SearchFailed(str(error)) from error
        if data.fingerprint != config.fingerprint:
            raise SearchFailed(f"{config.data} has changed since the search began.")
        loaded[config.fingerprint] = data
    data = loaded[config.fingerprint]
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder, config)
    run.begin_training()
    killed = any(folder.glob("state-*"))
    if job["before"] and not killed:
        _take_up(Path(job["before"]), folder)
    checkpoints = Checkpoints(run, config.patience, keep_best=False)

    def goes_on(**more):
        """Asks about the last epoch."""
        scores = [row[job["objective"]] for row in checkpoints.rows]
        last = {name: float(value) for name, value in checkpoints.rows[-1].items()}
        return on_epoch({**last, "epoch": len(scores) - 1, "scores": scores, **more}) is not False

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if not goes_on():
                self.model.stop_training = True

    keras.backend.clear_session()
    model = new_model(config, data)
    first = checkpoints.restore(model)
    left = first < job["until"] and not checkpoints.finished()
    if left and (not killed or goes_on(again=True)):  # the kill may have come before the answer
        fit(model, config, data.train, data.validation, first_epoch=first, until=job["until"],
            callbacks=[checkpoints, Watch()])
    return {**summary(checkpoints.rows, job["objective"]), "trained": len(checkpoints.rows) - first}


def _take_up(before, folder):
    """Copies where a training stands; where nothing is kept of it, there is nothing to take up."""
    if not (before / "history.csv").exists():
        return
    # The state last: a folder that has one is whole.
    for file in (before / "history.csv", *sorted(before.glob("state-*"))[-1:]):
        with replacing(folder / file.name) as aside:
            shutil.copyfile(file, aside)


def summary(rows, objective):
    """What the epochs of a trial come to."""
    sign = -1 if objective == "val_loss" else 1
    best = max(range(len(rows)), key=lambda i: (sign * rows[i][objective], -rows[i]["val_loss"]))
    return {"score": rows[best][objective], "loss": rows[best]["val_loss"],
            "best_epoch": best + 1, "curve": [row[objective] for row in rows]}


def _one_line(error):
    text = " ".join(str(error).split())
    name = type(error).__name__
    if name == "ResourceExhaustedError":
        return f"{OUT_OF_MEMORY}: {text[:200]}"
    if getattr(error, "errno", None) == 28 or "No space left on device" in text:
        return f"{NO_SPACE}: {text[:200]}"
    return text[:300] if isinstance(error, (HandgradError, UsageError)) else f"{name}: {text[:300]}"


if __name__ == "__main__":
    main()
