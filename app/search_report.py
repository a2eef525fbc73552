"""What a page says of a search: its trials, in figures and in a table."""

from app import search_figures as figures
from app.measures import of_objective


def search_section(trials, evaluation=None):
    """What the template search_section.html shows.

    Args:
        trials: see `app.search_figures`.
        evaluation: on the test part, of the network of the best trial trained again; None before.
    """
    done, names = figures.completed(trials), figures.searched(trials)
    best = figures.best_trial(trials)
    several = names and len(done) > 1
    rounds = all("tuner/round" in trial.get("tuner", {}) for trial in done)
    return {
        "trials": trials,
        "best": best,
        "objective": figures.objective(trials),
        "gap": _gap(best, evaluation) if best and evaluation else None,
        "completed": len(done),
        "names": list(dict.fromkeys(name for trial in trials for name in trial["values"])),
        "scores": figures.search(trials),
        "curves": figures.validation_curves(trials) if any(t["curve"] for t in trials) else None,
        "coordinates": figures.parallel_coordinates(trials) if several else None,
        "importances": figures.importances(trials)
        if names and len(done) >= figures.FEW else None,
        "narrowing": figures.narrowing(trials)
        if several and rounds and figures.numeric(trials) else None,
        "hyper_parameters": {name: figures.hyper_parameter(trials, name) for name in names},
    }


def _gap(best, evaluation):
    """How far the test part is from what the trial was chosen by."""
    measure = of_objective(best.get("objective", "val_accuracy"))
    if measure.name not in evaluation.measures:
        return None
    test = evaluation.measures[measure.name]
    return {"test": test, "size": abs(test - best["score"]),
            "worse": measure.sign * test < measure.sign * best["score"]}
