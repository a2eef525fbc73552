"""The commands that train, evaluate, export, predict and list. Each ends in `console.result`."""

import time

from rich.table import Table

import custom_layers
from app import data as data_sets
from app.console import console
from app.errors import unknown
from app.models import CATALOGUE_CLASSES, CATALOGUE_INPUT, MODELS, find
from app.results import card, finish, report, trainable_parameters, write_metrics
from app.runs import Run, read_json


def load_data(config, source=None):
    return data_sets.load(source or config.data, image_size=config.image_size, seed=config.seed,
                          skip_corrupt=config.skip_corrupt)


def start(config, name, *, resume, overwrite):
    """The run and its data, both checked before any work is done."""
    find(config.model)
    data = load_data(config)
    if data.skipped:
        console.note(f"left out {len(data.skipped)} files that cannot be read: "
                     + ", ".join(data.skipped))
    return Run.start(name, config, resume=resume, overwrite=overwrite), data


def train(config, name, *, resume, overwrite):
    from app.training import train

    run, data = start(config, name, resume=resume, overwrite=overwrite)
    started = time.perf_counter()
    model = train(run, data, verbose=console.verbose)
    seconds = {"training": time.perf_counter() - started}
    evaluation = finish(run, data, model, seconds=seconds)
    rows = {
        "epochs": f"{len(run.history())}", "parameters": f"{trainable_parameters(model):,}",
        "report": run.path / "report.html", "model": run.path / "best.keras",
    }
    summary(run, evaluation, rows)


def summary(run, evaluation, rows, **more):
    """The closing table of train and run, and its last line, the test accuracy."""
    table = Table(title=f"run {run.name}", title_justify="left", show_header=False)
    for name, value in rows.items():
        table.add_row(name, str(value))
    value = {"run": str(run.path), "test_accuracy": evaluation.accuracy,
             "test_loss": evaluation.loss, **{k: str(v) for k, v in rows.items()}, **more}
    if console.as_json:
        console.result(value)
    else:
        console.result(value, table)
        console.result(value, f"test accuracy: {evaluation.accuracy:.4f}")


def evaluate(name, source):
    from app.evaluation import evaluate

    run = Run.open(name)
    data, model = load_data(run.config, source), run.model()
    evaluation = evaluate(model, data.test, data.class_names)
    if source is None:
        metrics = run.path / "metrics.json"
        seconds = read_json(metrics)["seconds"] if metrics.exists() else {}
        write_metrics(run, model, evaluation, seconds)
        trials = run.path / "search" / "records.json"
        report(run, data, model, evaluation, seconds=seconds,
               trials=list(read_json(trials).values()) if trials.exists() else None)
    console.result(evaluation.as_dict(), evaluation.table())


def export(name, model_name, to):
    from app.evaluation import evaluate
    from app.export import export

    run = Run.open(name)
    data, model = load_data(run.config), run.model()
    evaluation = evaluate(model, data.test, data.class_names)
    path = export(model, name=model_name or run.name, class_names=data.class_names, to=to,
                  card=card(run, data, evaluation, model), sample_images=samples(data))
    console.result({"exported": str(path), "test_accuracy": evaluation.accuracy}, str(path))


def samples(data, count=8):
    """Images of the test part, float32 in [0, 1], for the check of an export."""
    return data.test.images[:count].astype("float32") / 255


def predict(model, files):
    from app.serving import load

    served = load(model)
    rows = served.predict_files(files)
    table = Table("file", "label", "score")
    for row in rows:
        label = row["error"] if row.get("error") else row["label"]
        table.add_row(row["file"], label, "" if row.get("error") else f"{row['score']:.4f}")
    console.result({"model": str(model), "predictions": rows}, table)
    return 1 if any(row.get("error") for row in rows) else 0


def check(names):
    from custom_layers.examples import LAYERS, LOSSES, spread
    from custom_layers.gradient_check import check_gradients

    known = sorted({example.name for example in LAYERS + LOSSES})
    for name in names or []:
        if name not in known:
            raise unknown("layer", name, known)
    table = Table("layer", "tensors", "eager", "graph", "xla", "kinks", "seconds", "")
    rows, failures = [], []
    for name in names or known:
        row = {"layer": name, "ok": True, "tensors": 0, "error": {}, "kinks": 0, "seconds": 0.0}
        for example in LAYERS + LOSSES:
            if example.name != name:
                continue
            inputs = spread(example.shape)
            if example in LOSSES:
                inputs = [abs(spread(example.shape, 1)) / 2, inputs]
            result = check_gradients(example.layer(), inputs)
            row["ok"] &= result.ok
            row["tensors"] += len(result.tensors)
            row["kinks"] += result.kinks
            row["seconds"] += result.seconds
            for mode, error in result.errors.items():
                row["error"][mode] = max(error, row["error"].get(mode, 0.0))
            if not result.ok:
                failures.append(f"{example}\n{result}")
        rows.append(row)
        table.add_row(name, str(row["tensors"]), *(f"{e:.1e}" for e in row["error"].values()),
                      str(row["kinks"]), f"{row['seconds']:.1f}", "ok" if row["ok"] else "FAILED")
        console.note(f"{name}: {'ok' if row['ok'] else 'FAILED'}")
    for failure in failures:
        console.note(failure)
    console.result({"ok": not failures, "layers": rows}, table)
    return 1 if failures else 0


def describe_data(source, **settings):
    if source is None:
        table = Table("name", "what")
        listing = {name: entry.description for name, entry in data_sets.DATA_SETS.items()}
        for name, text in listing.items():
            table.add_row(name, text)
        console.result({"data_sets": listing}, table)
        return
    description = data_sets.load(source, **settings).describe()
    table = Table("", "images", *description["classes"][:12])
    for part, count in description["counts"].items():
        table.add_row(part, str(count), *map(str, description["images_per_class"][part][:12]))
    console.result(description, table)


def list_models():
    rows = []
    for name, function in MODELS.items():
        model = function(CATALOGUE_INPUT, CATALOGUE_CLASSES)
        rows.append({"name": name, "parameters": trainable_parameters(model),
                     "input": list(CATALOGUE_INPUT), "classes": CATALOGUE_CLASSES,
                     "what": function.__doc__.splitlines()[0]})
    table = Table("name", "parameters", "what", title="on 28x28x1 images of 10 classes",
                  title_justify="left")
    for row in rows:
        table.add_row(row["name"], f"{row['parameters']:,}", row["what"])
    console.result({"models": rows}, table)


def list_layers():
    import keras

    rows = []
    for name in custom_layers.__all__:
        value = getattr(custom_layers, name)
        if isinstance(value, type):
            stock = hasattr(keras.layers, name)
            kind = "loss" if issubclass(value, keras.losses.Loss) else "layer"
            rows.append({"name": name, "kind": kind, "replaces": f"keras.layers.{name}"
                         if stock else None, "what": value.__doc__.splitlines()[0]})
    table = Table("name", "kind", "what")
    for row in rows:
        table.add_row(row["name"], row["kind"], row["what"])
    console.result({"layers": rows}, table)
