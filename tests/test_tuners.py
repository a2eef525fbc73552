"""Our strategies as tuners of Keras Tuner, with a model of its user's."""

import keras
import keras_tuner
import numpy as np
import pytest

from tuning.halving import BEFORE, EPOCHS
from tuning.tuners import CoarseToFine, Halving

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
Y = (X.sum(axis=1) > 0).astype("int32")
FIT = {"validation_data": (X, Y), "batch_size": 16, "shuffle": False, "verbose": 0}


def build(hp):
    """Not built before it is fitted; its optimizer has a state."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Dense(hp.Int("units", 2, 8), activation="tanh"),
                              keras.layers.Dense(2)])
    rate = hp.Float("rate", 1e-3, 1e-1, sampling="log")
    model.compile(keras.optimizers.Adam(rate),
                  keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                  metrics=["accuracy"])
    return model


def test_halving_goes_on_as_if_it_had_never_stopped(tmp_path):
    tuner = Halving(build, "val_loss", max_trials=3, max_epochs=9, seed=1, directory=tmp_path)
    tuner.search(X, Y, **FIT)
    trials = tuner.oracle.trials
    assert {t.hyperparameters.values[EPOCHS] for t in trials.values()} >= {1, 3}
    went_on = [t for t in trials.values() if BEFORE in t.hyperparameters.values]
    for trial in went_on:
        epochs = trial.hyperparameters.values[EPOCHS]
        whole = build(trial.hyperparameters)
        history = whole.fit(X, Y, epochs=epochs, **FIT).history["val_loss"]
        assert trial.score == pytest.approx(min(history[epochs // 3:]), rel=1e-6)
        found = build(trial.hyperparameters)
        found.build((None, 4))
        found.optimizer.build(found.trainable_variables)
        found.load_weights(tuner._state(trial.trial_id))
        for a, b in zip(found.optimizer.variables, whole.optimizer.variables, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-7)
    assert tuner.get_best_models()[0].evaluate(X, Y, verbose=0)[0] == pytest.approx(
        tuner.oracle.get_best_trials()[0].score, rel=1e-5)


def test_coarse_to_fine_trains_each_round_longer(tmp_path):
    tuner = CoarseToFine(build, keras_tuner.Objective("val_accuracy", "max"), 6, max_epochs=4,
                         seed=1, directory=tmp_path)
    tuner.search(X, Y, **FIT)
    epochs = [t.hyperparameters.values[EPOCHS] for t in tuner.oracle.trials.values()]
    assert epochs == [1, 1, 2, 2, 4, 4]
    again = CoarseToFine(build, keras_tuner.Objective("val_accuracy", "max"), 6, max_epochs=4,
                         seed=1, directory=tmp_path)
    assert {i: t.score for i, t in again.oracle.trials.items()} == {
        i: t.score for i, t in tuner.oracle.trials.items()}


def test_the_number_of_epochs_may_be_the_user_s(tmp_path):
    tuner = CoarseToFine(build, "val_loss", 3, seed=1, directory=tmp_path)
    tuner.search(X, Y, epochs=2, **FIT)
    assert [t.best_step for t in tuner.oracle.trials.values()] and len(tuner.oracle.trials) == 3


def test_wrong_tuners(tmp_path):
    with pytest.raises(ValueError, match="`executions_per_trial` must be 1.* Received: 2"):
        Halving(build, "val_loss", executions_per_trial=2, directory=tmp_path)
    with pytest.raises(ValueError, match="`rounds` must be 1 to max_trials=2. Received: 3"):
        CoarseToFine(build, "val_loss", 2, directory=tmp_path)
