"""The models of a folder: their versions come and go while the server runs."""

import json
import threading
import time
from pathlib import Path

from app.checksums import FILE
from app.errors import UsageError
from app.server.errors import RestError
from app.server.loaded import Loaded
from app.serving import versions

POLL = 1.0  # seconds between two looks at the folder
AGAIN = 60.0  # seconds until a version that failed is tried again though it has not changed
LABELS = "labels.json"  # in a model's folder: {label: version}
START, LOADING, AVAILABLE, UNLOADING, END = "START LOADING AVAILABLE UNLOADING END".split()


class Version:
    """What is known of one version: its state, the reason where it failed, the loaded model."""

    def __init__(self, state=START):
        self.state, self.code, self.reason, self.loaded = state, "OK", "", None
        self.failed_at, self.files = None, None

    def fail(self, reason, code="UNKNOWN"):
        self.state, self.code, self.reason, self.failed_at = END, code, reason, time.monotonic()


class Model:
    """The versions of one model, in its folder: the newest serve, and those that have a label.

    A version that is on the disk and wanted is loaded and called once before it becomes
    available, and only then is an older one let go. One that fails, or takes or returns other
    tensors than the one that serves, is refused, with the reason in its status; it is tried again
    when its files change.
    """

    def __init__(self, folder, latest=1):
        self.folder, self.latest, self.known = folder, latest, {}
        self.labels = {}

    def available(self):
        """{number: Loaded}, in order."""
        return {number: version.loaded for number, version in sorted(self.known.items())
                if version.state == AVAILABLE}

    def get(self, version=None, label=None):
        """The loaded version that is asked for, or the newest.

        Raises:
            RestError: where it is not there.
        """
        available = self.available()
        if label is not None:
            if self.labels.get(label) not in available:
                raise RestError(f"Unrecognized servable version label: {label}")
            return available[self.labels[label]]
        if version is None:
            if not available:
                raise RestError(f"Servable not found for request: Latest({self.folder.name})",
                                "NOT_FOUND")
            return available[max(available)]
        if version not in available:
            raise RestError(f"Servable not found for request: Specific({self.folder.name}, "
                            f"{version})", "NOT_FOUND")
        return available[version]

    def look(self):
        """Brings what serves to what lies in the folder."""
        here = versions(self.folder) if self.folder.is_dir() else []
        self._read_labels()
        wanted = [number for number in self.labels.values() if number in here]
        good = [number for number in wanted if self._ready(number)]
        for number in reversed(here):
            if len(set(good) - set(wanted)) >= self.latest:
                break
            if number not in good and self._ready(number):
                good.append(number)
        if not good:
            return  # what serves goes on
        for number, version in list(self.known.items()):
            if number not in good and version.state == AVAILABLE:
                version.state = UNLOADING
                version.loaded = None  # requests that have it yet keep it
                version.state = END

    def _ready(self, number):
        """Whether a version serves; if it may and does not, it is loaded."""
        version = self.known.setdefault(number, Version())
        if version.state == AVAILABLE:
            return True
        folder = self.folder / str(number)
        files = _listing(folder)
        changed, version.files = files != version.files, files
        if changed:
            version.failed_at = None
            if not (folder / FILE).exists():
                return False  # perhaps it is being copied: it has no list of its files
        if version.failed_at is not None and time.monotonic() < version.failed_at + AGAIN:
            return False
        version.state = LOADING
        try:
            loaded = Loaded(folder)
            self._check_same(loaded)
        except ValueError as error:
            version.fail(str(error))
            return False
        version.loaded, version.code, version.reason, version.failed_at = loaded, "OK", "", None
        version.state = AVAILABLE
        return True

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

    def _read_labels(self):
        path = self.folder / LABELS
        try:
            labels = json.loads(path.read_text()) if path.exists() else {}
            self.labels = {str(label): int(number) for label, number in labels.items()}
        except Exception:  # half written, or no such thing: those of before stay
            return


class Models:
    """All models below a folder: `saved_models/`, or `saved_models/NAME` alone.

    Raises:
        UsageError: where there is none.
    """

    def __init__(self, folder, latest=1):
        self.folder, self.latest, self.models = Path(folder), latest, {}
        if not self.folder.is_dir():
            raise UsageError(f"There is no folder {folder}. Give one with exports in it, as "
                             "`handgrad export` writes them: saved_models")
        self.alone = bool(versions(self.folder))
        self._ended = threading.Event()
        self._find()
        if not self.models:
            raise UsageError(f"{folder} holds no model: no folder NAME/1 with a SavedModel in it. "
                             "Make one with `handgrad export RUN`.")

    def _find(self):
        """New folders with versions in them."""
        found = [self.folder] if self.alone else sorted(
            path for path in self.folder.iterdir() if path.is_dir() and versions(path))
        for path in found:
            name = path.resolve().name
            if name not in self.models:
                self.models[name] = Model(path.resolve(), self.latest)

    def look(self):
        """Loads and lets go what has come and gone."""
        self._find()
        for model in list(self.models.values()):
            model.look()

    def watch(self):
        """Looks every second, in a thread, until `end`."""
        def go_on():
            while not self._ended.wait(POLL):
                try:
                    self.look()
                except OSError:  # the disk may be back later
                    continue

        threading.Thread(target=go_on, daemon=True).start()

    def end(self):
        self._ended.set()

    def get(self, name, version=None, label=None):
        """The loaded version of a model.

        Raises:
            RestError: where it is not there.
        """
        if name not in self.models:
            asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise RestError(f"Servable not found for request: {asked}", "NOT_FOUND")
        return self.models[name].get(version, label)

    def status(self, name, version=None, label=None):
        """TensorFlow Serving's `model_version_status`."""
        if label is not None:
            version = self.get(name, label=label).version
        known = self.models[name].known if name in self.models else {}
        chosen = {n: v for n, v in known.items() if version in (None, n) and v.state != START}
        if not chosen:
            raise RestError(f"Could not find any versions of model {name}" if version is None else
                            f"Could not find version {version} of model {name}", "NOT_FOUND")
        return [{"version": str(number), "state": v.state,
                 "status": {"error_code": v.code, "error_message": v.reason}}
                for number, v in sorted(chosen.items(), reverse=True)]


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
