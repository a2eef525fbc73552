"""What a trained run shows: the test part, evaluated once, and everything on one page."""

import numpy as np

from app.evaluation import evaluate
from app.report import write_report
from app.runs import read_json, write_json
from app.training import first_filters


def finish(run, data, model, *, seconds, trials=None, export=None):
    """Evaluates `model` on the test part and writes metrics.json and report.html.

    Args:
        seconds: how long each part of the run took, by its name.
        trials: the records of the search that came before, if any.
        export: the folder of the exported version, if any.
    """
    evaluation = evaluate(model, data.test, data.class_names)
    write_metrics(run, model, evaluation, seconds)
    report(run, data, model, evaluation, seconds=seconds, trials=trials, export=export)
    return evaluation


def write_metrics(run, model, evaluation, seconds):
    write_json(run.path / "metrics.json", {
        "test": evaluation.as_dict(),
        "parameters": trainable_parameters(model),
        "seconds": {part: round(value, 2) for part, value in seconds.items()},
    })


def report(run, data, model, evaluation, *, seconds, trials=None, export=None):
    """Writes report.html; returns its path."""
    before = run.path / "initial_filters.npy"
    return write_report(
        run.path,
        config=read_json(run.path / "config.json"),
        history=run.history(),
        evaluation=evaluation,
        data=data,
        model_summary=[(layer.name, layer.output.shape, trainable_parameters(layer))
                       for layer in model.layers],
        initial_filters=np.load(before) if before.exists() else None,
        final_filters=first_filters(model),
        trials=trials,
        export=export,
        seconds=seconds,
    )


def trainable_parameters(model):
    """The number of trainable parameters of a model or a layer."""
    return int(sum(np.prod(weight.shape) for weight in model.trainable_weights))


def card(run, data, evaluation, model):
    """What the model card of an export says of its run."""
    return {
        "run": run.name,
        "data": data.describe(),
        "metrics": {"test_accuracy": evaluation.accuracy, "test_loss": evaluation.loss},
        "parameters": trainable_parameters(model),
        "settings": read_json(run.path / "config.json"),
    }
