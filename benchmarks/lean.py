"""`python -m benchmarks.lean`: time and memory of a training step, stock, lean and in PyTorch.

Each mode of each network runs in fresh processes of its own. Its step and the stock step are timed
in turn, so that the noise of the machine hits both.
"""

import argparse
import json
import sys
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from statistics import median, quantiles

from benchmarks.lean_cases import CASES, MODES, OURS, TORCH, stock_of
from benchmarks.lean_page import page, table
from benchmarks.lean_worker import Worker, WorkerError
from benchmarks.timing import compare

PAGE, FIGURES = (Path(__file__).with_name(name) for name in ("LEAN.md", "LEAN.json"))


def measure(network, mode, options, stock=None):
    """The worker of a mode, still alive, and the mode's figures, held against a stock worker."""
    module = "benchmarks.lean_torch" if mode in TORCH else "benchmarks.lean_step"
    python = options.torch_python if mode in TORCH else sys.executable
    shape, batch, classes = CASES[network]
    spec = {"network": network, "shape": shape, "batch": options.batch or batch,
            "classes": classes, "limit": options.limit, **MODES[mode]}
    compiled = spec.get("jit") or spec.get("compiled")
    worker = Worker(python, module, {**spec, "kept": mode in OURS and not compiled})
    facts = [worker.facts]
    try:
        if stock and abs(worker.facts["parameters"] / stock.facts["parameters"] - 1) > 0.005:
            raise WorkerError(f"another network: {worker.facts['parameters']} weights, stock "
                              f"{stock.facts['parameters']}")
        for _ in range(0 if compiled else options.processes - 1):
            with Worker(python, module, {**spec, "kept": False}) as again:
                facts.append(again.facts)
        sides = {"own": worker, **({"stock": stock} if stock else {})}
        times = compare(sides, rounds=99, seconds=options.seconds)
    except BaseException:
        worker.close()
        raise
    own, others = ([t / side.steps for t in times[name]] for name, side in
                   (("own", worker), ("stock" if stock else "own", stock or worker)))
    ratios = [a / b for a, b in zip(own, others)]
    return worker, {
        "ms": 1e3 * median(own),
        "stock_ms": 1e3 * median(others),
        "ratio": median(ratios),
        "ratio_quartiles": quantiles(ratios),
        **{key: [f[key] for f in facts if f.get(key)] for key in ("resident", "allocated")},
        **{key: worker.facts[key] for key in ("kept", "parameters", "machine", "version")
           if key in worker.facts},
    }


def run(network, modes, options):
    """The figures of a network's modes; the stock ones run as long as they are held against."""
    found = {}
    with ExitStack() as stack:
        stocks = {}
        for mode in MODES:
            if mode not in modes and mode not in map(stock_of, modes):
                continue
            print(f"{network} {mode} ...", end=" ", file=sys.stderr, flush=True)
            try:
                worker, found[mode] = measure(network, mode, options, stocks.get(stock_of(mode)))
            except WorkerError as error:
                found[mode] = {"error": str(error)}
                print(f"failed: {error}", file=sys.stderr)
                continue
            print(f"{found[mode]['ms']:.0f} ms", file=sys.stderr)
            if mode.startswith("stock"):
                stocks[mode] = stack.enter_context(worker)
            else:
                worker.close()
    return found


def arguments(argv=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lean", description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(CASES))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), metavar="MODE",
                        help=", ".join(MODES))
    parser.add_argument("--torch-python", help="a Python that has torch and torchvision "
                        "(default: this one, if it has)")
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {FIGURES.name} "
                        f"and make {PAGE.name} of them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures in FILE; those "
                        "of other networks and modes stay there")
    parser.add_argument("--processes", type=int, default=3, help="of each mode, for its "
                        "peak; one where it is compiled")
    parser.add_argument("--seconds", type=float, default=20.0, help="of timing a mode")
    parser.add_argument("--limit", type=int, default=1800, help="of seconds until a step is ready")
    parser.add_argument("--batch", type=int, help="instead of the batches of the table")
    options = parser.parse_args(argv)
    for name in options.networks:
        if name not in CASES:
            parser.error(f"no such network; there are {', '.join(CASES)}. Received: {name}")
    if options.torch_python is None and find_spec("torch") and find_spec("torchvision"):
        options.torch_python = sys.executable
    if options.torch_python is None and set(options.modes) & set(TORCH):
        print("No torch here: name a Python that has it with --torch-python", file=sys.stderr)
        options.modes = [mode for mode in options.modes if mode not in TORCH]
    return options


def merge(file, new):
    """The figures in a file with new ones in their places; written there."""
    figures = json.loads(file.read_text()) if file.exists() else {}
    for network, entry in new.items():
        old = figures.get(network, {})
        same = all(old.get(key) == entry[key] for key in ("shape", "batch", "classes", "machine"))
        modes = {**old["modes"], **entry["modes"]} if same else entry["modes"]
        figures[network] = {**entry, "modes": {m: modes[m] for m in MODES if m in modes}}
    figures = {network: figures[network] for network in CASES if network in figures}
    file.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def main(argv=None):
    options = arguments(argv)
    failed = False
    file = options.json or (FIGURES if options.write else None)
    for network in options.networks or CASES:
        shape, batch, classes = CASES[network]
        modes = run(network, options.modes, options)
        failed |= any("error" in found for found in modes.values())
        entry = {"shape": list(shape), "batch": options.batch or batch, "classes": classes,
                 "machine": next((m["machine"] for m in modes.values() if "machine" in m), ""),
                 "modes": modes}
        print("\n".join(table({network: entry})), flush=True)
        if file:
            figures = merge(file, {network: entry})
            if options.write:
                PAGE.write_text(page(figures))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
