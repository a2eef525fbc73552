"""`make bench`: ours beside stock Keras. `python -m benchmarks --write` keeps the figures."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse  # noqa: E402
import platform  # noqa: E402
from importlib.metadata import version  # noqa: E402
from pathlib import Path  # noqa: E402

from benchmarks import layers, steps  # noqa: E402

RESULTS = Path(__file__).with_name("RESULTS.md")
HEADER = ("what", "size", "mode", "pass", "ours ms", "stock ms", "ours / stock")
SECTIONS = {
    "Training steps (bar: at most 1.00)": steps.rows,
    "Layers (bar: at most 1.05)": layers.rows,
    "Other algorithms (no bar: im2col and toeplitz are for study, winners for memory)":
        lambda: layers.rows(layers.ALGORITHMS),
}


def machine():
    """The processor and the versions that the figures belong to."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            cpu = line.split(":")[1].strip()
    versions = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "keras", "numpy"))
    return f"{cpu}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}"


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
    say("Medians of calls made in turn in one process, milliseconds. Absolute times are the "
        "machine's; ratios are what counts. Made by `make bench`.")
    say()
    say(f"Machine: {machine()}")
    for title, rows in SECTIONS.items():
        say()
        say(f"## {title}")
        say()
        say("| " + " | ".join(HEADER) + " |")
        say("|" + "---|" * len(HEADER))
        for row in rows():
            say("| " + " | ".join(row) + " |")
    if write:
        RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
