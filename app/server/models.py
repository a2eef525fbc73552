"""The models of a folder, which is looked at while the server runs."""

import threading
from contextlib import suppress
from pathlib import Path

from app.console import console
from app.errors import UsageError
from app.server.errors import RestError
from app.server.model import Model
from app.serving import versions

POLL = 1.0  # seconds between two looks at the folder
LAST = 10.0  # seconds that a look which runs may take yet when the watching ends


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
        self._troubles = {}  # {path: what was said of it last}
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._go_on, daemon=True)
        self._find()
        if not self.models:
            raise UsageError(f"{folder} holds no model: no folder NAME/1 with a SavedModel in it. "
                             "Make one with `handgrad export RUN`.")

    def _find(self):
        """New folders with versions in them. A link is a model of the link's name."""
        found = [self.folder.resolve()] if self.alone else self.folder.absolute().iterdir()
        new = {path.name: Model(path, self.latest) for path in sorted(found)
               if path.name not in self.models and self._attempt(path, _has_versions, path)}
        self.models = self.models | new

    def look(self):
        """Loads and lets go what has come and gone; a folder in trouble holds up no other."""
        if not self.alone:
            self._attempt(self.folder, self._find)
        for model in self.models.values():
            self._attempt(model.folder, model.look)

    def _attempt(self, path, function, *arguments):
        """What a function gives, or None where it fails; that is said once, not at each look."""
        try:
            result, trouble = function(*arguments), None
        except Exception as error:  # the disk may be back later
            result, trouble = None, f"{path} is left as it is: {error!r}"
        before, self._troubles[path] = self._troubles.get(path), trouble
        if trouble and trouble != before:
            console.note(trouble)
        return result

    def watch(self):
        """Looks every second, in a thread, until `end`."""
        self._watcher.start()

    def _go_on(self):
        while not self._ended.wait(POLL):
            with suppress(OSError):  # of a note, where standard error is closed
                self.look()

    def end(self):
        """Ends the watching: TensorFlow must not be loading while the process ends."""
        self._ended.set()
        if self._watcher.is_alive():
            self._watcher.join(LAST)

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
        chosen = {n: v for n, v in known.items() if version in (None, n)}
        if not chosen:
            raise RestError(f"Could not find any versions of model {name}" if version is None else
                            f"Could not find version {version} of model {name}", "NOT_FOUND")
        return [{"version": str(number), "state": v.state,
                 "status": {"error_code": v.code, "error_message": v.reason}}
                for number, v in sorted(chosen.items(), reverse=True)]


def _has_versions(path):
    return path.is_dir() and bool(versions(path))
