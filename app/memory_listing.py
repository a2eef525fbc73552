"""`handgrad models NAME --memory`: what a network keeps for its backward pass, stock and lean."""

from app.console import console
from app.errors import UsageError
from app.models import CATALOGUE_CLASSES, CATALOGUE_INPUT, build
from custom_layers.lean_report import memory_report


def list_memory(name, batch_size, image_size):
    if name is None:
        raise UsageError("--memory needs the name of a network. Expected: handgrad models NAME "
                         "--memory. Received: no NAME")
    for option, value in (("--batch-size", batch_size), ("--image-size", image_size)):
        if value < 1:
            raise UsageError(f"{option} must be at least 1. Received: {value}")
    image_shape = image_size, image_size, CATALOGUE_INPUT[2]
    model = build(name, image_shape, CATALOGUE_CLASSES)
    report = memory_report(model, batch_size=batch_size)
    console.result(report.as_dict(), str(report))
