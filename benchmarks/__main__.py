"""`make bench`: ours beside stock Keras. `python -m benchmarks --write` keeps the figures."""

import argparse
import os
import platform
from importlib.metadata import version
from pathlib import Path

from benchmarks import checkers, layers, steps

RESULTS = Path(__file__).with_name("RESULTS.md")
STEPS = ("network", "size", "mode", "ours ms", "stock ms", "ours / stock")
LAYERS = ("layer", "size", "mode", "forward ours / stock", "forward + backward ours ms",
          "stock ms", "ours / stock", "ours keeps", "stock keeps")
SECTIONS = [
    ("Training steps of `fit` (bar: at most 1.00)", STEPS, steps.rows),
    ("Layers (bar: forward + backward at most 1.00, to the noise of the machine; no more kept)",
     LAYERS, layers.rows),
    ("Layers that Keras lacks, beside its nearest (bar: forward + backward at most 3.00)",
     LAYERS, lambda: layers.rows(layers.WITHOUT_TWIN, modes=("graph",)), layers.REASONS),
    ("Other algorithms (no bar: im2col and toeplitz are for study, fft for large kernels, winners "
     "for memory)",
     LAYERS, lambda: layers.rows(layers.ALGORITHMS)),
    ("Gradient checkers on planted bugs (the others' arithmetic over TensorFlow)",
     checkers.HEADER, checkers.rows),
]


def machine():
    """The processor and the versions that the figures belong to."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            cpu = line.split(":")[1].strip()
    versions = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "keras", "numpy"))
    kernels = os.environ.get("TF_ENABLE_ONEDNN_OPTS")
    return (f"{cpu}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}"
            + (f", TF_ENABLE_ONEDNN_OPTS={kernels}" if kernels else ""))


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {RESULTS.name}")
    write = parser.parse_args().write
    lines = []

    def say(line=""):
        print(line, flush=True)
        lines.append(line)

    say("# Benchmarks")
    say()
    say("Times are medians of calls made in turn in one process; ratios are medians of the ratios "
        "of calls made one after the other, and they are what counts: absolute times are the "
        "machine's. A layer keeps the tensors of its forward pass that its backward pass reads, "
        "weights aside. Made by `make bench`.")
    say()
    say("Lean training has pages of its own: [LEAN.md](LEAN.md), [LEAN_ACCURACY.md]"
        "(LEAN_ACCURACY.md) for int8, [TASKS.md](TASKS.md) for detectors, masks, sentences and "
        "generators. What the recipes reach: "
        "[RECIPES.md](RECIPES.md).")
    say()
    say(f"Machine: {machine()}")
    for title, header, rows, *notes in SECTIONS:
        say()
        say(f"## {title}")
        say()
        say("| " + " | ".join(header) + " |")
        say("|" + "---|" * len(header))
        for row in rows():
            say("| " + " | ".join(row) + " |")
        for note in notes:
            say()
            say(note)
    if write:
        RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
