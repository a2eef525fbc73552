"""`handgrad models`: all networks, the arithmetic of one layer by layer, or the memory it takes."""

import keras
from rich.table import Table

from app.console import console
from app.errors import UsageError
from app.models import build, find
from app.models.arithmetic import rows, shapes_only
from app.results import trainable_parameters
from app.tasks import TASKS, find_task
from custom_layers.byte_sizes import shown
from custom_layers.lean_report import memory_report


def list_models():
    """Every network, with its exact trainable parameters as the catalogue states them."""
    found = [{**_entry(name, _shapes(name)), "task": task}
             for task in TASKS for name in find_task(task).networks]
    table = Table("name", "task", "parameters", "input", "classes", "what")
    for row in found:
        table.add_row(row["name"], row["task"], f"{row['parameters']:,}", _by(row["input"]),
                      str(row["classes"]), row["what"])
    console.result({"models": found}, table)


def show_model(name, image_size=None):
    """What each layer of a network gives, holds, multiplies, sees of the image, and keeps."""
    model = _shapes(name, image_size)
    layers, entry = sum(map(rows, _parts(model)), []), _entry(name, model)
    table = Table("layer", "type", "output", "parameters", "multiply-adds", "sees", "kept, stock",
                  "kept, lean", title=f"{name}: {entry['what']}", title_justify="left")
    for row in layers:
        sees = "all" if row.receptive_field is None else f"{row.receptive_field}"
        kept = ["as stock" if size is None else shown(size) if size else ""
                for size in (row.stock_bytes, row.lean_bytes)]
        table.add_row(row.layer, row.type, _by(row.output), _count(row.parameters),
                      _count(row.multiply_adds), sees, *kept)
    table.add_section()
    sums = [sum(getattr(row, what) or 0 for row in layers)
            for what in ("parameters", "multiply_adds", "stock_bytes", "lean_bytes")]
    table.add_row("all", "", "", _count(sums[0]), _count(sums[1]), "", *map(shown, sums[2:]))
    table.caption = (f"for one image of {_by(entry['input'])}, {entry['classes']} classes; sees: "
                     "the side in pixels of what one output depends on")
    console.result({"models": [{**entry, "multiply_adds": sums[1],
                                "layers": [row.as_dict() for row in layers]}]}, table)


def show_memory(name, batch_size, image_size=None):
    """What a network keeps for the backward pass of a batch, stock and lean."""
    if name is None:
        raise UsageError("--memory needs the name of a network. Expected: handgrad models NAME "
                         "--memory. Received: no NAME")
    if batch_size < 1:
        raise UsageError(f"--batch-size must be at least 1. Received: {batch_size}")
    reports = [memory_report(part, batch_size=batch_size)
               for part in _parts(_built(name, image_size))]
    values = [report.as_dict() for report in reports]
    console.result(values[0] if len(values) == 1 else {"networks": values},
                   "\n\n".join(map(str, reports)))


def _parts(model):
    """The networks that a model is trained as: itself, or a generator and a discriminator."""
    return [model] if getattr(model, "outputs", None) else [
        part for part in model.layers if isinstance(part, keras.Model)]


def _networks():
    """{name: `app.models.Network`} of all tasks."""
    return {name: network for task in TASKS
            for name, network in find_task(task).networks.items()}


def _built(name, image_size=None):
    network = find(name, _networks())
    shape = network.image_shape
    if image_size is not None:
        if image_size < 1:
            raise UsageError(f"--image-size must be at least 1. Received: {image_size}")
        shape = image_size, image_size, shape[2]
    return build(name, shape, network.classes, _networks())


def _shapes(name, image_size=None):
    with shapes_only():
        return _built(name, image_size)


def _entry(name, model):
    network = find(name, _networks())
    inputs = getattr(model, "inputs", None)  # a pair of networks has none
    shape = inputs[0].shape[1:] if inputs else network.image_shape
    return {"name": name, "parameters": trainable_parameters(model), "input": list(shape),
            "classes": network.classes, "what": network.what}


def _by(shape):
    return "x".join(map(str, shape))


def _count(number):
    return f"{number:,}" if number else ""
