"""The search strategies by name: Keras Tuner's oracles and ours, made fit to be replayed."""

import warnings

import keras_tuner
import numpy as np
from keras_tuner.src.tuners.bayesian import BayesianOptimizationOracle
from keras_tuner.src.tuners.gridsearch import GridSearchOracle
from keras_tuner.src.tuners.hyperband import HyperbandOracle
from keras_tuner.src.tuners.randomsearch import RandomSearchOracle
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from app.errors import unknown
from app.measures import MEASURES
from tuning.coarse_to_fine import CoarseToFineOracle, defaults
from tuning.halving import HalvingOracle

ENDLESS = 10**9  # failed trials in a row: a search goes on


class Replayed:
    """What a strategy needs so that the journal of a search brings it back to where it was.

    The values of a trial follow from the seed, its number and the trials before; Keras Tuner's
    own files, written in place, are not written at all.
    """

    keeps_account = False  # whether `populate_space` changes more than it returns
    known = None  # while a journal is replayed: the values of the trial to be started
    limit = None  # of trials; Keras Tuner would make their ids of its own, which may grow

    def populate_space(self, trial_id):
        if self.known is not None and not self.keeps_account:
            return {"status": "RUNNING", "values": dict(self.known)}
        if self.known is None and self.limit is not None and len(self.trials) >= self.limit:
            return {"status": "STOPPED"}
        number = len(self.start_order)
        self._seed_state = self.seed + 100_003 * number
        self._random_state = np.random.RandomState((self.seed + number) % 2**32)
        return super().populate_space(trial_id)

    def save(self):
        pass

    def reload(self):
        pass

    def _save_trial(self, trial):
        pass


class _DefaultsFirst:
    """The first trial is the plain model."""

    def populate_space(self, trial_id):
        if self.start_order:
            return super().populate_space(trial_id)
        return {"status": "RUNNING", "values": defaults(self.hyperparameters)}


class Random(Replayed, _DefaultsFirst, RandomSearchOracle):
    pass


class Bayesian(Replayed, _DefaultsFirst, BayesianOptimizationOracle):
    def __init__(self, *, max_trials, **settings):
        # By default, the first 3 trials a dimension are random: more than most searches have.
        super().__init__(max_trials=max_trials, num_initial_points=max(3, max_trials // 3),
                         **settings)

    def populate_space(self, trial_id):
        # Small matrices, while trials use all cores: more threads would wait for each other.
        with warnings.catch_warnings(), threadpool_limits(1):
            # Of a fit to few points, which says nothing about the search.
            warnings.simplefilter("ignore", ConvergenceWarning)
            if self.ongoing_trials and self.known is None:
                self._fit_to_ended()
            found = super().populate_space(trial_id)
        if self.known is None and found.get("values") and self._duplicate(found["values"]):
            return self._random_populate_space()
        return found

    def _vectorize_trials(self):
        """Failed trials count as the worst that was completed: their place is known to be bad."""
        x, y = super()._vectorize_trials()
        failed = [t.hyperparameters.values for t in self.trials.values() if t.status == "FAILED"]
        if not failed or not len(y):
            return x, y
        places = [[hp.value_to_prob(values.get(hp.name, hp.default))
                   for hp in self._nonfixed_space()] for values in failed]
        return np.concatenate([x, places]), np.append(y, [y.max()] * len(failed))

    def _fit_to_ended(self):
        """Fits the process by which Keras Tuner guesses what running trials will come to.

        It takes the fit that it happens to have made last, which a replayed search has not.
        """
        running, everything = self.ongoing_trials, self.trials
        self.ongoing_trials = {}
        self.trials = {i: t for i, t in everything.items() if t.status in ("COMPLETED", "FAILED")}
        if any(t.status == "COMPLETED" for t in self.trials.values()):
            self.gpr = self._make_gpr().fit(*self._vectorize_trials())
        self.ongoing_trials, self.trials = running, everything


class Grid(Replayed, GridSearchOracle):
    keeps_account = True


class Hyperband(Replayed, HyperbandOracle):
    keeps_account = True


class CoarseToFine(Replayed, CoarseToFineOracle):
    pass


class Halving(Replayed, HalvingOracle):
    pass


def _coarse_to_fine(trials, epochs, **settings):
    return CoarseToFine(max_trials=trials, rounds=min(3, trials), max_epochs=epochs, **settings)


def _hyperband(trials, epochs, **settings):
    made = Hyperband(max_epochs=epochs, hyperband_iterations=None, **settings)
    made.max_trials = trials
    return made


# By name: from the number of trials, the epochs of the longest and Keras Tuner's own arguments.
TUNERS = {
    "random": lambda trials, epochs, **settings: Random(max_trials=trials, **settings),
    "grid": lambda trials, epochs, **settings: Grid(max_trials=trials, **settings),
    "bayesian": lambda trials, epochs, **settings: Bayesian(max_trials=trials, **settings),
    "hyperband": _hyperband,
    "coarse-to-fine": _coarse_to_fine,
    "halving": lambda trials, epochs, **settings: Halving(
        max_trials=trials, max_epochs=epochs, **settings),
}


def oracle_of(tuner, objective, trials, epochs, seed, budget=None):
    """The oracle of a strategy. `objective` is a `keras_tuner.Objective`.

    trials: None for as many as `budget` epochs have room for.
    """
    if tuner not in TUNERS:
        raise unknown("tuner", tuner, list(TUNERS))
    endless = trials is None and tuner != "coarse-to-fine"  # whose rounds are parts of a whole
    if trials is None:
        # Of a halved search, how many are drawn; of rounds, whose epochs double, 7/12 on average.
        a_trial = epochs * 7 / 12 if tuner == "coarse-to-fine" else epochs
        trials = ENDLESS if tuner == "halving" else max(1, round(budget / a_trial))
    made = TUNERS[tuner](trials, epochs, objective=objective,
                         seed=seed + 1,  # Keras Tuner takes 0 for none
                         max_consecutive_failed_trials=ENDLESS)
    made.limit, made.max_trials, made.verbose = made.max_trials, 0, 0
    if endless:
        made.limit = None
    return made


def objective_of(name):
    """The `keras_tuner.Objective` of "val_accuracy", "val_loss" ..."""
    if name not in OBJECTIVES:
        raise unknown("objective", name, list(OBJECTIVES))
    return keras_tuner.Objective(name, OBJECTIVES[name])


OBJECTIVES = {f"val_{name}": measure.direction for name, measure in MEASURES.items()}
