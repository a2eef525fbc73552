"""How good a generator is: what a classifier trained on the real images sees in the drawn ones."""

import random
from contextlib import contextmanager
from dataclasses import dataclass

import keras
import numpy as np
from rich.table import Table

from app.compiling import compile_model
from app.data import batches, steps
from app.generation.fid import Observer, Quality, noise_like
from app.models import build

SEEN, MOST = 40_000, 12_000  # what the classifier is trained on: images in all, and at most
_CLASSIFIERS = {}


@dataclass(frozen=True, eq=False)
class Generated:
    """What a classifier sees in N drawn images, and beside them in real ones and in noise.

    Attributes:
        class_names: of the classifier.
        images: N.
        qualities: {"drawn", "held out", "noise"}, the `app.generation.fid.Quality` of each.
    """

    class_names: tuple[str, ...]
    images: int
    qualities: dict[str, Quality]

    @property
    def measures(self):
        """What a generator is judged by, the most telling first."""
        drawn = self.qualities["drawn"]
        return {"fid": drawn.fid, "confidence": drawn.confidence,
                "rarest_class": float(drawn.coverage.min())}

    def by_class(self):
        """A dict a class: its share of the drawn, the real, and the images of noise."""
        return [{"name": name, **{what: float(quality.coverage[i])
                                  for what, quality in self.qualities.items()}}
                for i, name in enumerate(self.class_names)]

    def as_dict(self):
        return {"images": self.images, **self.measures,
                "beside": {what: {"fid": quality.fid, "confidence": quality.confidence}
                           for what, quality in self.qualities.items()},
                "classes": self.by_class()}

    def table(self):
        table = Table("", *self.qualities, title=str(self), title_justify="left",
                      title_style="bold")
        table.add_row("FID", *(f"{q.fid:.2f}" for q in self.qualities.values()))
        table.add_row("confidence", *(f"{q.confidence:.4f}" for q in self.qualities.values()))
        for i, name in enumerate(self.class_names):
            table.add_row(name, *(f"{q.coverage[i]:.1%}" for q in self.qualities.values()))
        return table

    def __str__(self):
        drawn = self.qualities["drawn"]
        return (f"FID {drawn.fid:.2f}; of {self.images} images: recognised with confidence "
                f"{drawn.confidence:.4f}, the rarest class {drawn.coverage.min():.1%}")


def classifier(train):
    """A LeNet-5 trained on a part of the data, the same for the same part; once in a process."""
    if id(train) not in _CLASSIFIERS:
        # By chance, for a source may hold its images class by class.
        chosen = np.random.default_rng(0).choice(len(train), min(MOST, len(train)), replace=False)
        part = train.take(np.sort(chosen))
        with _seeded(0):
            epochs = -(-SEEN // len(part))
            mean, std = part.images.mean() / 255, part.images.std() / 255
            model = build("lenet5", part.images.shape[1:], int(train.labels.max()) + 1,
                          statistics=([mean], [std]))
            compile_model(model)
            model.fit(batches(part, 64, epochs=epochs, shuffle_seed=0), epochs=epochs,
                      steps_per_epoch=steps(part, 64), shuffle=False, verbose=0)
        _CLASSIFIERS[id(train)] = train, model  # held, so that no other part gets its id
    return _CLASSIFIERS[id(train)][1]


@contextmanager
def _seeded(seed):
    """First weights that follow from a seed. Those of layers that are made after go on as before.

    Keras draws a layer's seed from Python's own generator, which alone is put back.
    """
    before = random.getstate()
    keras.utils.set_random_seed(seed)
    try:
        yield
    finally:
        random.setstate(before)


def score(drawn, train, held_out, real, class_names):
    """The `Generated` of images (N, H, W, C) in [0, 1].

    Confidence and coverage are those of all that is drawn; distances those of as many images as
    are held out, for they depend on the number.

    Args:
        train: the part that the generator was trained on: so is the classifier.
        held_out: another part, to be compared with as the drawn images are.
        real: the part that both are compared with.
    """
    target, compared = scaled(real.images), scaled(held_out.images[:len(drawn)])
    observer = Observer(classifier(train), target)
    noise = noise_like(target)[:len(compared)]
    return Generated(tuple(class_names), len(drawn), {
        "drawn": observer.quality(drawn, len(compared)), "held out": observer.quality(compared),
        "noise": observer.quality(noise)})


def scaled(images):
    return images.astype(np.float32) / 255
