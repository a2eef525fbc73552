"""What `handgrad check` found last: kept in runs/checks.json, and whether it still holds."""

import datetime
import functools
import hashlib
import re
from pathlib import Path

import keras
import tensorflow as tf

import custom_layers
from app.errors import HandgradError
from app.runs import RUNS, read_json, write_json

CHECKS = RUNS / "checks.json"


def keep(name, result, fingerprint):
    """Writes the result of a layer's check (a dict with `ok`, `error` by mode ...) beside others.

    Each layer's as it is finished, so that a check that is interrupted keeps what it found. The
    fingerprint is that of the code that was checked: taken before, for it may change meanwhile.
    """
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    record = {**result, "when": now, "versions": versions(), "fingerprint": fingerprint}
    CHECKS.parent.mkdir(exist_ok=True)
    write_json(CHECKS, {**records(), name: record})


def records():
    """The last result of each layer that was checked, by name."""
    if not CHECKS.exists():
        return {}
    kept = read_json(CHECKS)
    expected = {"ok", "error", "when", "versions", "fingerprint"}
    if not isinstance(kept, dict) or not all(
        isinstance(record, dict) and expected <= set(record) for record in kept.values()
    ):
        raise HandgradError(f"{CHECKS} must hold what `handgrad check` found: for each layer "
                            f"{', '.join(sorted(expected))}. Delete it and check again. "
                            f"Received: {str(kept)[:80]}")
    return kept


def last_check(name, kept):
    """The record of a layer among `records()`, with what `changed` since; None if never checked."""
    if name not in kept:
        return None
    record, now = kept[name], versions()
    changed = [library for library in now if record["versions"].get(library) != now[library]]
    if record["fingerprint"] != fingerprint(name):
        changed.insert(0, "code")
    return {**record, "changed": changed}


def describe(checked):
    """A record in a few words."""
    if checked is None:
        return "-"
    day = checked["when"][:10]
    if checked["changed"]:
        verdict = "ok" if checked["ok"] else "FAILED"
        return f"{' and '.join(checked['changed'])} changed since (was {verdict} on {day})"
    if not checked["ok"]:
        return f"FAILED on {day}"
    return f"ok, largest error {max(checked['error'].values()):.0e}, on {day}"


def versions():
    return {"tensorflow": tf.__version__, "keras": keras.__version__}


def fingerprint(name):
    """Of the source that a layer runs: its module and all of custom_layers that this imports."""
    digest = hashlib.sha256()
    for module in sorted(_reached(getattr(custom_layers, name).__module__)):
        digest.update(module.encode() + _source(module).encode())
    return digest.hexdigest()[:16]


def _reached(module):
    found, left = {module}, [module]
    while left:
        new = set(re.findall(r"^ *(?:from|import) (custom_layers\.\w+)", _source(left.pop()), re.M))
        left += new - found
        found |= new
    return found


@functools.cache
def _source(module):
    return (Path(custom_layers.__file__).parent.parent / Path(*module.split("."))).with_suffix(
        ".py").read_text()
