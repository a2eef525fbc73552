"""Stock and lean training steps under XLA alone: their time, and the compiled program's memory.

    python -m benchmarks.xla write FOLDER [NETWORK...]   with TensorFlow: the steps as StableHLO
    python -m benchmarks.xla run FOLDER [NETWORK...]     with JAX's runtime, without TensorFlow
    python -m benchmarks.xla page FILE...                what `run --json` has kept, as one page

The second command runs on a machine, with a GPU or without, that has JAX and this folder.
"""

import argparse
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.lean_cases import CASES
from benchmarks.timing import columns, compare

STOCK, LEARNING_RATE = "stock", 0.1
# What `lean` is called with.
VARIANTS = {
    "lean": {}, "lean-bfloat16": {"save": "bfloat16"}, "lean-int8": {"save": "int8"},
    "lean-budget-0.5": {"budget": 0.5},
}
INEXACT = ("lean-bfloat16", "lean-int8")
PRECISIONS = ("float32", "mixed_bfloat16")
# Relative, of loss and norms. Rounding moves the gradients themselves further, by a thousandth of
# their norm where a network is deep and a tenth in bfloat16; those of another step are far away.
TOLERANCES = {("cpu", "float32"): 2e-3}
LOOSE = 5e-2  # bfloat16, and a GPU's products of float32 in TF32
GRADIENTS = 5  # times the tolerance
SIZES = ("argument", "output", "alias", "temp", "generated_code")
TITLE = """\
# Lean training steps compiled by XLA alone

Written by `python -m benchmarks.xla write FOLDER`, run by `python -m benchmarks.xla run FOLDER`
with JAX's runtime. Memory is the compiled program's own account: `temp` what it needs in passing,
`peak` that with arguments and results. A column without a unit is the ratio to the stock step."""
HEADER = ("network", "batch", "variant", "step ms", "stock ms", "time", "temp MB", "stock MB",
          "temp", "peak MB", "stock MB", "peak", "loss", "difference of the gradients")


def file_name(facts, variant=None):
    """The file of a variant's module, or without one of the facts."""
    name = f"{facts['network']}-{facts['precision']}-{facts['batch']}"
    return f"{name}-{variant}.mlir" if variant else f"{name}.step.json"


def filled(argument):
    """The array of an argument, the same on every machine: NumPy's `RandomState` never changes."""
    shape, random = argument["shape"], np.random.RandomState(argument["seed"])
    if "constant" in argument:
        value = np.full(shape, argument["constant"])
    elif "values" in argument:
        value = np.reshape(argument["values"], shape)
    elif "integers" in argument:
        value = random.randint(0, argument["integers"], shape)
    elif "uniform" in argument:
        value = random.uniform(*argument["uniform"], shape)
    else:
        mean, deviation = argument["normal"]
        value = mean + deviation * random.standard_normal(shape)
    return value.astype(argument["dtype"])


def changes(outputs, given, trainable):
    """A step's loss, and how far its weights and its state (batch statistics) went."""
    return {
        "loss": float(outputs[0]),
        "weights": distance(outputs[1:1 + trainable], given[2:2 + trainable]),
        "state": distance(outputs[1 + trainable:], given[2 + trainable:1 + len(outputs)]),
    }


def distance(ours, others):
    """The Euclidean distance of two lists of arrays, those of integers aside."""
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in zip(ours, others, strict=True)]
    return float(np.sqrt(sum(np.sum(np.square(np.subtract(a, b, dtype=np.float64)))
                             for a, b in pairs if a.dtype.kind == "f")))


class Program:
    """A module compiled for the first device, its arguments there."""

    def __init__(self, path, arguments):
        from jax import device_put
        from jax.extend import backend
        from jaxlib import xla_client
        client = backend.get_backend()
        self.device = client.local_devices()[0]
        self.executable = client.compile_and_load(
            path.read_bytes(), xla_client.DeviceList((self.device,)),
            backend.get_compile_options(1, 1))
        self.arguments = [device_put(x, self.device) for x in arguments]
        stats = self.executable.get_compiled_memory_stats()
        self.memory = {name: getattr(stats, f"{name}_size_in_bytes") for name in SIZES}
        # XLA's own figure, `peak_memory_in_bytes`, leaves out the temporary memory on a CPU.
        self.memory["reported_peak"] = stats.peak_memory_in_bytes
        self.memory["peak"] = (self.memory["argument"] + self.memory["output"]
                               + self.memory["temp"] - self.memory["alias"])

    def run(self):
        """The outputs, on the device and ready. No argument is donated."""
        results = self.executable.execute_sharded(self.arguments)
        outputs = [shards[0] for shards in results.disassemble_into_single_device_arrays()]
        for output in outputs:
            output.block_until_ready()
        return outputs


def check(facts, variant, found, difference, tolerance):
    """Raises unless the program ran the step that TensorFlow ran."""
    where = f"{facts['network']} {facts['precision']}, batch {facts['batch']}, {variant}"
    if variant in INEXACT:
        tolerance = max(tolerance, LOOSE)
    for name, expected in facts["expected"].items():
        if not abs(found[name] - expected) <= tolerance * abs(expected):
            raise ValueError(
                f"{where}: the program is not the step that was written: its {name} should be "
                f"TensorFlow's to {tolerance:g} of {expected}. Received: {name}={found[name]}")
    if variant not in INEXACT and not difference <= GRADIENTS * tolerance:
        raise ValueError(
            f"{where}: the gradients should be those of the stock step to "
            f"{GRADIENTS * tolerance:g} of their norm. Received: difference={difference}")


def measure(folder, facts, *, seconds=5.0):
    """Runs stock beside each variant in turn; yields one dict of figures a variant."""
    def made(variant):
        entry = facts["variants"][variant]
        given = [filled(argument) for argument in entry["arguments"]]
        program = Program(folder / entry["module"], given)
        outputs = [np.asarray(x) for x in program.run()]
        return program, outputs, changes(outputs, given, entry["trainable"])

    trainable = facts["variants"][STOCK]["trainable"]
    stock, outputs, found = made(STOCK)
    tolerance = TOLERANCES.get((stock.device.platform, facts["precision"]), LOOSE)
    check(facts, STOCK, found, 0.0, tolerance)
    for variant in facts["variants"]:
        if variant == STOCK:
            continue
        program, others, found = made(variant)
        difference = distance(others[1:1 + trainable], outputs[1:1 + trainable])
        difference /= facts["expected"]["weights"]
        check(facts, variant, found, difference, tolerance)
        times = compare({"ours": program.run, "stock": stock.run}, seconds=seconds)
        ours_ms, stock_ms, ratio = columns(times)
        yield {"network": facts["network"], "precision": facts["precision"],
               "batch": facts["batch"], "variant": variant, "ms": float(ours_ms),
               "stock_ms": float(stock_ms), "time": float(ratio), "memory": program.memory,
               "stock_memory": stock.memory, **found, "difference": difference}


def row(figures):
    """A line of the table."""
    cells = [f"{figures['network']} {figures['precision']}", str(figures["batch"]),
             figures["variant"], f"{figures['ms']:.2f}", f"{figures['stock_ms']:.2f}",
             f"{figures['time']:.2f}"]
    for name in ("temp", "peak"):
        ours, stock = figures["memory"][name], figures["stock_memory"][name]
        cells += [f"{ours / 1e6:.1f}", f"{stock / 1e6:.1f}", f"{ours / stock:.2f}"]
    cells += [f"{figures['loss']:.5f}", f"{figures['difference']:.0e}"]
    return "| " + " | ".join(cells) + " |"


def stored(folder, networks=()):
    """The facts of the steps in a folder: of these networks, without one of all."""
    files = sorted(Path(folder).glob("*.step.json"))
    found = [json.loads(file.read_text()) for file in files]
    found = [facts for facts in found if not networks or facts["network"] in networks]
    if not found:
        raise FileNotFoundError(
            "A folder should hold the steps that `python -m benchmarks.xla write` made. "
            f"Received: folder={str(folder)!r}, networks={list(networks)}")
    return found


def run(folder, networks=(), *, seconds=5.0, json_file=None):
    """Prints the table of the steps in a folder; with `json_file` keeps the figures there.

    Returns the figures and the errors: a network that fails does not stop the others.
    """
    import jax
    jax.config.update("jax_enable_x64", True)  # a seed generator's state has 64 bits
    steps = stored(folder, networks)
    device = jax.local_devices()[0]
    machine = (f"{device.device_kind} ({device.platform}), {os.cpu_count()} cores; "
               f"Python {platform.python_version()}, jax {version('jax')}, "
               f"jaxlib {version('jaxlib')}; XLA_FLAGS={os.environ.get('XLA_FLAGS', '')}")
    print(begin(machine), flush=True)
    found, errors = [], []
    for facts in steps:
        try:
            for figures in measure(Path(folder), facts, seconds=seconds):
                print(row(figures), flush=True)
                found.append(figures)
        except (ValueError, RuntimeError) as error:  # another step, or no memory left for it
            print(f"{file_name(facts)}: {error}", file=sys.stderr, flush=True)
            errors.append(error)
        if json_file:
            kept = {"machine": machine, "steps": found, "errors": list(map(str, errors))}
            Path(json_file).write_text(json.dumps(kept, indent=1) + "\n")
    return found, errors


def begin(machine):
    """A page up to its first row."""
    return "\n".join([TITLE, "", f"Machine: {machine}", "", "| " + " | ".join(HEADER) + " |",
                      "|" + "---|" * len(HEADER)])


def page(files):
    """Markdown of what `run` has kept in JSON files, all of one machine."""
    kept = [json.loads(file.read_text()) for file in files]
    machines = {one["machine"] for one in kept}
    if len(machines) > 1:
        raise ValueError(f"A page should be of one machine. Received: {sorted(machines)}")
    return "\n".join([begin(machines.pop()), *(row(step) for one in kept for step in one["steps"]),
                      *(f"\nNot measured: {error}" for one in kept for error in one["errors"])])


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.xla", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    writer = commands.add_parser("write", help="write steps with TensorFlow")
    writer.add_argument("folder", type=Path)
    writer.add_argument("networks", nargs="*", help=f"of {', '.join(CASES)}; without one, all")
    writer.add_argument("--precision", choices=PRECISIONS, nargs="+", default=PRECISIONS[:1])
    writer.add_argument("--variant", choices=VARIANTS, nargs="+", default=["lean"])
    writer.add_argument("--batch", type=int, help="without it, that of benchmarks/lean_cases.py")
    runner = commands.add_parser("run", help="run them with JAX")
    runner.add_argument("folder", type=Path)
    runner.add_argument("networks", nargs="*", help="without one, all that are there")
    runner.add_argument("--seconds", type=float, default=5.0, help="of timing a variant")
    runner.add_argument("--json", type=Path, help="keep the figures in this file")
    pages = commands.add_parser("page", help="show what was kept, as one page")
    pages.add_argument("files", nargs="+", type=Path)
    given = parser.parse_args(arguments)
    if given.command == "page":
        print(page(given.files))
        return
    if given.command == "run":
        _, errors = run(given.folder, given.networks, seconds=given.seconds, json_file=given.json)
        sys.exit(1 if errors else 0)
    unknown = [name for name in given.networks if name not in CASES]
    if unknown:
        parser.error(f"a network should be one of {', '.join(CASES)}. Received: {unknown[0]}")
    from benchmarks.xla_step import write
    for name in given.networks or CASES:
        for precision in given.precision:
            facts = write(given.folder, name, variants=(STOCK, *given.variant),
                          precision=precision, batch=given.batch)
            print(f"{name} {precision}: {facts['expected']}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
