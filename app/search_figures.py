"""Figures of a search: each function returns a matplotlib `Figure`.

Trials are dicts, as `tuning.search.Search` records them: trial, status, score (None where it
failed), values, curve, tuner, and objective: "val_accuracy", the default, "val_loss" ...
"""

import math

import numpy as np
from matplotlib.figure import Figure
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import permutation_importance

from app.drawing import BLUE, ORANGE, RED, finite, lines, plain_numbers, short, styled, thinned
from app.measures import of_objective

FEW = 8  # completed trials: of fewer, no importance can be told


@styled
def search(trials):
    """Score of each trial in its order, the best so far, and the trials that failed."""
    figure = Figure(figsize=(7.5, 2.9))
    axes = figure.subplots()
    done, failed = completed(trials), [i for i, t in enumerate(trials) if not _is_completed(t)]
    numbers = [i for i, t in enumerate(trials) if _is_completed(t)]
    scores = [t["score"] for t in done]
    best = (np.maximum if _sign(trials) > 0 else np.minimum).accumulate(scores) if scores else []
    axes.plot(numbers, best, drawstyle="steps-post", color=ORANGE, label="best so far")
    axes.plot(numbers, scores, "o", color=BLUE, label="score")
    if failed:
        axes.plot(failed, [0.04] * len(failed), "x", color=RED, markersize=8, markeredgewidth=2,
                  label="failed", transform=axes.get_xaxis_transform())
    axes.set_xticks(*thinned(range(len(trials)), [t["trial"] for t in trials]))
    axes.set_xlim(-0.5, len(trials) - 0.5)
    axes.set(xlabel="trial", ylabel=objective(trials))
    axes.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    axes.grid()
    return figure


@styled
def hyper_parameter(trials, name):
    """Score of the completed trials against one of their hyper-parameters.

    Numbers that spread over more than a factor of 20 are drawn on a log scale; a few whole
    numbers, or what is no number, take one place a value.
    """
    figure = Figure(figsize=(3.4, 2.6))
    axes = figure.subplots()
    done = [t for t in completed(trials) if name in t["values"]]
    values, scores = [t["values"][name] for t in done], [t["score"] for t in done]
    kinds = _kinds(values)
    if kinds is None:
        _log_where_wide(axes.xaxis, axes.set_xscale, values)
    else:
        values = [kinds.index(v) for v in values]
        axes.set_xticks(range(len(kinds)), [short(str(kind)) for kind in kinds])
        axes.set_xlim(-0.5, len(kinds) - 0.5)
    axes.plot(values, scores, "o", color=BLUE, alpha=0.8)
    best = int(np.argmax(np.multiply(_sign(trials), scores)))
    axes.plot(values[best], scores[best], "o", color=ORANGE, markersize=9)
    axes.set_title(name)
    axes.set_ylabel(objective(trials))
    axes.grid()
    return figure


@styled
def parallel_coordinates(trials):
    """A line a completed trial through its values, each on a scale of its own, to its score.

    The better, the darker; the best in orange. A line has a gap where a value was not in use.
    """
    done, names = completed(trials), searched(trials)
    done = sorted(done, key=lambda t: _sign(trials) * t["score"])
    columns = [_scaled([t["values"].get(name) for t in done]) for name in names]
    columns.append(_scaled([t["score"] for t in done]))
    figure = Figure(figsize=(max(7.5, 1.15 * len(columns)), 3.6))
    axes = figure.subplots()
    for i in range(len(done)):
        best = i == len(done) - 1
        axes.plot([places[i] for places, _ in columns], color=ORANGE if best else BLUE,
                  alpha=1 if best else 0.1 + 0.6 * i / len(done), linewidth=2.5 if best else 1.2,
                  marker="o", markersize=3)
    for x, (_, ticks) in enumerate(columns):
        axes.axvline(x, color="grey", linewidth=0.6, zorder=0)
        for place, text in ticks:
            axes.annotate(short(text, 12), (x, place), xytext=(4, 0), textcoords="offset points",
                          fontsize=7.5, va="center")
    labels = [*(short(name, 15) for name in names), objective(trials).split(" (")[0]]
    axes.set_xticks(range(len(columns)), labels, rotation=20, ha="right")
    axes.set(yticks=[], xlim=(-0.1, len(columns) - 0.4))
    axes.spines["left"].set_visible(False)
    return figure


@styled
def importances(trials):
    """How much each hyper-parameter told about the score, in these trials.

    A random forest learns the score from the values; a parameter's importance is how much its
    coefficient of determination falls when the parameter's values change places at random (mean
    and deviation of 30 times). With few trials it says little.

    Source: Breiman, Random Forests, 2001, section 10 (permutation importance).
    """
    done, names = completed(trials), searched(trials)
    places = np.array([_scaled([t["values"].get(name) for t in done])[0] for name in names]).T
    places = np.nan_to_num(places, nan=-1.0)  # not in use
    scores = [t["score"] for t in done]
    forest = RandomForestRegressor(200, random_state=0).fit(places, scores)
    found = permutation_importance(forest, places, scores, n_repeats=30, random_state=0)
    order = np.argsort(found.importances_mean)
    figure = Figure(figsize=(7.5, 0.7 + 0.32 * len(names)))
    axes = figure.subplots()
    axes.barh([short(names[i], 24) for i in order], found.importances_mean[order], color=BLUE,
              xerr=found.importances_std[order], ecolor=ORANGE)
    axes.set(xlabel="fall of R² when its values change places", xlim=(0, None))
    axes.grid(axis="x")
    return figure


@styled
def narrowing(trials):
    """The values of each numeric hyper-parameter by trial, round after round of a narrowing search.

    Shaded: from the smallest to the largest value of a round; in orange the best trial.
    """
    done, names = completed(trials), numeric(trials)
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(2.6 * columns + 0.2, 2.1 * rows))
    best, rounds = best_trial(trials), [t["tuner"]["tuner/round"] for t in done]
    for axes, name in zip(figure.subplots(rows, columns, squeeze=False).flat, names):
        of_round = {}
        for x, trial in enumerate(done):
            if name in trial["values"]:
                of_round.setdefault(rounds[x], []).append((x, trial["values"][name]))
                axes.plot(x, trial["values"][name], "o", markersize=8 if trial is best else 4,
                          color=ORANGE if trial is best else BLUE)
        for places in of_round.values():
            (first, _), (last, _) = places[0], places[-1]
            values = [value for _, value in places]
            axes.fill_between([first - 0.4, last + 0.4], min(values), max(values), color=BLUE,
                              alpha=0.12, linewidth=0)
        values = [value for places in of_round.values() for _, value in places]
        _log_where_wide(axes.yaxis, axes.set_yscale, values)
        axes.set_title(name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("completed trial")
    for axes in figure.axes[len(names):]:
        axes.axis("off")
    return figure


@styled
def validation_curves(trials):
    """Score by epoch of every trial that has any, the best trial in colour."""
    figure = Figure(figsize=(7.5, 2.9))
    axes = figure.subplots()
    best = best_trial(trials)
    for trial in trials:
        if trial["curve"] and trial is not best:
            lines(axes, range(1, len(trial["curve"]) + 1), trial["curve"], color=BLUE, alpha=0.35,
                  linewidth=1)
    if best and best["curve"]:
        lines(axes, range(1, len(best["curve"]) + 1), best["curve"], color=ORANGE, linewidth=2.5,
              label=f"best trial: {best['trial']}")
        axes.legend()
    axes.set(xlabel="epoch", ylabel=objective(trials))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid()
    return figure


def completed(trials):
    """The trials that ended with a score."""
    return [trial for trial in trials if _is_completed(trial)]


def best_trial(trials):
    """The completed trial of the best score (the lower loss among equals), or None."""
    def merit(trial):
        return _sign(trials) * trial["score"], -(trial.get("loss") or 0.0)

    return max(completed(trials), key=merit, default=None)


def searched(trials):
    """Names of the hyper-parameters that had more than one value in the completed trials."""
    seen = {}
    for trial in completed(trials):
        for name, value in trial["values"].items():
            seen.setdefault(name, set()).add(value)
    return [name for name, values in seen.items() if len(values) > 1]


def numeric(trials):
    """Those of `searched` whose values lie on a scale of numbers."""
    return [name for name in searched(trials) if _kinds(
        [t["values"][name] for t in completed(trials) if name in t["values"]]) is None]


def _sign(trials):
    return _measure(trials).sign


def objective(trials):
    """What is searched for, in words."""
    title = _measure(trials).title
    return f"validation {title}" + (" (nats)" if title == "loss" else "")


def _measure(trials):
    return of_objective(trials[0].get("objective", "val_accuracy") if trials else "val_accuracy")


def _is_completed(trial):
    ended = trial["status"] in ("COMPLETED", "STOPPED")
    return ended and math.isfinite(finite(trial["score"], math.nan))


def _scaled(values):
    """(places of the values in [0, 1], [(place, text)] of ticks); None has the place NaN."""
    given = [v for v in values if v is not None]
    kinds = _kinds(given)
    if kinds is not None:
        step = 1 / max(1, len(kinds) - 1)
        places = {kind: i * step for i, kind in enumerate(kinds)}
        return ([math.nan if v is None else places[v] for v in values],
                [(place, str(kind)) for kind, place in places.items()])
    low, high = min(given), max(given)
    scale = np.log if _is_wide(given) else np.asarray
    bottom, height = float(scale(low)), float(scale(high)) - float(scale(low)) or 1.0
    places = [math.nan if v is None else (float(scale(v)) - bottom) / height for v in values]
    return places, [(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")]


def _is_wide(values):
    return min(values) > 0 and max(values) > 20 * min(values)


def _log_where_wide(axis, set_scale, values):
    """A log scale for numbers that spread over more than a factor of 20."""
    if _is_wide(values):
        set_scale("log")
        plain_numbers(axis)


def _kinds(values, few=6):
    """The values that take one place each, in their order; None for a scale of numbers."""
    kinds = set(values)
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in kinds):
        return sorted(kinds, key=str)
    if len(kinds) <= few and all(isinstance(v, int) for v in kinds):
        return sorted(kinds)
    return None
