"""Search strategies at equal training epochs, and Optuna's beside them: how soon, how good.

    python -m benchmarks.search run CASE --seeds 0 1 2 --json FILE    adds what FILE lacks
    python -m benchmarks.search page FILE...     SEARCH.md, SEARCH.json and SEARCH.png
    python -m benchmarks.search overhead         of a search of 20 trials of 10 seconds

Each strategy may train so many epochs in all; random search twice as many as well. The trials are
those of `handgrad tune`, run in this process.
"""

import argparse
import contextlib
import json
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure
from sklearn.model_selection import train_test_split

from app import data as data_sets
from app.drawing import save, styled
from app.evaluation import evaluate
from app.runs import Config, Run, read_json
from app.split import join
from app.training import fit, new_model
from benchmarks.__main__ import machine
from benchmarks.lean_page import lines
from tuning.pipeline import final_config
from tuning.plan import Plan
from tuning.records import ranked
from tuning.scoring import run_trial
from tuning.search import Search
from tuning.spaces import choose

EPOCHS, BUDGET = 9, 90  # of the longest trial, of a search
CASES = {"digits-lenet5": ("lenet5", "digits", None),
         "digits-patternnet": ("patternnet", "digits", None),
         "mnist-6000-lenet5": ("lenet5", "mnist", 6000)}
RANDOM, TWICE, OPTUNA = "random", "random, twice", "Optuna: TPE, median pruning"
STRATEGIES = (RANDOM, TWICE, "bayesian", "hyperband", "coarse-to-fine", "halving", OPTUNA)
PAGE, FIGURES, PICTURE = (Path(__file__).with_name(f"SEARCH.{suffix}")
                          for suffix in ("md", "json", "png"))
INTRODUCTION = f"""\
# Search strategies at equal training epochs

Made by `python -m benchmarks.search run CASE --seeds ... --json FILE` with `HANDGRAD_DATA` set, and
`python -m benchmarks.search page FILE...`. Each search may train {BUDGET} epochs in all, at most
{EPOCHS} a trial: {BUDGET // EPOCHS} whole trials. The spaces are those of `handgrad tune`, without
augmentation; a seed decides the split, the first weights, the order of images and the
strategy's own draws. `bayesian` and `hyperband` are Keras Tuner's.

- **epochs to random's median**: how many epochs were trained until the median over the seeds of the
  best validation accuracy so far was that of random search in its end, as a part of {BUDGET}.
  In brackets the same for 9 of 10 resamplings of the seeds (5 % to 95 %; "-" is never): a
  validation image is 0.37 % on digits, so that the medians are a few steps apart, and one seed
  more or less can move when they are reached by as much as that.
- **validation, test**: medians (and quartiles) of the best validation accuracy, and of the test
  accuracy of the best trial's settings, trained again on training and validation part."""
AIMS = """\
## What was aimed at

Coarse-to-fine was to reach random's last median in 0.50 of the epochs, halving in 0.33, neither
with a lower test accuracy.

- **MNIST**: both do, 0.48 and 0.31, their test medians at and above random's. It says little of
  them: the plain network, with which every search begins, is so good that random search too has
  its last median at 0.17. What halving and Optuna gain shows in validation, above all others.
- **PatternNet**: missed, 0.68 and 0.51; random needs 0.87. Both end above it in validation and
  test, halving by a point in the test. The first two thirds of a coarse-to-fine search go into
  short trainings, which rank networks with dropout and averaged statistics badly.
- **LeNet-5**: missed, 0.56 and 1.04, and coarse-to-fine's test median is half an image of 270
  below random's. The plain network has 97.8 % after ten epochs, the best search 99.3 %: four of
  270 validation images, and what random search ends with lies one image below. The brackets of
  all strategies overlap, and their test medians differ by less than their quartiles."""


class Here:
    """A crew of one worker: this process."""

    outlives, name, ended = False, "0", False

    def __init__(self, data):
        self.loaded = {data.fingerprint: data}

    def run(self, work, over=False):
        if not over:
            work(_Worker(self.loaded))


class _Worker:
    name, ended = "0", False

    def __init__(self, loaded):
        self.loaded = loaded

    def run(self, job, on_epoch):
        return run_trial(job, self.loaded, on_epoch)


class Curve:
    """The best score so far after each epoch of a search."""

    def __init__(self):
        self.best = []

    def add(self, scores):
        self.best.append(max([*self.best[-1:], *scores]))


class Suggestions:
    """Optuna's trial as Keras Tuner's hyper-parameters: what the search spaces call."""

    def __init__(self, trial):
        self.trial = trial

    def Int(self, name, low, high, sampling=None, default=None):
        return self.trial.suggest_int(name, low, high, log=sampling == "log")

    def Float(self, name, low, high, sampling=None, default=None):
        return self.trial.suggest_float(name, low, high, log=sampling == "log")

    def Choice(self, name, values, default=None):
        return self.trial.suggest_categorical(name, values)

    def Boolean(self, name, default=None):
        return self.trial.suggest_categorical(name, [False, True])

    def conditional_scope(self, name, values):
        """Without effect: the spaces ask for what is conditional only where it is used."""
        return contextlib.nullcontext()


def loaded(case, seed):
    """The data of a case; its training images may be fewer than there are."""
    _, source, most = CASES[case]
    data = data_sets.load(source, seed=seed)
    if most is None:
        return data
    both = join(data.train, data.validation)
    chosen, _ = train_test_split(np.arange(len(both)), train_size=most, stratify=both.labels,
                                 random_state=seed)
    train, validation = train_test_split(chosen, test_size=0.15, stratify=both.labels[chosen],
                                         random_state=seed)
    return replace(data, train=both.take(train), validation=both.take(validation))


def searched(config, data, strategy, folder):
    """(curve, records) of a search by one of our strategies."""
    curve = Curve()
    budget = 2 * BUDGET if strategy == TWICE else BUDGET
    plan = Plan(RANDOM if strategy == TWICE else strategy, None, keep=0, epoch_budget=budget)
    search = Search(Run(folder, config), data, plan, Here(data))
    search.search(on_epoch=lambda trial, row: curve.add(row["scores"]))
    return curve.best, list(search.records.values())


def optuna_searched(config, data, folder):
    """(curve, records) of Optuna's search of the same space."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    curve, here, records = Curve(), {data.fingerprint: data}, []

    def objective(trial):
        chosen = choose(Suggestions(trial), config.model, len(data.train))
        settings = asdict(replace(config, search=False, **chosen))

        def on_epoch(row):
            curve.add(row["scores"])
            trial.report(row["scores"][-1], row["epoch"])
            return not trial.should_prune()

        result = run_trial({"config": settings, "folder": str(folder / str(trial.number)),
                            "before": None, "until": EPOCHS, "objective": "val_accuracy"},
                           here, on_epoch)
        records.append({**result, "settings": settings})
        if len(curve.best) >= BUDGET:
            trial.study.stop()
        if len(result["curve"]) < EPOCHS:
            raise optuna.TrialPruned
        return result["score"]

    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(),
                                sampler=optuna.samplers.TPESampler(seed=config.seed))
    study.optimize(objective)
    return curve.best, records


def test_accuracy(config, data):
    """Of the settings of a trial, trained again."""
    keras.backend.clear_session()
    model = new_model(config, data)
    fit(model, config, join(data.train, data.validation))
    return float(evaluate(model, data.test, data.class_names).accuracy)


def run(case, seed, strategy):
    """{strategy: what its search came to}; of random search both, as one is how the other begins.

    Its curve, and the test accuracy of its best.
    """
    data = loaded(case, seed)
    model, source, _ = CASES[case]
    config = Config(model, source, epochs=EPOCHS, schedule="cosine", seed=seed, search=True,
                    fingerprint=data.fingerprint)
    with tempfile.TemporaryDirectory() as folder:
        if strategy == OPTUNA:
            curve, records = optuna_searched(config, data, Path(folder))
        else:
            curve, records = searched(config, data, strategy, Path(folder))

    def result(curve, records):
        best = ranked(records, "val_accuracy")[0]
        return {"curve": curve, "test": test_accuracy(final_config(best), data)}

    found = {strategy: result(curve, records)}
    if strategy == TWICE:
        found[RANDOM] = result(curve[:BUDGET], records[:BUDGET // EPOCHS])
    return found


def median_curve(results):
    """The median of the best so far after each epoch, over the seeds."""
    longest = max(len(r["curve"]) for r in results)
    return np.median([np.pad(r["curve"], (0, longest - len(r["curve"])), "edge") for r in results],
                     axis=0)


@styled
def draw(figures):
    figure = Figure(figsize=(4.4 * len(figures), 3.6))
    for axes, (case, found) in zip(figure.subplots(1, len(figures), squeeze=False)[0],
                                   figures.items()):
        for strategy, results in found.items():
            curve = median_curve(list(results.values()))
            if strategy == TWICE:
                axes.plot(range(1, len(curve) + 1), curve, color="grey", linestyle=":", zorder=0,
                          label=strategy)
            else:
                axes.plot(range(1, len(curve) + 1), curve, label=strategy,
                          color={RANDOM: "black", OPTUNA: "goldenrod"}.get(strategy))
        lowest = min(median_curve(list(r.values()))[min(9, BUDGET)] for r in found.values())
        axes.set(title=case, xlabel="epochs trained in all", ylim=(lowest, None),
                 ylabel="best validation accuracy so far")
        axes.grid()
    axes.legend(fontsize=8)
    return figure


def page(figures, by):
    parts = [INTRODUCTION, "", f"Machine: {by}", "", f"![Best so far by epochs]({PICTURE.name})"]
    for case, found in figures.items():
        rows, randoms = [], list(found[RANDOM].values())
        for strategy, results in found.items():
            results = list(results.values())
            when = reached(randoms, results)
            between = " to ".join(map(_part, resampled(randoms, results)))
            rows.append((strategy, f"{_part(when)} ({between})",
                         quartiles([r["curve"][-1] for r in results]),
                         quartiles([r["test"] for r in results])))
        parts += ["", f"## {case}, {len(found[RANDOM])} seeds", "",
                  *lines(("strategy", "epochs to random's median", "validation, %", "test, %"),
                         rows)]
    return "\n".join([*parts, "", AIMS]) + "\n"


def reached(randoms, results):
    """The part of the epochs after which the median of results is random's last; inf: never."""
    found = np.flatnonzero(median_curve(results) >= median_curve(randoms)[-1])
    return (found[0] + 1) / BUDGET if len(found) else np.inf


def resampled(randoms, results, times=1000):
    """(5 %, 95 %) of `reached` over seeds that are drawn with replacement, in pairs."""
    rng, many = np.random.default_rng(0), len(randoms)
    parts = [reached([randoms[i] for i in drawn], [results[i] for i in drawn])
             for drawn in rng.integers(many, size=(times, many))]
    return np.quantile(parts, [0.05, 0.95], method="nearest")


def _part(part):
    return f"{part:.2f}" if part < np.inf else "-"


def quartiles(values):
    low, middle, high = 100 * np.percentile(values, (25, 50, 75))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def overhead(trials=20, seconds=10.0):
    """Prints where the time of a search goes that is not spent in epochs.

    An epoch's time has all that it has without a search, its graph's making too.
    """
    data = data_sets.load("digits")
    with tempfile.TemporaryDirectory() as folder:
        config = Config("mlp", "digits", epochs=1, seed=0, search=True,
                        fingerprint=data.fingerprint)
        probe = Search(Run(Path(folder) / "probe", replace(config, epochs=4)), data, Plan(trials=1))
        probe.search()
        rows = Run(probe.folder("0"), config).history()
        epochs = max(2, round((seconds - rows[0]["seconds"]) / rows[-1]["seconds"]))
        run = Run(Path(folder) / "search", replace(config, epochs=epochs))
        search, spent = Search(run, data, Plan(trials=trials, keep=trials)), []
        began = time.monotonic()
        search.search(on_trial=lambda record: spent.append(record["seconds"]))
        whole = time.monotonic() - began
        trained = sum(row["seconds"] for trial in search.records
                      for row in Run(search.folder(trial), config).history())
    print(f"{trials} trials of {epochs} epochs, {trained / trials:.1f} s each: {whole:.0f} s in "
          f"all, {100 * (whole / trained - 1):.1f} % beyond training; of these seconds "
          f"{sum(spent) - trained:.1f} in trials (starting processes, loading, building, keeping "
          f"states) and {whole - sum(spent):.1f} between them")


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run")
    runner.add_argument("case", choices=CASES)
    runner.add_argument("--seeds", type=int, nargs="+", required=True)
    runner.add_argument("--json", type=Path, required=True)
    commands.add_parser("page").add_argument("files", type=Path, nargs="+")
    commands.add_parser("overhead")
    given = parser.parse_args(arguments)
    if given.command == "overhead":
        overhead()
        return
    if given.command == "page":
        figures = {case: {name: found[name] for name in STRATEGIES}
                   for file in given.files for case, found in read_json(file).items()}
        FIGURES.write_text(json.dumps(figures) + "\n")
        save(draw(figures), PICTURE)
        PAGE.write_text(page(figures, machine()))
        print(PAGE.read_text())
        return
    figures = read_json(given.json) if given.json.exists() else {}
    found = figures.setdefault(given.case, {})
    for seed in given.seeds:
        for strategy in STRATEGIES:
            if strategy == RANDOM or str(seed) in found.get(strategy, {}):
                continue
            for name, result in run(given.case, seed, strategy).items():
                found.setdefault(name, {})[str(seed)] = result
                print(given.case, seed, name, result["curve"][-1], result["test"], flush=True)
            given.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
