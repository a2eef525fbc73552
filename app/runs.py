"""Runs: one folder a training, `runs/<name>/`, that says how it was made and can go on."""

import csv
import json
import os
import re
import shutil
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from app.errors import HandgradError, UsageError, unknown

RUNS = Path("runs")


@dataclass(frozen=True)
class Config:
    """How a run is made: everything that its result depends on."""

    model: str
    data: str
    epochs: int = 8
    batch_size: int = 32
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    weight_decay: float = 0.0
    augment: str | None = None
    patience: int | None = None
    seed: int = 0
    image_size: int | None = None
    skip_corrupt: bool = False
    sizes: dict = field(default_factory=dict)
    on_train_and_validation: bool = False

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name.replace('_', '-')} must be at least 1. "
                                 f"Received: {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise UsageError(f"--learning-rate must be above 0. Received: {self.learning_rate}")
        if not self.weight_decay >= 0:
            raise UsageError(f"--weight-decay must be at least 0. Received: {self.weight_decay}")


class Run:
    """The folder of a run: config.json, history.csv, best.keras, metrics.json, report.html ..."""

    def __init__(self, path, config):
        self.path, self.config = Path(path), config

    @property
    def name(self):
        return self.path.name

    @classmethod
    def start(cls, name, config, *, resume=False, overwrite=False):
        """A new run, or with `resume` the run of that name with the same config.

        Raises:
            UsageError: where the name is taken or unfit, or `resume` finds another config.
        """
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise UsageError(
                "--name must be letters, digits, '_', '.' and '-', not beginning with '.' or '-'. "
                f"Received: '{name}'"
            )
        path = RUNS / name
        if path.exists() and not (resume or overwrite):
            raise UsageError(
                f"A run '{name}' exists in {path}. Continue it with --resume, replace it with "
                "--overwrite, or choose another --name."
            )
        if overwrite and path.exists():
            shutil.rmtree(path)
        if (path / "config.json").exists():
            run = cls.open(path)
            run._check_same(config)
            return run
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / "config.json", asdict(config))
        return cls(path, config)

    @classmethod
    def open(cls, name):
        """The run of a name, or in a folder."""
        path = Path(name) if (Path(name) / "config.json").exists() else RUNS / str(name)
        if not (path / "config.json").exists():
            known = sorted(p.parent.name for p in RUNS.glob("*/config.json"))
            if not known:
                raise UsageError(f"There is no run '{name}': {RUNS}/ holds none. "
                                 "Make one with `handgrad train` or `handgrad run`.")
            raise unknown("run", name, known)
        known = {f.name for f in fields(Config)}
        values = read_json(path / "config.json")
        return cls(path, Config(**{k: v for k, v in values.items() if k in known}))

    def _check_same(self, config):
        before, now = asdict(self.config), asdict(config)
        different = [
            f"{name} was {before[name]!r}, is {now[name]!r}"
            for name in now if before[name] != now[name] and name != "epochs"
        ]
        if different:
            raise UsageError(
                f"Run '{self.name}' was made with other settings ({'; '.join(different)}). "
                "Give the same to --resume it, or choose another --name."
            )
        self.config = config
        write_json(self.path / "config.json", now)

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

    def model(self):
        """The best model of the run."""
        import keras

        import custom_layers  # noqa: F401  registers the layers that the file names

        path = self.path / "best.keras"
        if not path.exists():
            raise HandgradError(
                f"Run '{self.name}' has no trained model yet ({path} is missing). "
                f"Continue it with --resume --name {self.name}."
            )
        return keras.models.load_model(path)


class replacing:
    """A context that gives a path aside and, when all went well, moves it over `path`."""

    def __init__(self, path):
        self.path = Path(path)
        self.aside = self.path.with_name(f".{os.getpid()}-{self.path.name}")

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
