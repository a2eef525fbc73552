"""Search strategies on functions whose optimum is known; nothing is trained here."""

import keras_tuner
import numpy as np
import pytest

from tuning.coarse_to_fine import CoarseToFineOracle
from tuning.halving import HalvingOracle

MAXIMUM = keras_tuner.Objective("score", "max")


def declare(hp):
    """A space with a log scale, a linear one, whole numbers, a choice, something conditional."""
    hp.Float("rate", 1e-4, 1.0, sampling="log")
    hp.Float("momentum", 0.0, 1.0)
    hp.Int("units", 8, 256, sampling="log")
    if hp.Choice("kind", ["plain", "deep", "wide"]) == "deep":
        pass
    with hp.conditional_scope("kind", ["deep"]):
        hp.Int("layers", 1, 9)
    return hp


def merit(values, epochs=1):
    """Best at rate 0.01, momentum 0.7, 64 units, deep, 6 layers."""
    score = -np.log10(values["rate"] / 0.01)**2 - 4 * (values["momentum"] - 0.7)**2
    score -= np.log2(values["units"] / 64)**2 / 4 + (values["kind"] != "deep")
    return score - (values.get("layers", 6) - 6)**2 / 16 - 1 / epochs


def started(oracle, folder):
    oracle._set_project_dir(str(folder), "search")
    oracle.verbose = 0
    oracle.update_space(declare(keras_tuner.HyperParameters()))
    return oracle


def ended(oracle, trial, score=None):
    values = trial.hyperparameters.values
    score = merit(values, values.get("tuner/epochs", 1)) if score is None else score
    oracle.update_trial(trial.trial_id, {"score": score})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)
    return score


def run(oracle, folder, workers=1, order=None):
    """The trials of a whole search in the order of their start; so many run at once."""
    started(oracle, folder)
    running, trials, idle = {}, [], 0
    while idle <= workers:
        free = [w for w in range(workers) if w not in running]
        trial = oracle.create_trial(str(free[0])) if free else None
        if trial is not None and trial.status == "RUNNING":
            running[free[0]] = trial
            trials.append(trial)
            idle = 0
            if len(running) < workers:
                continue
        elif not running:
            assert trial.status == "STOPPED"
            return trials
        else:
            idle = 0
        worker = (order or min)(running)
        ended(oracle, running.pop(worker))
    raise AssertionError("the search hangs")


def best(trials):
    return max(merit(t.hyperparameters.values, 1e9) for t in trials)


@pytest.mark.parametrize("workers, order", [(1, None), (3, min), (4, max)])
def test_rounds_do_not_depend_on_who_is_first(tmp_path, workers, order):
    def values(folder, *how):
        oracle = CoarseToFineOracle(MAXIMUM, 15, 3, seed=5)
        return [t.hyperparameters.values for t in run(oracle, tmp_path / folder, *how)]

    found = values("many", workers, order)
    assert len(found) == 15 and [v["tuner/round"] for v in found] == 5 * [0] + 5 * [1] + 5 * [2]
    assert found == values("one")
    assert all(("layers" in v) == (v["kind"] == "deep") for v in found)


def test_rounds_beat_random_search(tmp_path):
    """Of 20 seeds, by the median of the best; one round is random search."""
    found = {rounds: np.median([best(run(CoarseToFineOracle(MAXIMUM, 30, rounds, seed=seed + 1),
                                         tmp_path / f"{rounds}-{seed}")) for seed in range(20)])
             for rounds in (1, 3)}
    assert found[3] > 0.5 * found[1]  # both are negative: half as far from the optimum


def test_epochs_grow_with_the_rounds(tmp_path):
    trials = run(CoarseToFineOracle(MAXIMUM, 7, 3, max_epochs=8, seed=1), tmp_path)
    assert [t.hyperparameters.values["tuner/epochs"] for t in trials] == [2, 2, 2, 4, 4, 8, 8]


def narrowed(tmp_path, place, minimum=False):
    """The range of momentum before the second round, the better the nearer to `place`."""
    objective = keras_tuner.Objective("score", "min" if minimum else "max")
    oracle = started(CoarseToFineOracle(objective, 20, 2, seed=3), tmp_path / f"{place}{minimum}")
    for _ in range(10):
        trial = oracle.create_trial("0")
        distance = abs(trial.hyperparameters.values["momentum"] - place)
        ended(oracle, trial, distance if minimum else -distance)
    return oracle.ranges(1)


@pytest.mark.parametrize("place", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("minimum", [False, True])
def test_a_range_halves_around_the_best(tmp_path, place, minimum):
    low, high = narrowed(tmp_path, place, minimum)["momentum"]
    assert high - low == pytest.approx(0.5) and 0 <= low and high <= 1
    assert low <= place <= high or abs(place - np.clip(place, low, high)) < 0.1


@pytest.mark.parametrize("before, best, after", [
    ((0.35, 0.85), 0.60, (0.475, 0.725)),  # inside: narrowed
    ((0.35, 0.85), 0.83, (0.5, 1.0)),  # at an edge with space beyond: moved, no further than 1
    ((0.35, 0.85), 0.37, (0.12, 0.62)),
    ((0.5, 1.0), 0.99, (0.75, 1.0)),  # at the end of the space: narrowed
])
def test_a_range_whose_edge_is_best_moves_over_it(tmp_path, before, best, after):
    oracle = started(CoarseToFineOracle(MAXIMUM, 30, 3, seed=3), tmp_path)
    momentum = {hp.name: hp for hp in oracle.hyperparameters.space}["momentum"]
    assert oracle._narrowed(momentum, before, [best]) == pytest.approx(after)


def test_scales_are_the_parameters_own(tmp_path):
    oracle = started(CoarseToFineOracle(MAXIMUM, 30, 3, seed=3), tmp_path)
    rate = {hp.name: hp for hp in oracle.hyperparameters.space}["rate"]
    low, high = oracle._narrowed(rate, (0.0, 1.0), [0.01])
    assert rate.prob_to_value(low) == pytest.approx(1e-3)
    assert rate.prob_to_value(high) == pytest.approx(1e-1)


def test_choices_of_the_best_are_drawn_more_often(tmp_path):
    oracle = started(CoarseToFineOracle(MAXIMUM, 300, 3, seed=3), tmp_path)
    kind = {hp.name: hp for hp in oracle.hyperparameters.space}["kind"]
    weights = oracle._narrowed(kind, {"plain": 1.0, "deep": 1.0, "wide": 1.0},
                               ["deep", "deep", "wide"])
    assert weights == {"plain": 0.25, "deep": 2.25, "wide": 1.25}


@pytest.mark.parametrize("make", [
    lambda: CoarseToFineOracle(MAXIMUM, 12, 3, seed=2),
    lambda: HalvingOracle(MAXIMUM, 9, 9, seed=2),
])
@pytest.mark.parametrize("stop", [1, 5, 10])
def test_a_search_that_is_taken_up_again_goes_on_as_it_would_have(tmp_path, make, stop):
    whole = [t.hyperparameters.values for t in run(make(), tmp_path / "whole")]
    oracle = started(make(), tmp_path / "parts")
    for _ in range(stop):
        ended(oracle, oracle.create_trial("0"))
    oracle.create_trial("0")  # killed while it runs
    again = make()
    again._set_project_dir(str(tmp_path / "parts"), "search")
    again.verbose = 0
    again.reload()
    found = []
    while (trial := again.create_trial("0")).status == "RUNNING":
        ended(again, trial)
    for trial_id in sorted(again.trials):
        found.append(again.trials[trial_id].hyperparameters.values)
    assert found == whole


def test_halving_continues_the_best_of_each_rung(tmp_path):
    oracle = HalvingOracle(MAXIMUM, 27, 27, seed=4)
    assert oracle.rungs == [1, 3, 9, 27]
    trials = {t.trial_id: t for t in run(oracle, tmp_path)}
    rungs = [t.hyperparameters.values["tuner/rung"] for t in trials.values()]
    assert [rungs.count(r) for r in range(4)] == [27, 9, 3, 1]
    for trial in trials.values():
        values = trial.hyperparameters.values
        before = trials.get(values.get("tuner/trial_id"))
        assert (before is None) == (values["tuner/rung"] == 0 == values["tuner/initial_epoch"])
        if before:
            was = before.hyperparameters.values
            assert values["tuner/initial_epoch"] == was["tuner/epochs"]
            assert all(values[k] == v for k, v in was.items() if not k.startswith("tuner/"))
    last = [t for t in trials.values() if t.hyperparameters.values["tuner/rung"] == 3]
    assert merit(last[0].hyperparameters.values) >= np.quantile(
        [merit(t.hyperparameters.values) for t in trials.values()], 0.8)


def test_halving_starts_new_trials_while_others_run(tmp_path):
    oracle = started(HalvingOracle(MAXIMUM, 9, 9, seed=4), tmp_path)
    running = [oracle.create_trial(str(i)) for i in range(9)]
    assert all(t.status == "RUNNING" for t in running)
    assert oracle.create_trial("9").status == "IDLE"
    for trial in running[:3]:
        ended(oracle, trial)
    continued = oracle.create_trial("9")
    assert continued.hyperparameters.values["tuner/initial_epoch"] == 1
    assert oracle.create_trial("10").status == "IDLE"


@pytest.mark.parametrize("make, message", [
    (lambda: CoarseToFineOracle(MAXIMUM, 3, 4), "`rounds` must be 1 to max_trials=3. Received: 4"),
    (lambda: CoarseToFineOracle(MAXIMUM, shrink=1.0), "between 0 and 1. Received: shrink=1.0"),
    (lambda: HalvingOracle(MAXIMUM, min_epochs=0), "to max_epochs=27. Received: min_epochs=0"),
    (lambda: HalvingOracle(MAXIMUM, factor=1), "an integer >= 2. Received: factor=1"),
])
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
