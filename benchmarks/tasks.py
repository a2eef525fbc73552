"""`handgrad run --task` as a newcomer gives it, on digit scenes: time, and how good the model is.

    python -m benchmarks.tasks                 all four, into TASKS.md
    python -m benchmarks.tasks segment         one of them
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.__main__ import machine

FILE = Path(__file__).parent / "TASKS.md"
RESULTS = FILE.with_suffix(".json")
# What is asked of each task: what must be at least so good, in at most so many minutes.
BARS = {"segment": {"test_mean_iou": 0.85}, "detect": {"test_map_50": 0.9},
        "describe": {"test_sentence_accuracy": 0.9},
        "generate": {"test_confidence": 0.9, "test_rarest_class": 0.05}}
MINUTES = 8


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
        measures = ", ".join(f"{name.removeprefix('test_')} {value:.4f}"
                             for name, value in found.items() if name.startswith("test_"))
        chosen = ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
                           for name, value in found["values"].items())
        lines.append(f"- {task}: {measures}; {chosen}. {found['machine']}.")
    FILE.write_text("\n".join(lines) + "\n")


def main(tasks):
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for task in tasks or BARS:
        results[task] = run(task)
        print(task, results[task])
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        write(results)


if __name__ == "__main__":
    main(sys.argv[1:])
