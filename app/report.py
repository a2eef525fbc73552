"""`report.html`: one page that shows a run, complete in one file."""

import base64
import io
import platform
import shlex
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

import jinja2
import numpy as np
from PIL import Image

from app import figures
from app.measures import ACCURACY
from app.memory_figure import draw_memory
from app.runs import replacing
from app.search_report import search_section

EXAMPLES, MISTAKES, TILE, WIDE = 20, 24, 96, 640  # images, images, pixels, pixels


def write_report(run_dir, *, config, history, evaluation, data, model_summary,
                 initial_filters=None, final_filters=None, trials=None, export=None, memory=None,
                 seconds, measure=ACCURACY, pictures=()):
    """Writes `run_dir/report.html` and returns its path. A part without input is left out.

    Args:
        run_dir: the folder of the run; its name is the run's.
        config: the settings of the run, plain values.
        history: a dict an epoch, see `figures.learning_curves`.
        evaluation: of the task, on `data.test`.
        data: an `app.data.Data`.
        model_summary: (layer, output shape, parameters) in the model's order.
        initial_filters, final_filters: the first kernel (kh, kw, cin, cout) before and after
            training; None for a model without a convolution.
        trials: a dict a trial of the search: trial, status, score, values, best_epoch, epochs,
            seconds, reason, curve.
        export: the folder of the exported version, `saved_models/<name>/<version>`.
        memory: the `MemoryReport` of a lean run.
        seconds: how long each part of the run took, by its name.
        measure: the `app.measures.Measure` of the task.
        pictures: what other tasks than classification show in place of confusion and mistakes:
            [(title, text, [(picture uint8 (H, W, 3), caption)])].
    """
    classified = measure is ACCURACY
    page = environment().get_template("report.html").render(
        name=Path(run_dir).resolve().name,
        config=config,
        evaluation=evaluation,
        measure=measure,
        counted=data.counted,
        data=data.describe(),
        examples=_examples(data) if classified else None,
        pictures=[(title, text, [(_tile(picture, WIDE), caption) for picture, caption in shown])
                  for title, text, shown in pictures],
        curves=[figures.learning_curves(history, [name], measure)
                for name in ("loss", measure.name)
                if {name, f"val_{name}"} & set(history[0])] if history else None,
        search=search_section(trials, evaluation) if trials else None,
        confusion=figures.confusion_matrix(evaluation.confusion, evaluation.class_names)
        if classified else None,
        mistakes=_mistakes(evaluation, data.test) if classified else None,
        memory=draw_memory(memory) if memory else None,
        filters=_filters(initial_filters, final_filters),
        layers=[_layer(*row) for row in model_summary],
        parameters=sum(row[2] for row in model_summary),
        seconds=seconds,
        export=_export(export) if export else None,
        **written(),
    )
    return write_page(Path(run_dir) / "report.html", page)


def written():
    """What the foot of every page says."""
    return {
        "versions": {"Python": platform.python_version()} | {
            name: version(name) for name in ("tensorflow", "keras", "handgrad")},
        "written": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
    }


def write_page(path, page):
    """Writes a page; returns its path."""
    with replacing(path) as aside:
        # File names may hold bytes that are no text.
        aside.write_text(page, encoding="utf-8", errors="replace")
    return path


def environment():
    """What pages are made from: the templates beside this file, and their filters."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"source": figures.as_data_uri, "duration": _duration, "plain": _plain,
                     "shell": shlex.quote, "python": repr}
    return made


def _duration(seconds):
    """
    >>> _duration(4.21), _duration(75), _duration(7260)
    ('4.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _plain(value):
    """A setting or a score for people to read."""
    if value is None or value == {}:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_plain(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    return str(value)


def _tile(image, most=TILE):
    """A uint8 image as the source of an `<img>`, at most so many pixels wide and high."""
    picture = Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image)
    picture.thumbnail((most, most))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _examples(data):
    """One training image of each of the first classes."""
    labels, found = np.unique(data.train.labels, return_index=True)
    return [{"source": _tile(data.train.images[i]), "name": data.class_names[label]}
            for label, i in zip(labels[:EXAMPLES], found)]


def _mistakes(evaluation, split):
    return [
        {
            "source": _tile(split.images[i]),
            "true": evaluation.class_names[evaluation.labels[i]],
            "predicted": evaluation.class_names[evaluation.predicted[i]],
            "confidence": evaluation.confidence[i],
            "file": split.files[i] if split.files else f"test image {i}",
        }
        for i in evaluation.worst_mistakes(MISTAKES)
    ]


def _filters(initial, final):
    if initial is None or final is None:
        return None
    return {"figure": figures.filters(initial, final), "count": final.shape[-1],
            "drawn": min(final.shape[-1], figures.MOST_FILTERS), "size": final.shape[:3]}


def _layer(name, output_shape, parameters):
    if not isinstance(output_shape, str):
        output_shape = " × ".join("?" if n is None else str(n) for n in output_shape[1:])
    return {"name": name, "output": output_shape, "parameters": parameters}


def _export(export):
    """What the commands need to know; folders below the current one as relative paths."""
    export = Path(export).resolve()
    if export.is_relative_to(Path.cwd()):
        export = export.relative_to(Path.cwd())
    name = export.parent.name
    return {"folder": export, "model": export.parent, "name": name,
            "url": f"http://localhost:8501/v1/models/{quote(name)}:predict"}
