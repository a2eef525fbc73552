"""Recipes: kept configurations that reach, or are held against, a published result."""

from dataclasses import dataclass

from app.runs import Config


@dataclass(frozen=True)
class Recipe:
    """A configuration, how often it is trained, and what was published.

    Attributes:
        what: a line for people.
        config: of each training; its seed is the first of the seeds.
        published: the published test error in percent, or None.
        source: where that stands, or what it is held against.
        seeds: how many trainings.
        views: over which views of a test image the prediction is averaged; None: the image.
    """

    what: str
    config: Config
    published: float | None
    source: str
    seeds: int = 1
    views: str | None = None


LECUN = ("LeCun, Bottou, Bengio, Haffner, Gradient-Based Learning Applied to Document Recognition, "
         "1998, figure 9")

RECIPES = {
    "digits": Recipe(
        "LeNet-5 on scikit-learn's digits: seconds.",
        Config("lenet5", "digits", epochs=30, batch_size=32, learning_rate=2e-3, schedule="cosine",
               augment="shift", on_train_and_validation=True),
        None, "no published figure for this division", seeds=3),
    "lenet5-1998": Recipe(
        "LeNet-5 as published, on MNIST as it is.",
        Config("lenet5-1998", "mnist", epochs=20, batch_size=32, learning_rate=2e-3,
               schedule="cosine", on_train_and_validation=True),
        0.95, LECUN, seeds=5),
    "lenet5-1998-distortions": Recipe(
        "LeNet-5 as published, on MNIST with random distortions.",
        Config("lenet5-1998", "mnist", epochs=40, batch_size=32, learning_rate=2e-3,
               schedule="cosine", augment="shift=0.075,scale,squeeze,shear=0.2",
               on_train_and_validation=True),
        0.80, LECUN, seeds=3),
}
