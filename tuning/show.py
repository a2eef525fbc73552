"""A search for people: its table and its page, while it runs or when it has ended."""

from pathlib import Path

from rich.table import Table

from app.errors import UsageError, unknown
from app.measures import MEASURES
from app.report import environment, write_page, written
from app.runs import RUNS, read_json
from app.search_report import search_section
from tuning.records import ranked

NAMES = {f"val_{name}": f"validation {measure.title}" for name, measure in MEASURES.items()}


def show(name):
    """(result, table) of the search of a run, given by its name or its folder; writes its page.

    Raises:
        UsageError: where there is no search.
    """
    path = Path(name) if (Path(name) / "search" / "question.json").exists() else RUNS / name
    if not (path / "search" / "question.json").exists():
        known = sorted(p.parent.parent.name for p in RUNS.glob("*/search/question.json"))
        if not known:
            raise UsageError(f"There is no search '{name}': {RUNS}/ holds none. Make one with "
                             "`handgrad tune`.")
        raise unknown("search", name, known)
    return shown(path)


def shown(path):
    """(result, table) of the search in a run's folder; writes its page, search.html."""
    question, found = read_json(path / "search" / "question.json"), path / "search" / "records.json"
    records = list(read_json(found).values()) if found.exists() else []
    table = Table("trial", NAMES[question["objective"]], "epoch", "seconds", "values")
    best_first = ranked(records, question["objective"])
    for record in best_first:
        score = "failed" if record["score"] is None else f"{record['score']:.4f}"
        table.add_row(record["trial"], score, str(record["best_epoch"]),
                      f"{record['seconds']:.1f}", record["reason"] or values(record))
    asked = {key: question[key] for key in ("model", "data", "tuner", "epochs", "seed")}
    page = environment().get_template("search.html").render(
        name=path.resolve().name, question=asked,
        search=search_section(records) if records else None, **written())
    best = best_first[0] if best_first and best_first[0]["score"] is not None else None
    result = {"run": str(path), "best": best, "trials": best_first,
              "page": str(write_page(path / "search.html", page))}
    return result, table


def values(record):
    """A trial's values in a line."""
    return ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
                     for name, value in record["values"].items())
