"""One model: its versions come and go while the server runs."""

import json
import time
from dataclasses import dataclass

from app.checksums import FILE
from app.console import console
from app.server.errors import RestError
from app.server.loaded import Loaded
from app.serving import versions

AGAIN = 60.0  # seconds until a version that failed is tried again though it has not changed
LABELS = "labels.json"  # in a model's folder: {label: version}
LOADING, AVAILABLE, UNLOADING, END = "LOADING AVAILABLE UNLOADING END".split()


@dataclass(frozen=True)
class Version:
    """What is told of one version: its state, and the reason where it failed."""

    state: str
    code: str = "OK"
    reason: str = ""


@dataclass(frozen=True)
class Serving:
    """What serves of a model: {number: Loaded}, in order, and {label: number}, all of them there.

    Requests read it while the watcher works. So it is replaced and never changed, as `known` of a
    model and `models` of all are.
    """

    versions: dict
    labels: dict


class Model:
    """The versions of one model, in its folder: the newest serve, and those that have a label.

    A version that is on the disk and wanted is loaded and called before it becomes available, and
    only then is an older one let go. So with a label: it stays where it is until the version that
    it is to name serves. A version that fails, or takes or returns other tensors than the one that
    serves, is refused, with the reason in its status; it is tried again when its files change.

    Attributes:
        serving: what requests are answered from.
        known: {number: Version}, of all that were ever loaded, or tried.
    """

    def __init__(self, folder, latest=1):
        self.folder, self.latest = folder, latest
        self.serving, self.known = Serving({}, {}), {}
        self._files, self._failed_at = {}, {}  # of each version: those seen last; when it failed

    def available(self):
        """{number: Loaded}, in order."""
        return self.serving.versions

    def get(self, version=None, label=None):
        """The loaded version that is asked for, or the newest.

        Raises:
            RestError: where it is not there.
        """
        serving = self.serving
        if label is not None:
            if label not in serving.labels:
                raise RestError(f"Unrecognized servable version label: {label}")
            return serving.versions[serving.labels[label]]
        if version is None:
            if not serving.versions:
                raise RestError(f"Servable not found for request: Latest({self.folder.name})",
                                "NOT_FOUND")
            return serving.versions[max(serving.versions)]
        if version not in serving.versions:
            raise RestError(f"Servable not found for request: Specific({self.folder.name}, "
                            f"{version})", "NOT_FOUND")
        return serving.versions[version]

    def look(self):
        """Brings what serves to what lies in the folder."""
        here = versions(self.folder) if self.folder.is_dir() else []
        asked, good = self._asked_labels(), []
        for number in reversed(here):
            wanted = len(good) < self.latest or number in asked.values()
            if wanted and self._ready(number):
                good.append(number)
        if good:  # else what serves goes on
            self._keep(good, asked)

    def _asked_labels(self):
        """{label: number} of the file; the labels that serve where it cannot be read."""
        path = self.folder / LABELS
        try:
            labels = json.loads(path.read_text()) if path.exists() else {}
            return {str(label): int(number) for label, number in labels.items()}
        except Exception:  # half written, or no such thing
            return self.serving.labels

    def _ready(self, number):
        """Whether a version serves; if it may and does not, it is loaded."""
        if number in self.serving.versions:
            return True
        before = self.known.get(number)
        try:
            if not self._may_load(number):
                return False
            self._tell(number, LOADING)
            loaded = Loaded(self.folder / str(number))
            self._check_same(loaded)
        except Exception as error:  # whatever files and disks do: other versions go on
            reason = str(error) or repr(error)
            self._failed_at[number] = time.monotonic()
            self._tell(number, END, "UNKNOWN", reason)
            if before is None or before.reason != reason:
                console.note(f"not served: {self.folder.name} version {number}: {reason}")
            return False
        serving = self.serving
        self.serving = Serving(dict(sorted({**serving.versions, number: loaded}.items())),
                               serving.labels)
        self._tell(number, AVAILABLE)
        return True

    def _may_load(self, number):
        """Whether its files lie still or have a list, and it did not fail just now with them."""
        folder = self.folder / str(number)
        files = _listing(folder)
        if files != self._files.get(number):
            self._files[number] = files
            self._failed_at.pop(number, None)
            return (folder / FILE).exists()  # without that list it is perhaps being copied
        return time.monotonic() >= self._failed_at.get(number, -AGAIN) + AGAIN

    def _check_same(self, loaded):
        """A version answers the requests that the one before it answers."""
        serving = self.available()
        if not serving:
            return
        before = serving[max(serving)]
        for name, signature in before.signatures.items():
            if loaded.signatures.get(name) != signature:
                raise ValueError(
                    f"its signature `{name}` is another than that of version {before.version}, "
                    "which serves. Give it a name of its own, or start the server anew")

    def _keep(self, good, asked):
        """Moves the labels that can be, and lets go the versions that nobody wants any more."""
        now = self.serving
        stay = {label: number for label, number in now.labels.items() if label in asked}
        labels = stay | {label: number for label, number in asked.items() if number in good}
        kept = {number: loaded for number, loaded in now.versions.items()
                if number in good or number in labels.values()}
        gone = now.versions.keys() - kept.keys()
        for number in gone:
            self._tell(number, UNLOADING)
        self.serving = Serving(kept, labels)  # requests that have a version yet keep it
        for number in gone:
            self._tell(number, END)

    def _tell(self, number, *version):
        self.known = {**self.known, number: Version(*version)}


def _listing(folder):
    """The names, sizes and times of a version's files."""
    found = []
    for path in sorted(folder.rglob("*")):
        try:
            about = path.stat()
        except OSError:  # gone meanwhile
            continue
        found.append((str(path), about.st_size, about.st_mtime_ns))
    return found
