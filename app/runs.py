"""Runs: one folder a training, `runs/<name>/`, that says how it was made and can go on."""

import csv
import json
import math
import os
import re
import shutil
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from app.errors import HandgradError, UsageError, unknown

RUNS = Path("runs")
ASIDE = ".writing-"


@dataclass(frozen=True)
class Config:
    """How a model is made: everything that its result depends on.

    Attributes:
        task: what the network is to do, a name out of `app.tasks.TASKS`.
        data: the name of a data set, or an absolute path: a run does not depend on where it is
            continued or evaluated from.
        fingerprint: the data's (`app.data.Data.fingerprint`), so that nothing is continued with
            other data.
        search: sizes, batch size, optimizer, learning rate and weight decay are searched; what
            stands here of them is not used.
        craft: schedule, warm-up, label smoothing, averaged weights and augmentation are searched
            as well.
        batch_size: images a step; 0 is all of them.
        warmup: epochs in which the learning rate rises.
        ema: the factor of the moving average of the weights that is validated and kept.
        balance: the way of `app.balance` in which rare classes count for more in the loss.
        jaccard: the factor of a soft mean IoU beside the cross entropy of masks.
        whiten: "zca" or "pca" in place of the normalisation by mean and deviation.
        start_from: the folder of the run whose weights the network starts from, but for its head.
        freeze: so many of its first layers with weights stay as they are.
        head_learning_rate: that of the head; None: as all others.
        precision: "float32", or what layers compute in, on weights of float32: "mixed_bfloat16",
            "mixed_float16".
        xla: whether steps are compiled by XLA; None: as Keras does, on GPUs.
        image_size: pixels of a side, or [height, width]; None: the data's own.
        lean: how lean training stores what it keeps: "float32", "bfloat16", "int8"; None trains as
            usual.
        on_train_and_validation: the validation part is trained on as well.
    """

    model: str
    data: str
    task: str = "classify"
    epochs: int = 8
    batch_size: int = 32
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    ema: float | None = None
    balance: str | None = None
    jaccard: float = 0.0
    whiten: str | None = None
    augment: str | None = None
    patience: int | None = None
    precision: str = "float32"
    xla: bool | None = None
    lean: str | None = None
    start_from: str | None = None
    freeze: int = 0
    head_learning_rate: float | None = None
    seed: int = 0
    image_size: int | list | None = None
    skip_corrupt: bool = False
    sizes: dict = field(default_factory=dict)
    on_train_and_validation: bool = False
    search: bool = False
    craft: bool = False
    fingerprint: str = ""

    def __post_init__(self):
        for name, least in (("epochs", 1), ("batch_size", 0), ("patience", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"--{name.replace('_', '-')} must be at least {least}. "
                                 f"Received: {value}")
        for name in ("learning_rate", "head_learning_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"--{name.replace('_', '-')} must be above 0. Received: {value}")
        for name in ("weight_decay", "jaccard"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise UsageError(f"--{name.replace('_', '-')} must be at least 0. "
                                 f"Received: {value}")

    @classmethod
    def read(cls, path):
        """The config in a JSON file."""
        known = {f.name for f in fields(cls)}
        return cls(**{name: v for name, v in read_json(path).items() if name in known})

    def data_arguments(self):
        """The arguments of `app.data.load`."""
        return {"source": self.data, "image_size": self.image_size, "seed": self.seed,
                "skip_corrupt": self.skip_corrupt}

    def changes(self, before):
        """What is not as in the config `before`: ["batch_size was 32, is 64", ...].

        More epochs are no change where the step size does not depend on their number.
        """
        now, then = asdict(self), asdict(before)
        if self.schedule == "constant" and not self.search and self.epochs >= before.epochs:
            del now["epochs"]
        return [f"{name} was {then[name]!r}, is {now[name]!r}"
                for name in now if then[name] != now[name]]


class Run:
    """The folder of a run.

    config.json says what was asked for, training.json how the model in it is made: the same,
    but for a search, whose best trial is trained in the end. Beside them lie history.csv,
    best.keras, metrics.json, report.html ...
    """

    def __init__(self, path, config):
        self.path, self.config = Path(path), config

    @property
    def name(self):
        return self.path.name

    @staticmethod
    def check_name(name, *, resume=False, overwrite=False):
        """Raises UsageError where a name is unfit, or taken and not to be used again."""
        path = RUNS / name
        # As for exports, which get the name of their run.
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) or name.isdecimal():
            raise UsageError(
                "--name must be letters, digits, '_', '.' and '-', begin with none of '.' and "
                f"'-', and be no number. Received: '{name}'"
            )
        if resume and overwrite:
            raise UsageError("--resume and --overwrite exclude each other: give one of them.")
        if path.exists() and not (resume or overwrite):
            raise UsageError(
                f"A run '{name}' exists in {path}. Continue it with --resume, replace it with "
                "--overwrite, or choose another --name."
            )
        if path.exists() and not (path / "config.json").exists() and any(path.iterdir()):
            raise UsageError(f"{path} exists and is no run. Choose another --name.")

    @classmethod
    def start(cls, name, config, *, resume=False, overwrite=False):
        """A new run, or with `resume` the run of that name, if it was asked for the same.

        Raises:
            UsageError: where the name is taken or unfit, or `resume` finds another config.
        """
        cls.check_name(name, resume=resume, overwrite=overwrite)
        path = RUNS / name
        if overwrite and path.exists():
            shutil.rmtree(path)
        asked = path / "config.json"
        changes = config.changes(Config.read(asked)) if asked.exists() else []
        if changes:
            raise UsageError(
                f"Run '{name}' was started with other settings ({'; '.join(changes)}). "
                "Give the same to --resume it, or choose another --name."
            )
        path.mkdir(parents=True, exist_ok=True)
        write_json(asked, asdict(config))
        return cls(path, config)

    @classmethod
    def open(cls, name):
        """The run of a name, or in a folder; its config is that of its model, if it has one."""
        path = Path(name) if (Path(name) / "config.json").exists() else RUNS / str(name)
        if not (path / "config.json").exists():
            known = sorted(p.parent.name for p in RUNS.glob("*/config.json"))
            if not known:
                raise UsageError(f"There is no run '{name}': {RUNS}/ holds none. "
                                 "Make one with `handgrad train` or `handgrad run`.")
            raise unknown("run", name, known)
        made = path / "training.json"
        return cls(path.resolve(), Config.read(made if made.exists() else path / "config.json"))

    def check_classifies(self, what):
        """Raises UsageError where `what` is asked of a run of another task."""
        if self.config.task != "classify":
            raise UsageError(f"{what} is for classification. Received: run '{self.name}' of "
                             f"--task {self.config.task}")

    def begin_training(self):
        """Keeps what is left of a training with this config, and removes that of any other."""
        made = self.path / "training.json"
        if made.exists() and self.config.changes(Config.read(made)):
            # The states first: without them, nothing that a kill leaves here is gone on with.
            for pattern in ("state-*", "best.keras", "history.csv", "*.npy", "metrics.json",
                            "report.html"):
                for file in self.path.glob(pattern):
                    file.unlink()
            shutil.rmtree(self.path / "logs", ignore_errors=True)
        for left in self.path.glob(f"{ASIDE}*"):
            left.unlink()
        write_json(made, asdict(self.config))

    def history(self):
        """One dict an epoch: epoch, loss, accuracy, val_loss, val_accuracy ..."""
        path = self.path / "history.csv"
        if not path.exists():
            return []
        with path.open(newline="") as file:
            return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]

    def write_history(self, rows):
        with replacing(self.path / "history.csv") as aside, aside.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def model(self, whole=False):
        """The best model of the run, as it predicts; `whole`: as it was trained."""
        import keras

        from app.tasks import find_task

        task = find_task(self.config.task)  # with it come the layers that the file names

        path = self.path / "best.keras"
        if not path.exists():
            raise HandgradError(
                f"Run '{self.name}' has no trained model yet ({path} is missing). "
                "Continue it with --resume."
            )
        found = keras.models.load_model(path, compile=False)
        return found if whole else task.loaded(found)


class replacing:
    """A context that gives a path aside and, when all went well, moves it over `path`."""

    def __init__(self, path):
        self.path = Path(path)
        self.aside = self.path.with_name(f"{ASIDE}{os.getpid()}-{self.path.name}")

    def __enter__(self):
        return self.aside

    def __exit__(self, kind, error, trace):
        try:
            if kind is None:
                os.replace(self.aside, self.path)
        finally:
            self.aside.unlink(missing_ok=True)


def write_json(path, value):
    """Writes JSON so that a reader finds the old file or the new one, never half of it."""
    with replacing(path) as aside:
        aside.write_text(json.dumps(value, indent=2) + "\n")


def read_json(path):
    try:
        return json.loads(Path(path).read_text())
    except ValueError as error:
        raise HandgradError(f"{path} is not valid JSON ({error}).") from error
