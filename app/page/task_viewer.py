"""`TaskViewer`: an export of another task as the page sees it. Needs nothing that made it."""

from PIL import Image

from app.answers import ANSWERS
from app.pictures.answers import LEAST, draw
from app.pictures.grids import tiled
from app.serving import ServedTask

DRAWN = 36  # images of a generator


class TaskViewer:
    """One version of an export that segments, detects, describes or generates.

    Attributes: those of `ServedViewer`, and
        task: what it does, a name out of `app.tasks.TASKS`.
    """

    has_layers = has_backward = False
    backward = None

    def __init__(self, folder, task, model=None):
        self._served = ServedTask(folder, task, model)
        self.name, self.version, self.task = self._served.name, self._served.version, task
        self.labels, self.image_shape = self._served.class_names, self._served.image_shape

    def layers(self):
        return []

    def answer(self, contents):
        """(a picture, a line) on an image file's contents."""
        row = self._served.answer(contents)
        return draw(self._served, contents, row["answer"]), ANSWERS[self.task].line(row)

    def generate(self, first):
        """A picture of 36 images that are drawn, of the seeds from `first` on."""
        grid = tiled(self._served.draw(range(first, first + DRAWN)))
        picture = Image.fromarray(grid[..., 0] if grid.shape[-1] == 1 else grid)
        factor = -(-LEAST // min(picture.size))
        return picture.resize((factor * picture.width, factor * picture.height),
                              Image.Resampling.NEAREST)
