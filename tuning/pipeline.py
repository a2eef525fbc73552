"""The whole way: a model searched, trained, evaluated, exported."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from app.data import batches
from app.evaluation import Evaluation, evaluate
from app.export import export
from app.results import card, report, write_metrics
from app.runs import Run, write_json
from app.training import train
from tuning.search import Search


@dataclass(frozen=True)
class Outcome:
    """What came out of the whole way."""

    run: Run
    trials: list
    evaluation: Evaluation
    exported: Path
    report: Path
    seconds: dict


def search_train_export(run, data, *, tuner="random", trials=6, to="saved_models", verbose=0,
                        on_epoch=lambda trial, row: None, on_trial=lambda record: None):
    """Searches, trains the best again on training + validation part, tests once, exports.

    The final training lasts as many epochs as the best trial's best validation epoch, and it is
    the first to see the validation part; the test part is used once, for the figure
    reported.
    """
    seconds, started = {}, time.perf_counter()
    records = Search(run, data, tuner=tuner, trials=trials,
                     on_epoch=on_epoch, on_trial=on_trial).search()
    seconds["search"] = time.perf_counter() - started

    started = time.perf_counter()
    final = final_run(run, records[0])
    model = train(final, data, verbose=verbose)
    seconds["training"] = time.perf_counter() - started

    started = time.perf_counter()
    evaluation = evaluate(model, data.test, data.class_names)
    write_metrics(run, model, evaluation, seconds)
    images, _ = next(iter(batches(data.test, 8)))
    exported = export(model, name=run.name, class_names=data.class_names, to=to,
                      card=card(run, data, evaluation, model), sample_images=images.numpy())
    seconds["export"] = time.perf_counter() - started
    ordered = sorted(records, key=lambda record: record["trial"])
    page = report(run, data, model, evaluation, seconds=seconds, trials=ordered, export=exported)
    return Outcome(run, ordered, evaluation, exported, page, seconds)


def final_run(run, best):
    """The run, its config now the best trial's, for training on training + validation part."""
    settings = {**best["settings"], "sizes": _tuples(best["settings"]["sizes"])}
    config = replace(run.config, **{
        **settings, "epochs": best["best_epoch"], "patience": None,
        "on_train_and_validation": True,
    })
    write_json(run.path / "config.json", vars(config))
    return Run(run.path, config)


def _tuples(sizes):
    return {name: tuple(v) if isinstance(v, list) else v for name, v in sizes.items()}
