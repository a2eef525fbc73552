"""The commands that train, evaluate, export, predict and list. Each ends in `console.result`."""

from dataclasses import replace
from pathlib import Path

from PIL import Image
from rich.table import Table

from app import training
from app.console import console
from app.errors import HandgradError, UsageError, unknown
from app.results import card, finish, memory, seconds, trainable_parameters
from app.runs import RUNS, Run, read_json
from app.tasks import find_task
from custom_layers.byte_sizes import shown


def start(config, name, *, resume, overwrite):
    """The run and its data; all that can be wrong is found before anything is written."""
    task = find_task(config.task)
    task.find(config.model)
    Run.check_name(name, resume=resume, overwrite=overwrite)
    data = task.load(**config.data_arguments())
    if config.data not in task.data_sets:
        config = replace(config, data=str(Path(config.data).expanduser().absolute()))
    if data.skipped:
        console.note(f"left out {len(data.skipped)} files that cannot be read: "
                     + ", ".join(data.skipped))
    weights = config.sizes.get("weights")
    if weights and Path(weights).expanduser().is_file():
        sizes = {**config.sizes, "weights": str(Path(weights).expanduser().absolute())}
        config = replace(config, sizes=sizes)
    if config.start_from:
        source = Run.open(config.start_from).path
        if overwrite and source == (RUNS / name).resolve():
            raise UsageError("--from names the run that --overwrite would replace. Choose another "
                             f"--name. Received: {name}")
        config = replace(config, start_from=str(source))
    config = replace(config, fingerprint=data.fingerprint)
    training.check(config, data)
    run = Run.start(name, config, resume=resume, overwrite=overwrite)
    console.resumable = True
    return run, data


def load_data(run):
    """The data of a run, as they were when it was trained."""
    data = find_task(run.config.task).load(**run.config.data_arguments())
    if data.fingerprint != run.config.fingerprint:
        _check_same_classes(run, data)
        console.note(f"{run.config.data} has changed since run '{run.name}' was trained: "
                     "its test part may hold images that the model was trained on.")
    return data


def train(config, name, *, resume, overwrite):
    run, data = start(config, name, resume=resume, overwrite=overwrite)
    model = training.train(run, data, verbose=console.verbose)
    evaluation = find_task(config.task).evaluate(model, data.test, data)
    finish(run, data, model, evaluation)
    epochs = len(run.history())
    best = training.best_epoch(run.history(), find_task(config.task).measure)
    rows, values = {"epochs": f"{epochs}, the best is {best}"}, {}
    kept = memory(run, data, model)
    if kept:
        rows["memory"] = (f"{shown(kept.lean)} kept for the backward pass of a batch, "
                          f"{kept.ratio:.0%} of stock's {shown(kept.stock)}")
        values["memory"] = {"lean": kept.lean, "stock": kept.stock}
    summary(run, model, evaluation, rows, epochs=epochs, best_epoch=best, **values)


def summary(run, model, evaluation, rows, **values):
    """The closing table of train and run, and its last line, the measure on the test part."""
    spent, parameters = seconds(run), trainable_parameters(model)
    files = {"report": str(run.path / "report.html"), "model": str(run.path / "best.keras")}
    value = {"run": str(run.path), **values, "parameters": parameters, "seconds": spent,
             **{f"test_{name}": found for name, found in evaluation.measures.items()}, **files}
    if console.as_json:
        console.result(value)
        return
    times = ", ".join(f"{part} {s:.0f} s" for part, s in spent.items())
    table = Table(title=f"run {run.name}", title_justify="left", show_header=False)
    for row in {**rows, "parameters": f"{parameters:,}", "time": times, **files}.items():
        table.add_row(*row)
    console.result(value, table)
    measure = find_task(run.config.task).measure
    console.result(value, f"test {measure.title}: {evaluation.measures[measure.name]:.4f}")


def evaluate(name, source, views=None):
    from app.averaging import averaged_views

    run = Run.open(name)
    task = find_task(run.config.task)
    if views and not task.averaged:
        raise UsageError("--views is for classification and segmentation. "
                         f"Received: --task {task.name}")
    model = run.model()
    seen = averaged_views(model, views) if views else model
    if source is None:
        data = load_data(run)
        evaluation = task.evaluate(seen, data.test, data)
        if not views:  # the run's own result is of each image as it is
            finish(run, data, model, evaluation)
    else:
        arguments = {**run.config.data_arguments(), "source": source,
                     "image_size": task.image_shape(model)[:2]}
        data = task.load(**arguments)
        _check_same_classes(run, data)
        evaluation = task.evaluate(seen, data.test, data)
    console.result(evaluation.as_dict(), evaluation.table())


def _check_same_classes(run, data):
    metrics = run.path / "metrics.json"
    known = read_json(metrics) if metrics.exists() else {"test": {}}
    expected = known.get("class_names") or [row["name"] for row in known["test"].get("classes", ())]
    if expected and list(data.class_names) != expected:
        what = "has learned the words" if data.counted == "words" else "tells apart the classes"
        raise HandgradError(f"Run '{run.name}' {what} {_first(expected)}. "
                            f"Received: {_first(data.class_names)}, in {data.name}")


def _first(names, most=12):
    """The first names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def export(name, model_name, to, *, format="savedmodel", dtype="float32", with_activations=False):
    from app.formats import accuracy, check_format

    run = Run.open(name)
    task = find_task(run.config.task)
    if format != "savedmodel" or with_activations:
        run.check_classifies("--format onnx, litert or --with-activations")
    check_format(format, dtype)
    model, data = run.model(), load_data(run)
    evaluation = task.evaluate(model, data.test, data)
    path = write_export(run, data, model, evaluation, name=model_name, to=to, format=format,
                        dtype=dtype, with_activations=with_activations)
    value = {"exported": str(path),
             f"test_{task.measure.name}": evaluation.measures[task.measure.name]}
    if format == "savedmodel":
        finish(run, data, model, evaluation, path)
        console.result(value, str(path))
        return
    before, after = evaluation.accuracy, accuracy(path, data.test)
    console.result({**value, "exported_accuracy": after},
                   f"{path}\ntest accuracy: {before:.4f}, of the file: {after:.4f}")


def write_export(run, data, model, evaluation, *, to, name=None, **settings):
    """Exports the model of a run as the next version of `to`/NAME; returns its folder or file."""
    from app.export import export
    from app.task_export import export_task

    task, known = find_task(run.config.task), card(run, data, evaluation, model)
    if task.name != "classify":
        return export_task(task, model, data, name=name or run.name, to=to, card=known)
    return export(model, name=name or run.name, class_names=data.class_names, to=to,
                  card=known,
                  sample_images=data.test.images[:8].astype("float32") / 255,
                  calibration_images=data.train.images[:200].astype("float32") / 255, **settings)


def draw_figures(names, folder):
    from app.figures import GALLERY, save

    for name in names or []:
        if name not in GALLERY:
            raise unknown("figure", name, list(GALLERY))
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png" for name in names or GALLERY]
    for path in paths:
        save(GALLERY[path.stem](), path)
    console.result({"figures": [str(path) for path in paths]}, "\n".join(map(str, paths)))


def describe_data(task, source, samples=None, **settings):
    task = find_task(task)
    if source is None and samples is not None:
        raise UsageError("--samples needs a data set. Expected: handgrad data SOURCE --samples "
                         f"FOLDER. Received: no source, --samples {samples}")
    if source is None:
        table = Table("name", "what")
        listing = {name: entry.description for name, entry in task.data_sets.items()}
        for name, text in listing.items():
            table.add_row(name, text)
        console.result({"data_sets": listing}, table)
        return
    data = task.load(source, **settings)
    description = data.describe()
    if samples is not None:
        write_samples(task.some(data), samples)
    shares = description[f"{data.counted}_per_class"]
    table = Table("", "images", *description["classes"][:12],
                  title=None if data.counted == "images" else f"{data.counted} of each class")
    for part, count in description["counts"].items():
        table.add_row(part, str(count), *map(str, shares[part][:12]))
    console.result(description, table)


def write_samples(images, folder):
    """Writes {name: image} as PNG files, for `handgrad predict`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        pixels = image[..., 0] if image.shape[-1] == 1 else image
        Image.fromarray(pixels).save(folder / f"{name.replace('/', '_')}.png")
