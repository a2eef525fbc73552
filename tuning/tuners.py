"""Our search strategies as Keras Tuner's tuners: for any `HyperModel`, in a script of your own."""

import keras_tuner
from keras_tuner.src import utils
from keras_tuner.src.engine import tuner_utils

from tuning.coarse_to_fine import CoarseToFineOracle
from tuning.halving import BEFORE, EPOCHS, INITIAL, HalvingOracle


class _ByEpochs(keras_tuner.Tuner):
    """A tuner whose oracle says from where to where a trial trains."""

    def run_trial(self, trial, *fit_args, **fit_kwargs):
        values = trial.hyperparameters.values
        if EPOCHS in values:
            fit_kwargs |= {"epochs": values[EPOCHS], "initial_epoch": values.get(INITIAL, 0)}
        return super().run_trial(trial, *fit_args, **fit_kwargs)

    def load_model(self, trial):
        model = self._try_build(trial.hyperparameters)
        return self._with_state(model, trial.trial_id,
                                self._get_checkpoint_fname(trial.trial_id))

    def _with_state(self, model, trial_id, file):
        """The model with the weights and the optimizer's state of a file of that trial.

        Keras loads no state into an optimizer that has no variables yet, and says so by an error.
        """
        if not model.built:
            model.build_from_config(utils.load_json(self._get_build_config_fname(trial_id)))
        model.optimizer.build(model.trainable_variables)
        model.load_weights(file)
        return model


class CoarseToFine(_ByEpochs):
    """Random search in rounds, each in ranges that close in on the best trials.

        tuner = CoarseToFine(build_model, objective="val_accuracy", max_trials=30, max_epochs=12)
        tuner.search(images, labels, validation_split=0.2)

    Args:
        hypermodel: a `keras_tuner.HyperModel`, or a function from hyper-parameters to a model.
        objective, max_trials, rounds, max_epochs, shrink, seed, hyperparameters: see
            `CoarseToFineOracle`. With `max_epochs`, a trial's number of epochs is its round's, and
            `search` takes none.
        All other arguments are those of `keras_tuner.Tuner`.
    """

    def __init__(self, hypermodel=None, objective=None, max_trials=12, rounds=3, max_epochs=None,
                 shrink=0.5, seed=None, hyperparameters=None, **kwargs):
        oracle = CoarseToFineOracle(objective, max_trials, rounds, max_epochs, shrink, seed=seed,
                                    hyperparameters=hyperparameters)
        super().__init__(oracle=oracle, hypermodel=hypermodel, **kwargs)


class Halving(_ByEpochs):
    """Asynchronous successive halving: the best of many short trainings train on.

    A training that goes on has its weights, its optimizer's state and its place in the epochs: it
    is the training that it would have been without a stop.

        tuner = Halving(build_model, objective="val_accuracy", max_trials=27, max_epochs=27)
        tuner.search(images, labels, validation_split=0.2)

    Args:
        hypermodel: a `keras_tuner.HyperModel`, or a function from hyper-parameters to a model.
        objective, max_trials, max_epochs, min_epochs, factor, seed, hyperparameters: see
            `HalvingOracle`. `search` takes no number of epochs.
        All other arguments are those of `keras_tuner.Tuner`, but for `executions_per_trial`.
    """

    def __init__(self, hypermodel=None, objective=None, max_trials=27, max_epochs=27, min_epochs=1,
                 factor=3, seed=None, hyperparameters=None, **kwargs):
        if kwargs.get("executions_per_trial", 1) != 1:
            raise ValueError("`executions_per_trial` must be 1: a trial that goes on has one past. "
                             f"Received: {kwargs['executions_per_trial']}")
        oracle = HalvingOracle(objective, max_trials, max_epochs, min_epochs, factor, seed=seed,
                               hyperparameters=hyperparameters)
        super().__init__(oracle=oracle, hypermodel=hypermodel, **kwargs)

    def _build_and_fit_model(self, trial, *args, **kwargs):
        hps = trial.hyperparameters
        model = self._try_build(hps)
        before = hps.values.get(BEFORE)
        if before is not None:
            model = self._with_state(model, before, self._state(before))
        results = self.hypermodel.fit(hps, model, *args, **kwargs)
        model.save_weights(self._state(trial.trial_id))
        utils.save_json(self._get_build_config_fname(trial.trial_id), model.get_build_config())
        tuner_utils.validate_trial_results(results, self.oracle.objective, "HyperModel.fit()")
        return results

    def _state(self, trial_id):
        """Where a trial stands in its last epoch; Keras Tuner's own file is of its best."""
        return self._get_checkpoint_fname(trial_id).replace("checkpoint", "last")
