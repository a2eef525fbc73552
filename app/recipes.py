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
        ensemble: whether the trainings are also judged as one, by the mean of their predictions.
        views: over which views of a test image the prediction is averaged; None: the image.
    """

    what: str
    config: Config
    published: float | None
    source: str
    seeds: int = 1
    ensemble: bool = False
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
        Config("lenet5-1998", "mnist", epochs=12, batch_size=64, learning_rate=2e-3,
               schedule="cosine", weight_decay=1e-3, on_train_and_validation=True),
        0.95, LECUN, seeds=5),
    "lenet5-1998-distortions": Recipe(
        "LeNet-5 as published, on MNIST with random distortions.",
        Config("lenet5-1998", "mnist", epochs=25, batch_size=64, learning_rate=2e-3,
               schedule="cosine", augment="shift=0.075,scale,squeeze,shear=0.2",
               on_train_and_validation=True),
        0.80, LECUN, seeds=3),
    "mnist-best": Recipe(
        "A narrow airbench on MNIST with random distortions; five of them as one.",
        Config("airbench", "mnist", epochs=16, batch_size=250, optimizer="nesterov",
               learning_rate=0.25, schedule="cosine", warmup=2, weight_decay=5e-4,
               label_smoothing=0.1, precision="mixed_bfloat16",
               augment="shift=0.07,rotate=8,scale=0.08,squeeze=0.06,shear=0.08,elastic=0.02",
               sizes={"width": 0.5}, on_train_and_validation=True),
        None, "our bar: 0.30 % alone, 0.25 % together", seeds=5, ensemble=True, views="shift"),
    "cifar10-fast": Recipe(
        "Airbench on CIFAR-10.",
        Config("airbench", "cifar10", epochs=16, batch_size=500, optimizer="nesterov",
               learning_rate=0.5, schedule="cosine", warmup=3, weight_decay=1.3e-3,
               label_smoothing=0.2, precision="mixed_bfloat16",
               augment="alternate-flip,shift=0.0625", on_train_and_validation=True),
        6.0, "Jordan, 94 % on CIFAR-10 in 3.29 Seconds on a Single GPU, 2024, on the original "
        "pixels", views="flip,shift"),
    "cifar10-resnet20": Recipe(
        "ResNet-20 on CIFAR-10.",
        Config("resnet20", "cifar10", epochs=60, batch_size=128, optimizer="momentum",
               learning_rate=0.1, schedule="cosine", warmup=1, weight_decay=1e-4,
               augment="flip,crop", precision="mixed_bfloat16", on_train_and_validation=True),
        8.75, "He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, 2016, table 6, "
        "on the original pixels, 182 epochs"),
}
