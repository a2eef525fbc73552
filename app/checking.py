"""`handgrad check`: the gradient checks of the layers, whose results `handgrad layers` shows."""

import math

from rich.table import Table

from app.check_records import fingerprint, keep, records
from app.console import console
from app.layer_docs import find


def check(names):
    names = find(names)
    fingerprints = {name: fingerprint(name) for name in names}
    records()  # what cannot be added to is an error before the work, not after it
    table = Table("layer", "tensors", "eager", "graph", "xla", "kinks", "seconds", "")
    rows, failures = [], []
    for number, name in enumerate(names, 1):
        row, failed = _check(name)
        verdict = "FAILED" if failed else "ok"
        errors = ("-" if row["error"].get(mode) is None else f"{row['error'][mode]:.1e}"
                  for mode in ("eager", "graph", "xla"))
        table.add_row(name, str(row["tensors"]), *errors, str(row["kinks"]),
                      f"{row['seconds']:.1f}", verdict)
        console.note(f"{number}/{len(names)} {name}: {verdict} ({row['seconds']:.1f} s)")
        rows.append({"layer": name, **row})
        failures += failed
        try:
            keep(name, row, fingerprints[name])
        except OSError as error:  # a folder that is not to be written to: the check itself holds
            console.note(f"The result is not kept: {error.strerror}: {error.filename}")
    for failure in failures:
        console.note(failure)
    console.result({"ok": not failures, "layers": rows}, table)
    return 1 if failures else 0


def _check(name):
    """The result of all examples of a layer, and what failed, as text."""
    from custom_layers.examples import LAYERS, LOSSES

    row = {"ok": True, "tensors": 0, "error": {}, "kinks": 0, "seconds": 0.0}
    failures = []
    for example in LAYERS + LOSSES:
        if example.name != name:
            continue
        report = example.check()
        row["ok"] &= report.ok
        row["tensors"] += len(report.tensors)
        row["kinks"] += report.kinks
        row["seconds"] += report.seconds
        for mode, error in report.errors.items():
            before = row["error"].get(mode, 0.0)
            # JSON knows neither NaN nor infinity.
            known = before is not None and math.isfinite(error)
            row["error"][mode] = max(float(error), before) if known else None
        if not report.ok:
            failures.append(f"{example}\n{report}")
    return row, failures
