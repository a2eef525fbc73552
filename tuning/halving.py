"""Asynchronous successive halving: the best of each rung train on, none of their epochs twice."""

import keras_tuner

from tuning.coarse_to_fine import defaults

EPOCHS, INITIAL, BEFORE, RUNG = ("tuner/epochs", "tuner/initial_epoch", "tuner/trial_id",
                                 "tuner/rung")


class HalvingOracle(keras_tuner.Oracle):
    """Many short trainings; a part of them is continued, and of these a part again.

    Rungs are at max_epochs / factor^k epochs, k from the largest down to 0. Whenever a trial can
    be started, the highest rung is taken in which a trial is among the best 1 / factor of those
    that have come so far and was not continued yet: it is, up to the next rung. Where there is
    none, new values are drawn at random (the first are the defaults). No rung has to be full
    before: no worker is ever idle.

    A continued training is a trial of its own (as in Keras Tuner's Hyperband), with the values of
    the one before: `tuner/trial_id` names it, `tuner/initial_epoch` and `tuner/epochs` say from
    where to where it trains.

    Args:
        max_trials: how many values are drawn; continued trainings do not count.
        max_epochs: of the longest trainings.
        min_epochs: of the shortest, at least 1.
        factor: one of so many is continued.
        All other arguments are those of `keras_tuner.Oracle`.

    Source: Li et al., A System for Massively Parallel Hyperparameter Tuning, 2020, algorithm 2
    (ASHA).
    """

    def __init__(self, objective=None, max_trials=27, max_epochs=27, min_epochs=1, factor=3,
                 **kwargs):
        if not 1 <= min_epochs <= max_epochs:
            raise ValueError(f"`min_epochs` must be 1 to max_epochs={max_epochs}. "
                             f"Received: min_epochs={min_epochs}")
        if not (isinstance(factor, int) and factor >= 2):
            raise ValueError(f"`factor` must be an integer >= 2. Received: factor={factor}")
        super().__init__(objective=objective, **kwargs)
        self.draws = max_trials
        self.max_epochs, self.min_epochs, self.factor = max_epochs, min_epochs, factor

    @property
    def rungs(self):
        """The epochs at which trainings are compared, the fewest first."""
        found = [self.max_epochs]
        while found[0] // self.factor >= self.min_epochs:
            found.insert(0, found[0] // self.factor)
        return found

    def populate_space(self, trial_id):
        chosen = self._promotable()
        if chosen is not None:
            trial, rung = chosen
            values = {**trial.hyperparameters.values, BEFORE: trial.trial_id,
                      INITIAL: self.rungs[rung], EPOCHS: self.rungs[rung + 1], RUNG: rung + 1}
            return {"status": "RUNNING", "values": values}
        drawn = [t for t in self.trials.values() if t.hyperparameters.values.get(RUNG) == 0]
        if not drawn:
            values = defaults(self.hyperparameters)
        else:
            values = self._random_values() if len(drawn) < self.draws else None
        if values is None:  # what runs may still be continued
            return {"status": "IDLE" if self.ongoing_trials else "STOPPED"}
        values.update({INITIAL: 0, EPOCHS: self.rungs[0], RUNG: 0})
        return {"status": "RUNNING", "values": values}

    def _promotable(self):
        """(trial, its rung) to be continued, from the highest rung that has one; or None."""
        continued = {t.hyperparameters.values.get(BEFORE) for t in self.trials.values()}
        for rung in reversed(range(len(self.rungs) - 1)):
            done = [t for t in self.trials.values()
                    if t.hyperparameters.values.get(RUNG) == rung and t.status == "COMPLETED"]
            sign = -1 if self.objective.direction == "max" else 1
            done.sort(key=lambda t: (sign * t.score, t.trial_id))
            for trial in done[:len(done) // self.factor]:
                if trial.trial_id not in continued:
                    return trial, rung
        return None

    def _compute_values_hash(self, values):
        return super()._compute_values_hash(
            {k: v for k, v in values.items() if k not in (EPOCHS, INITIAL, RUNG)})

    def get_state(self):
        return {**super().get_state(), "draws": self.draws, "max_epochs": self.max_epochs,
                "min_epochs": self.min_epochs, "factor": self.factor}

    def set_state(self, state):
        super().set_state(state)
        for name in ("draws", "max_epochs", "min_epochs", "factor"):
            setattr(self, name, state[name])
