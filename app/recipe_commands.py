"""`handgrad recipe`: runs a kept configuration from several seeds, beside the published result."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.table import Column, Table

from app import training
from app.averaging import averaged_views
from app.commands import start
from app.console import console
from app.errors import HandgradError, UsageError, unknown
from app.evaluation import evaluate
from app.recipes import RECIPES
from app.results import finish, seconds
from app.runs import read_json, write_json
from app.xor import XOR, show_xor

PREDICTIONS = "predictions.npz"


def list_recipes():
    table = Table(Column("name", no_wrap=True), "what", "model", "data", "epochs", "seeds",
                  "published error, %")
    found = [{"name": "xor", "what": XOR}]
    table.add_row("xor", XOR, "", "", "", "", "")
    for name, recipe in RECIPES.items():
        config = recipe.config
        found.append({"name": name, "what": recipe.what, "model": config.model,
                      "data": config.data, "epochs": config.epochs, "seeds": recipe.seeds,
                      "published": recipe.published, "source": recipe.source})
        table.add_row(name, recipe.what, config.model, config.data, str(config.epochs),
                      str(recipe.seeds), _percent(recipe.published))
    console.result({"recipes": found}, table)


def run_recipe(name, seeds=None):
    """Trains a recipe from each of its seeds; what was finished before is not done again."""
    if name == "xor":
        return show_xor()
    if name not in RECIPES:
        raise unknown("recipe", name, ["xor", *RECIPES])
    recipe = RECIPES[name]
    seeds = recipe.seeds if seeds is None else seeds
    if seeds < 1:
        raise UsageError(f"--seeds must be at least 1. Received: {seeds}")
    results = []
    for seed in range(seeds):
        results.append(_train(name, recipe, seed))
        console.note(f"{name}, seed {seed}: {results[-1]['error']:.2f} % test error, "
                     f"{results[-1]['minutes']:.1f} minutes")
    errors = [result["error"] for result in results]
    table = Table("seed", "test error, %", "minutes", title=f"{name}: {recipe.what}",
                  title_justify="left")
    for result in results:
        table.add_row(str(result["seed"]), _percent(result["error"]), f"{result['minutes']:.1f}")
    table.add_section()
    table.add_row("median", _percent(np.median(errors)),
                  f"{sum(result['minutes'] for result in results):.1f} in all")
    joint = together(results) if recipe.ensemble and seeds > 1 else None
    if joint is not None:
        table.add_row(f"all {seeds} together", _percent(joint), "")
    table.add_row("published", _percent(recipe.published), "")
    table.caption = recipe.source
    console.result({"recipe": name, "results": results, "median_error": float(np.median(errors)),
                    "ensemble_error": joint, "published": recipe.published,
                    "source": recipe.source}, table)


def _train(name, recipe, seed):
    run_name = f"recipe-{name}-{seed}"
    run, data = start(replace(recipe.config, seed=seed), run_name, resume=True, overwrite=False)
    console.resumable = False  # the same command goes on
    kept = run.path / "recipe.json"
    if kept.exists() and read_json(kept).get("views") == recipe.views:
        return read_json(kept)
    model = training.train(run, data, verbose=console.verbose)
    evaluation = evaluate(model, data.test, data.class_names)
    finish(run, data, model, evaluation)
    if recipe.views:
        views = averaged_views(model, recipe.views)
        evaluation = evaluate(views, data.test, data.class_names)
    np.savez(run.path / PREDICTIONS, labels=evaluation.labels,
             probabilities=evaluation.probabilities)
    result = {"seed": seed, "error": 100 * (1 - evaluation.accuracy), "views": recipe.views,
              "minutes": seconds(run)["training"] / 60, "run": str(run.path),
              "test": hashlib.sha256(data.test.images.tobytes()).hexdigest()}
    write_json(kept, result)
    return result


def together(results, folders=None):
    """The error in percent of the mean of the trainings' predictions.

    folders: those that the runs lie in now; by default where they were made.
    """
    if len({result["test"] for result in results}) > 1:
        raise HandgradError("The seeds divide these data into different test parts: their "
                            "predictions have no mean.")
    folders = folders or [result["run"] for result in results]
    found = [np.load(Path(folder) / PREDICTIONS) for folder in folders]
    predicted = np.mean([f["probabilities"] for f in found], axis=0).argmax(axis=1)
    return float(100 * np.mean(predicted != found[0]["labels"]))


def _percent(value):
    return "" if value is None else f"{value:.2f}"
