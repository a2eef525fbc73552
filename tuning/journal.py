"""The journal of a search: a line an event, on the disk before anything else happens."""

import fcntl
import json
import os
from contextlib import contextmanager, suppress

from app.errors import HandgradError, UsageError


class Journal:
    """Events, in the order in which they happened; a dict each, added one by one.

    What a kill, a full disk or a faulty one leaves of a line counts for nothing, nor does all
    behind it: `damaged` says how many lines that are, `repair` sets them aside.
    """

    def __init__(self, path):
        self.path, self.damaged = path, 0
        self.events = self._read()

    def _read(self):
        if not self.path.exists():
            return []
        lines, events, good = self.path.read_bytes().splitlines(keepends=True), [], 0
        for line in lines:
            event = _event(line)
            if event is None:
                break
            events.append(event)
            good += len(line)
        self.damaged, self._good = len(lines) - len(events), good
        return events

    def repair(self):
        """Sets aside what cannot be read; only by who is alone with the journal."""
        if self.damaged:
            content = self.path.read_bytes()
            self.path.with_suffix(".damaged").write_bytes(content[self._good:])
            os.truncate(self.path, self._good)

    def add(self, event):
        """Writes an event to the disk.

        Raises:
            HandgradError: where the disk is full, or cannot be written to for another reason.
        """
        line = json.dumps(event).encode() + b"\n"
        size = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            with suppress(OSError):
                os.truncate(self.path, size)
            raise HandgradError(
                f"{self.path} cannot be written: {error.strerror}. What was finished before is "
                "kept: make room and continue with --resume.") from error
        self.events.append(event)


def _event(line):
    """The event of a whole line, or None."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(event, dict) and "event" in event and line.endswith(b"\n")
    return event if whole else None


@contextmanager
def alone(folder):
    """Keeps every other process out of a search's folder; the lock ends with the process.

    Raises:
        UsageError: where another process has it, with its id.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UsageError(
                f"Another process runs the search in {folder}. Wait for it, stop it, or choose "
                f"another --name. Received: process {file.read().strip() or 'unknown'}") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
