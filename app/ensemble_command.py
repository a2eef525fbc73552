"""`handgrad ensemble`: several runs as one model, tested once and exported as one SavedModel."""

import numpy as np
from rich.table import Table

from app.averaging import averaged_views, ensemble
from app.commands import load_data
from app.console import console
from app.errors import UsageError
from app.evaluation import evaluate
from app.export import export
from app.results import trainable_parameters
from app.runs import Run


def export_ensemble(names, name, to, views=None):
    if len(names) < 2:
        raise UsageError(f"An ensemble needs at least 2 runs. Received: {len(names)}")
    runs = [Run.open(name) for name in names]
    for run in runs:
        run.check_classifies("An ensemble")
    data = load_data(runs[0])
    for run in runs[1:]:
        other = load_data(run)
        if (other.class_names != data.class_names
                or not np.array_equal(other.test.images, data.test.images)):
            raise UsageError(
                "The runs of an ensemble must have the same test part: else some were trained on "
                f"what all are tested on. '{runs[0].name}' has {runs[0].config.data}, seed "
                f"{runs[0].config.seed}. Received: '{run.name}' with {run.config.data}, seed "
                f"{run.config.seed}")
    models = [run.model() for run in runs]
    together = ensemble(models, name)
    if views:
        together = averaged_views(together, views)
    members = [evaluate(model, data.test, data.class_names).accuracy for model in models]
    evaluation = evaluate(together, data.test, data.class_names)
    path = export(
        together, name=name, class_names=data.class_names, to=to,
        card={"runs": [run.name for run in runs], "views": views, "data": data.describe(),
              "metrics": {"test_accuracy": evaluation.accuracy, "test_loss": evaluation.loss},
              "parameters": trainable_parameters(together)},
        sample_images=data.test.images[:8].astype("float32") / 255)
    table = Table("run", "test accuracy")
    for run, accuracy in zip(runs, members):
        table.add_row(run.name, f"{accuracy:.4f}")
    table.add_section()
    table.add_row("together", f"{evaluation.accuracy:.4f}")
    table.caption = str(path)
    console.result({"exported": str(path), "members": dict(zip(names, members)),
                    "test_accuracy": evaluation.accuracy}, table)
