"""`handgrad run --task` as a newcomer gives it, on digit scenes: time, and how good the model is.

    python -m benchmarks.tasks                 all four, into TASKS.md
    python -m benchmarks.tasks segment         one of them
    python -m benchmarks.tasks lean            lean training of the networks beside stock
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np

from app import scenes
from app.data import batches
from app.runs import Config
from app.tasks import TASKS, find_task
from app.training import new_model
from benchmarks.__main__ import machine
from benchmarks.timing import compare
from custom_layers.lean_report import memory_report

FILE = Path(__file__).parent / "TASKS.md"
RESULTS = FILE.with_suffix(".json")
# What is asked of each task: what must be at least so good, in at most so many minutes.
BARS = {"segment": {"test_mean_iou": 0.85}, "detect": {"test_map_50": 0.9},
        "describe": {"test_sentence_accuracy": 0.9},
        "generate": {"test_confidence": 0.9, "test_rarest_class": 0.05}}
MINUTES = 8
LEAN = (("segment", "unet"), ("segment", "segnet-basic"), ("detect", "ssd"),
        ("detect", "retinanet"), ("detect", "yolo-v3"), ("detect", "faster-rcnn"),
        ("describe", "nic"), ("generate", "dcgan"))


def run(task):
    """{measure: value, "seconds"} of one task, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "app.cli", "run", "--task", task, "--json"],
                              cwd=folder, env=os.environ | {"PYTHONPATH": str(FILE.parent.parent)},
                              stdout=subprocess.PIPE, text=True, check=True)
        seconds = time.monotonic() - start
    found = json.loads(done.stdout)
    return {"seconds": round(seconds), "parameters": found["parameters"],
            "values": found["best"]["values"], "machine": machine(),
            **{name: value for name, value in found.items()
               if name.startswith("test_") and isinstance(value, float)}}


def lean_figures():
    """{network: what a step keeps and takes, lean over stock}, at the sizes of digit scenes."""
    found = {}
    for task, network in LEAN:
        data = _some(task)
        size = TASKS[task].batch_size
        x, y = next(iter(batches(data.train, size, chosen=find_task(task).chosen)))
        steps, kept = {}, {}
        for mode in ("stock", "lean"):
            config = Config(network, data.name, task)
            model = new_model(config, data)
            examples = find_task(task).examples(model, network)
            batch = (x, y) if examples is None else examples(x, y)
            if mode == "lean":
                reports = [memory_report(part, batch_size=size)
                           for part in find_task(task).parts(model)]
                kept = {"stock_kept": sum(report.stock for report in reports),
                        "lean_kept": sum(report.lean for report in reports)}
                model = find_task(task).lean(model)
            steps[mode] = partial(_step, model, batch)
        times = compare(steps)
        ratio = np.median(np.divide(times["lean"], times["stock"]))
        found[network] = {"task": task, "batch": size, **kept, "time": float(ratio)}
        print(network, found[network], flush=True)
    return found


def _some(task):
    """A few images of the task's own data."""
    with patch.dict(scenes.PARTS, {"train": 64, "validation": 16, "test": 16}):
        return find_task(task).load(TASKS[task].data)


def _step(model, batch):
    return model.train_on_batch(*batch) if isinstance(batch, tuple) else model.train_on_batch(batch)


def write(results):
    """TASKS.md of the results that there are."""
    lines = ["# Tasks beyond classification", "",
             "`handgrad run --task TASK` with nothing else said, on the built-in digit scenes (for "
             "`generate` scikit-learn's digits), each in an empty folder, one run: "
             "`python -m benchmarks.tasks`. The test part is looked at once, at the end.", "",
             "| task | measure | asked | found | minutes (at most "
             f"{MINUTES}) | parameters |", "|---|---|---|---|---|---|"]
    for task, bars in BARS.items():
        for name, bar in bars.items() if task in results else ():
            found = results[task]
            met = "" if found[name] >= bar else " **missed**"
            late = "" if found["seconds"] <= 60 * MINUTES else " **missed**"
            lines.append(f"| {task} | {name.removeprefix('test_').replace('_', ' ')} | {bar} | "
                         f"{found[name]:.4f}{met} | {found['seconds'] / 60:.1f}{late} | "
                         f"{found['parameters']:,} |")
    lines += ["", "All measures, and what the search chose:", ""]
    for task, found in results.items():
        if task == "lean":
            continue
        measures = ", ".join(f"{name.removeprefix('test_')} {value:.4f}"
                             for name, value in found.items() if name.startswith("test_"))
        chosen = ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
                           for name, value in found["values"].items())
        lines.append(f"- {task}: {measures}; {chosen}. {found['machine']}.")
    if "lean" in results:
        lines += ["", "## Lean training", "",
                  "What the backward pass of a step reads of the forward pass (`memory_report`), "
                  "and the median ratio of steps taken in turn, of the networks as the commands "
                  "build them. `python -m benchmarks.tasks lean`; " + results["lean"]["machine"]
                  + ".", "", "| network | task | batch | stock keeps, MB | lean keeps, MB | "
                  "ratio | time |", "|---|---|---|---|---|---|---|"]
        for name, one in results["lean"]["networks"].items():
            lines.append(f"| {name} | {one['task']} | {one['batch']} | "
                         f"{one['stock_kept'] / 1e6:.1f} | {one['lean_kept'] / 1e6:.1f} | "
                         f"{one['lean_kept'] / one['stock_kept']:.2f} | {one['time']:.2f} |")
    FILE.write_text("\n".join(lines) + "\n")


def main(tasks):
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for task in tasks or BARS:
        results[task] = run(task) if task != "lean" else {"networks": lean_figures(),
                                                          "machine": machine()}
        print(task, results[task])
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        write(results)


if __name__ == "__main__":
    main(sys.argv[1:])
