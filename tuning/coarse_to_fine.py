"""Coarse to fine: rounds of random search, each in ranges that close in on the best trials."""

import math

import keras_tuner
import numpy as np
from keras_tuner.src.engine.hyperparameters.hp_types.numerical import Numerical

ROUND, EPOCHS = "tuner/round", "tuner/epochs"


class CoarseToFineOracle(keras_tuner.Oracle):
    """Random search in rounds, from the whole space to a small part of it.

    The first trial has the defaults, the others of the first round are drawn from the whole space.
    Before each further round the range of every parameter is narrowed around the best trials so
    far, on the parameter's own scale (in logs where it is sampled so): to `shrink` of its width,
    about the best trial's value. Where that lies at an edge of the range, and the space goes on
    beyond it, the range moves there without being narrowed. Of choices, those of the best trials
    are drawn more often. What is conditional is narrowed by the trials in which it was active.

    A trial's values follow from the seed, its number, and the results of the rounds before: not
    from the order in which parallel trials end, nor from interruptions.

    Args:
        max_trials: of all rounds together.
        rounds: at least 1; 1 is random search.
        max_epochs: of the trials of the last round. Each round before has half of the epochs of the
            next, at least 1 (a trial's `tuner/epochs`). None: the tuner decides alone.
        shrink: of a range from one round to the next, in (0, 1).
        All other arguments are those of `keras_tuner.Oracle`.

    Source: narrowing by hand from log-uniform ranges, as in Bergstra, Bengio, Random Search for
    Hyper-Parameter Optimization, 2012, section 5; Goodfellow, Bengio, Courville, Deep Learning,
    2016, section 11.4.4.
    """

    def __init__(self, objective=None, max_trials=12, rounds=3, max_epochs=None, shrink=0.5,
                 **kwargs):
        if not isinstance(rounds, int) or not 1 <= rounds <= max_trials:
            raise ValueError(f"`rounds` must be 1 to max_trials={max_trials}. Received: {rounds}")
        if not 0 < shrink < 1:
            raise ValueError(f"`shrink` must lie between 0 and 1. Received: shrink={shrink}")
        super().__init__(objective=objective, max_trials=max_trials, **kwargs)
        self.total, self.rounds = max_trials, rounds
        self.max_epochs, self.shrink = max_epochs, shrink

    def sizes(self):
        """Trials of each round: as equal as can be, the first rounds larger."""
        return [len(part) for part in np.array_split(range(self.total), self.rounds)]

    def epochs(self, number):
        """Epochs of a trial of round `number` (from 0)."""
        return max(1, round(self.max_epochs / 2**(self.rounds - 1 - number)))

    def round_of(self, position):
        """The round of the trial that is started as number `position` (from 0)."""
        return int(np.searchsorted(np.cumsum(self.sizes()), position, side="right"))

    def populate_space(self, trial_id):
        position = len(self.start_order)
        number = self.round_of(position)
        before = [self.trials[i] for i in self.start_order[:sum(self.sizes()[:number])]]
        if any(trial.status in ("RUNNING", "INVALID") for trial in before):
            return {"status": "IDLE"}
        if not position:
            return self._with_settings(defaults(self.hyperparameters), number)
        narrow, whole = self.ranges(number), self.ranges(0)
        for attempt in range(2 * self._max_collisions):
            rng = np.random.default_rng((self.seed, position, attempt))
            # Where all of a small part has been tried, the whole space is left.
            values = self._drawn(rng, narrow if attempt < self._max_collisions else whole)
            if self._compute_values_hash(values) not in self._tried_so_far:
                break
        else:
            return {"status": "IDLE" if self.ongoing_trials else "STOPPED"}
        return self._with_settings(values, number)

    def _with_settings(self, values, number):
        values[ROUND] = number
        if self.max_epochs is not None:
            values[EPOCHS] = self.epochs(number)
        return {"status": "RUNNING", "values": values}

    def ranges(self, number):
        """{parameter's name: what round `number` draws from}

        Of a number (lowest, highest), as parts of its scale in [0, 1]; of a choice the weights of
        its values.
        """
        spaces = {hp.name: hp for hp in self.hyperparameters.space}
        found = {name: _whole(hp) for name, hp in spaces.items()}
        for r in range(number):
            ranked = self._ranked(sum(self.sizes()[:r + 1]))
            best = ranked[:max(2, math.ceil(self.sizes()[r] / 4))]
            for name, hp in spaces.items():
                values = [t.hyperparameters.values[name] for t in best
                          if name in t.hyperparameters.values]
                if values:
                    found[name] = self._narrowed(hp, found[name], values)
        return found

    def _ranked(self, count):
        """The first so many trials that have a score, the best first; equals by their number."""
        done = [self.trials[i] for i in self.start_order[:count]]
        done = [t for t in done if t.status == "COMPLETED" and np.isfinite(t.score)]
        sign = -1 if self.objective.direction == "max" else 1
        return sorted(done, key=lambda t: sign * t.score)

    def _narrowed(self, hp, before, values):
        """What is drawn from in the next round, by the values of the best trials."""
        if not isinstance(hp, Numerical):
            return {value: weight * (values.count(value) + 0.25)
                    for value, weight in before.items()}
        low, high = before
        best, width = hp.value_to_prob(values[0]), high - low
        at_low, at_high = best - low < 0.1 * width, high - best < 0.1 * width
        if not (at_low and low > 0 or at_high and high < 1):
            width *= self.shrink
        low = min(max(best - width / 2, 0.0), 1 - width)
        return low, low + width

    def _drawn(self, rng, ranges):
        """Values of all parameters that are active."""
        hps = keras_tuner.HyperParameters()
        for hp in self.hyperparameters.space:
            hps.merge([hp])
            if hps.is_active(hp):
                hps.values[hp.name] = _value(hp, ranges[hp.name], rng)
        return hps.values

    def _compute_values_hash(self, values):
        return super()._compute_values_hash(
            {k: v for k, v in values.items() if k not in (ROUND, EPOCHS)})

    def get_state(self):
        return {**super().get_state(), "rounds": self.rounds, "max_epochs": self.max_epochs,
                "shrink": self.shrink}

    def set_state(self, state):
        super().set_state(state)
        self.rounds, self.max_epochs = state["rounds"], state["max_epochs"]
        self.shrink = state["shrink"]


def defaults(hyperparameters):
    """The default values of all parameters that are active by them."""
    hps = keras_tuner.HyperParameters()
    for hp in hyperparameters.space:
        hps.merge([hp])
        if hps.is_active(hp):
            hps.values[hp.name] = hp.default
    return hps.values


def _whole(hp):
    if isinstance(hp, Numerical):
        return 0.0, 1.0
    return {value: 1.0 for value in _values(hp)}


def _values(hp):
    """The values of a parameter that is no number."""
    if isinstance(hp, keras_tuner.engine.hyperparameters.Boolean):
        return [False, True]
    return list(getattr(hp, "values", [hp.default]))


def _value(hp, range_, rng):
    if isinstance(hp, Numerical):
        return hp.prob_to_value(rng.uniform(*range_))
    weights = np.array(list(range_.values()))
    return list(range_)[rng.choice(len(weights), p=weights / weights.sum())]
