"""What came of the trials of a search, for people: ranking, tables, a picture."""

import csv

import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from app.drawing import save
from app.runs import read_json, replacing, write_json
from app.search_figures import search as draw_search
from tuning.oracles import OBJECTIVES

COLUMNS = ("trial", "status", "score", "loss", "best_epoch", "epochs", "seconds", "reason")


def ranked(records, objective):
    """Records, the best first, the lower loss among equals, failed ones last."""
    sign = 1 if OBJECTIVES[objective] == "max" else -1

    def merit(record):
        done = record["score"] is not None
        return (done, sign * record["score"], -record["loss"]) if done else (done,)

    return sorted(records, key=merit, reverse=True)


def write(run, records):
    """Writes what follows from the journal: search/records.json, trials.csv.

    records: by the id of the trial.
    """
    write_json(run.path / "search" / "records.json", records)
    _write_table(run.path / "trials.csv", records.values())


def write_events(folder, record):
    """Writes a trial for TensorBoard: its values (HParams) and its objective by epoch."""
    writer = tf.summary.create_file_writer(str(folder / f"trial-{record['trial']}"))
    with writer.as_default():
        hparams.hparams(record["values"], trial_id=record["trial"])
        for epoch, score in enumerate(record["curve"], 1):
            tf.summary.scalar(record["objective"], score, step=epoch)
    writer.close()


def draw(run, records):
    """Draws trials.png."""
    save(draw_search(list(records.values())), run.path / "trials.png")


def are_written(run, records):
    path = run.path / "search" / "records.json"
    return path.exists() and list(read_json(path)) == list(records)


def _write_table(path, records):
    names = sorted({name for record in records for name in record["values"]})
    with replacing(path) as aside, aside.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, *names])
        for record in records:
            row = [record[c] for c in COLUMNS] + [record["values"].get(n) for n in names]
            writer.writerow("" if value is None else value for value in row)
