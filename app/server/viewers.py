"""The models of the server as the page sees them."""

from app.errors import HandgradError
from app.page.served_viewer import ServedViewer
from app.page.task_viewer import TaskViewer
from app.server.errors import RestError
from app.serving import task_of


class ServedViewers:
    """The newest version of each model that is an export of ours, of any task."""

    def __init__(self, models):
        self.models = models

    def names(self):
        return list(self.models.models)

    def get(self, name):
        """A viewer, or None where there is none of that name."""
        try:
            loaded = self.models.get(name)
            if loaded.viewer is None:
                task = task_of(loaded.folder)
                loaded.viewer = (ServedViewer(loaded.model, loaded.folder) if task == "classify"
                                 else TaskViewer(loaded.folder, task, loaded.model))
            return loaded.viewer
        except (RestError, KeyError, TypeError, OSError,
                HandgradError):  # none that serves, or not of ours
            return None
