"""What a trained run shows: figures on the test part, and everything on one page."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from app.models.arithmetic import first_output
from app.report import write_report
from app.runs import read_json, write_json
from app.tasks import find_task
from app.training import batch_size, first_filters, training_part
from custom_layers.lean import memory_report


def finish(run, data, model, evaluation, exported=None):
    """Writes metrics.json and report.html.

    Args:
        evaluation: the `Evaluation` on the test part.
        exported: the folder of the exported version; by default the one known from before.
    """
    exported, spent, before = exported or exported_before(run), seconds(run), trials(run)
    write_json(run.path / "metrics.json", {
        "test": evaluation.as_dict(),
        "class_names": list(data.class_names),
        "parameters": trainable_parameters(model),
        "seconds": spent,
        "exported": str(exported.resolve()) if exported else None,
    })
    filters = run.path / "initial_filters.npy"
    write_report(
        run.path,
        config=asdict(run.config),
        measure=find_task(run.config.task).measure,
        pictures=find_task(run.config.task).pictures(model, evaluation, data.test, data),
        history=run.history(),
        evaluation=evaluation,
        data=data,
        model_summary=[(layer.name, first_output(layer).shape, trainable_parameters(layer))
                       for layer in model.layers],
        initial_filters=np.load(filters) if filters.exists() else None,
        final_filters=first_filters(model),
        trials=before,
        export=exported,
        memory=memory(run, data, model),
        seconds=spent,
    )


def memory(run, data, model):
    """What a batch of a lean run keeps, as a `MemoryReport`; None of another run.

    None as well where the model is not all that is trained: a generator is half of it.
    """
    config = run.config
    if config.lean and find_task(config.task).trained_whole:
        size = batch_size(config, training_part(config, data))
        return memory_report(model, batch_size=size, save=config.lean)


def exported_before(run):
    """The folder that the run's model was exported to, or None."""
    metrics = run.path / "metrics.json"
    known = read_json(metrics).get("exported") if metrics.exists() else None
    return Path(known) if known and Path(known).is_dir() else None


def trials(run):
    """The records of the search that came before, in their order, or None."""
    records = run.path / "search" / "records.json"
    return list(read_json(records).values()) if records.exists() else None


def seconds(run):
    """How long each part of the run took, whenever it was interrupted."""
    spent = {"search": trials(run) or [], "training": run.history()}
    return {part: round(sum(row["seconds"] for row in rows), 1)
            for part, rows in spent.items() if rows}


def trainable_parameters(model):
    """The number of trainable parameters of a model or a layer."""
    return int(sum(np.prod(weight.shape) for weight in model.trainable_weights))


def card(run, data, evaluation, model):
    """What the model card of an export says of its run."""
    return {
        "run": run.name,
        "task": run.config.task,
        "data": data.describe(),
        "metrics": {f"test_{name}": value for name, value in evaluation.measures.items()},
        "parameters": trainable_parameters(model),
        "settings": asdict(run.config),
    }
