"""`handgrad baseline`: what learned features buy over those made by hand."""

import numpy as np
from rich.table import Table

from app import data as data_sets
from app.baselines import CLASSIFIERS, FEATURES, REDUCTIONS, baseline
from app.console import console
from app.errors import UsageError, unknown
from app.evaluation import evaluate
from app.runs import Run


def show_baselines(source, features, reductions, classifiers, *, limit, run=None, seed=0):
    """Prints the accuracy of each combination; with a run, of its network's features too."""
    chosen = [_names(names, known, what) for names, known, what in (
        (features, FEATURES, "feature"), (reductions, {"none": None, **REDUCTIONS}, "reduction"),
        (classifiers, CLASSIFIERS, "classifier"))]
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be at least 1. Received: {limit}")
    trained = Run.open(run) if run else None
    data = data_sets.load(**(trained.config.data_arguments() if trained else
                             {"source": source, "seed": seed}))
    makers = {name: FEATURES[name] for name in chosen[0]}
    model = trained.model() if trained else None
    if trained:
        makers[f"learned by {trained.name}"] = learned(model)
    table = Table("features", "reduction", "classifier", "values", "validation accuracy",
                  "test accuracy", "seconds", title=f"{data.name}, {len(data.train)} training "
                  f"images{f', of which {limit} are used' if limit else ''}", title_justify="left")
    found = []
    for name, function in makers.items():
        for reduction in chosen[1]:
            for classifier in chosen[2]:
                score = baseline(data, function, None if reduction == "none" else reduction,
                                 classifier, name=name, limit=limit)
                found.append(score.as_dict())
                console.note(f"{name}, {reduction}, {classifier}: {score.test_accuracy:.4f}")
                table.add_row(name, reduction, classifier, str(score.values),
                              f"{score.validation_accuracy:.4f}", f"{score.test_accuracy:.4f}",
                              f"{score.seconds:.1f}")
    value = {"data": data.name, "baselines": found}
    if trained:
        value["network"] = evaluate(model, data.test, data.class_names).accuracy
        table.add_section()
        table.add_row(f"the network {trained.name}", "", "", "", "", f"{value['network']:.4f}", "")
    console.result(value, table)


def learned(model):
    """The function from images to what the last layer with weights reads in a network."""
    import keras

    last = [layer for layer in model.layers if layer.weights][-1]
    inner = keras.Model(model.inputs[0], last.input)

    def features(images):
        values = [inner(images[i:i + 256].astype("float32") / 255).numpy()
                  for i in range(0, len(images), 256)]
        return np.concatenate(values).reshape(len(images), -1).astype("float32")

    return features


def _names(given, known, what):
    names = [name.strip() for name in given.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise unknown(what, name, list(known))
    return names
