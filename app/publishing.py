"""How an export comes to be: written aside, checked in a fresh process, then renamed.

A version is written in a hidden folder, which TensorFlow Serving ignores, checked by
`app.verification`, and then renamed: it exists whole or not at all, and is never written over.
"""

import errno
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from app import verification
from app.checksums import write_checksums
from app.errors import HandgradError, UsageError
from app.model_card import write_card

_ASIDE = ".writing-"


def check_name(name):
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) or name.isdecimal():
        raise UsageError(
            "The name of an export must be letters, digits, '.', '_' and '-', and no number "
            f"(numbers are versions). Received: '{name}'"
        )


@contextmanager
def exporting(name, to):
    """The folder of an export `name` below `to`. What goes wrong in here is a line that says so."""
    check_name(name)
    folder = Path(to) / name
    try:
        yield folder
    except HandgradError:
        raise
    except Exception as error:
        raise HandgradError(f"The export '{name}' could not be written to {folder}: "
                            f"{_reason(error)}. Nothing is left of it.") from error


@contextmanager
def writing(folder):
    """A folder inside `folder` to write in, and removed in the end, as is `folder` if empty.

    What killed exports have left is removed as well, where nobody else is writing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        # Not all network file systems can lock a folder: then leftovers stay.
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in folder.glob(_ASIDE + "*"):
                shutil.rmtree(left)
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_SH)
        aside = tempfile.mkdtemp(prefix=_ASIDE, dir=folder)
        try:
            yield Path(aside)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    finally:
        os.close(lock)
        with suppress(OSError):
            folder.rmdir()


def verify(aside, reference):
    """Runs `app.verification` over the SavedModel in `aside`, in a fresh process."""
    file = aside / "reference.npz"
    np.savez(file, **reference)
    command = [sys.executable, "-P", verification.__file__, aside / "model", file]
    # The GPU's memory belongs to this process.
    quiet = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, env=os.environ | quiet, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"ended by {done.returncode}"]
        raise HandgradError(
            "The export failed its check in a process that has TensorFlow only, and nothing is "
            f"left of it: {reason[0]}"
        )


def publish(written, folder, card):
    """Moves `written` to the next version in `folder`, and returns that."""
    while True:
        version = _next(folder)
        write_card({"name": card["name"], "version": version, **card}, written / "assets.extra")
        write_checksums(written)
        _flush(written)
        try:
            os.rename(written, folder / str(version))
        except OSError as error:
            # Another export was faster.
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        else:
            _fsync(folder)
            return folder / str(version)


def publish_file(written, folder, card):
    """Moves a file to `VERSION` with its suffix in `folder`, a card beside; returns that."""
    while True:
        version = _next(folder)
        target = folder / f"{version}{written.suffix}"
        write_card({"name": card["name"], "version": version, **card}, written.parent)
        _flush(written.parent)
        try:
            # Unlike a rename, it fails where the card of another export is.
            os.link(written.parent / "model_card.json", target.with_suffix(target.suffix + ".json"))
        except FileExistsError:
            continue
        os.rename(written, target)
        _fsync(folder)
        return target


def _next(folder):
    """The first number that no version has, a folder or a file as `3.onnx`."""
    numbers = (name.split(".")[0] for name in os.listdir(folder))
    return max((int(n) for n in numbers if n.isascii() and n.isdecimal()), default=0) + 1


def _flush(folder):
    """Brings all below `folder` to the disk, before the rename that makes it count."""
    for where, _, files in os.walk(folder):
        for file in files:
            _fsync(os.path.join(where, file))
        _fsync(where)


def _fsync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error):
    """One line that says what went wrong."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    return text.strip().splitlines()[0].rstrip(".")
