"""`handgrad predict`: what an export answers, in a table and as pictures."""

from pathlib import Path

from rich.table import Table

from app.answers import ANSWERS
from app.commands import write_samples
from app.console import console
from app.errors import UsageError
from app.serving import load

DRAWN = 36  # images of a generator


def predict(model, files, to=None):
    """Answers about image files; 1 where one of them could not be read."""
    served = load(model)
    if served.task == "generate":
        return generate(served, files, to)
    if not files:
        raise UsageError(f"{model} says what image files show. Expected: handgrad predict {model} "
                         "FILE... Received: no file")
    rows = served.predict_files(files)
    if to is not None:
        draw_answers(served, rows, to)
        console.note(f"pictures of the answers: {to}")
    table = Table("file", "label", "score") if served.task == "classify" else Table("file", "what")
    for row in rows:
        row.pop("answer", None)
        if row.get("error"):
            table.add_row(row["file"], row["error"])
        elif served.task == "classify":
            table.add_row(row["file"], row["label"], f"{row['score']:.4f}")
        else:
            table.add_row(row["file"], ANSWERS[served.task].line(row))
    console.result({"model": str(model), "predictions": rows}, table)
    return 1 if any(row.get("error") for row in rows) else 0


def draw_answers(served, rows, folder):
    """Writes the answer about each image as a PNG file, and its path into the row."""
    from app.pictures.answers import ImageError, draw

    folder.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(rows):
        if not row.get("error"):
            path = folder / f"{number:03d}-{Path(row['file']).stem}.png"
            try:
                draw(served, row["file"], row["answer"]).save(path)
            except ImageError as error:
                row["error"] = str(error)
            else:
                row["picture"] = str(path)


def generate(served, files, to):
    """Writes images of a generator, one a seed, and all of them in one picture."""
    from app.pictures.grids import tiled

    if files or to is None:
        raise UsageError("A generator draws images, of no file: give --to FOLDER to write them to. "
                         f"Received: {len(files or [])} files, --to {to}")
    images = served.draw(range(DRAWN))
    named = {f"{seed:03d}": image for seed, image in enumerate(images)} | {"all": tiled(images)}
    write_samples(named, to)
    paths = [str(to / f"{name}.png") for name in named]
    console.result({"model": str(served.folder), "drawn": paths}, paths[-1])
    return 0
