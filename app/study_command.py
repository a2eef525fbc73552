"""`handgrad study`: an experiment in numbers and pictures."""

import time

from rich.table import Table

from app import data as data_sets
from app.console import console
from app.drawing import save
from app.errors import unknown
from app.studies import STUDIES


def show_study(name, source, folder, seed=0):
    if name is None:
        table = Table("name", "what")
        listing = {name: study.__doc__.splitlines()[0] for name, study in STUDIES.items()}
        for item in listing.items():
            table.add_row(*item)
        console.result({"studies": listing}, table)
        return
    if name not in STUDIES:
        raise unknown("study", name, list(STUDIES))
    data = data_sets.load(source, seed=seed)
    began = time.perf_counter()
    study = STUDIES[name](data)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}{'' if i == 1 else f'-{i}'}.png"
             for i in range(1, len(study.figures) + 1)]
    for figure, path in zip(study.figures, paths):
        save(figure, path)
    table = Table(*study.rows[0], title=STUDIES[name].__doc__.splitlines()[0],
                  title_justify="left")
    for row in study.rows:
        table.add_row(*(value if isinstance(value, str) else f"{value:.3g}"
                        for value in row.values()))
    table.caption = f"{time.perf_counter() - began:.0f} s; " + ", ".join(map(str, paths))
    console.result({"study": name, "data": data.name, "rows": study.rows,
                    "figures": [str(path) for path in paths]}, table)
