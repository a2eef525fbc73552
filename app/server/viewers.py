"""The models of the server as the page sees them."""

from app.page.served_viewer import ServedViewer
from app.server.errors import RestError


class ServedViewers:
    """The newest version of each model that classifies images and says what its classes are."""

    def __init__(self, models):
        self.models = models

    def names(self):
        return list(self.models.models)

    def get(self, name):
        """A viewer, or None where there is none of that name."""
        try:
            loaded = self.models.get(name)
            if loaded.viewer is None:
                loaded.viewer = ServedViewer(loaded.model, loaded.folder)
            return loaded.viewer
        except (RestError, KeyError, TypeError, OSError):  # none that serves, or not of ours
            return None
