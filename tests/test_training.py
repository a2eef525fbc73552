"""Training: what a run keeps, and that a killed one ends as if it had not been."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import keras
import numpy as np
import pytest

from app import data as data_sets
from app.compiling import OPTIMIZERS, compile_model
from app.errors import HandgradError, UsageError
from app.models import build
from app.runs import Config, Run
from app.split import Split
from app.training import Checkpoints, best_epoch, check, first_filters, fit, new_model, train
from custom_layers import SoftmaxCrossEntropy
from custom_layers.tracing import compiled_by_xla

# Dropout, augmentation, a schedule, an average of the weights and patience: all that a resumed
# training could get wrong.
CONFIG = Config("lenet5", "digits", epochs=6, batch_size=64, learning_rate=3e-3, schedule="cosine",
                warmup=1, ema=0.5, augment="shift,elastic", patience=5,
                sizes={"filters": [2, 3], "units": [9, 8], "dropout": 0.3})


class Killed(Exception):
    """In place of a kill."""


class KillAfter(keras.callbacks.Callback):
    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.epochs:
            raise Killed


@pytest.fixture(scope="module")
def digits(few_digits):
    return few_digits(300, 100, 50)


pytestmark = pytest.mark.usefixtures("empty_folder")


@pytest.fixture(scope="module")
def whole(digits, tmp_path_factory):
    """An uninterrupted run."""
    run = Run(tmp_path_factory.mktemp("whole"), CONFIG)
    train(run, digits)
    return run


def weights(run):
    """The final weights of a run, dropout's seeds and the optimizer's state included."""
    (path,) = run.path.glob("state-*.npz")
    with np.load(path) as file:
        return dict(file)


def assert_same(a, b):
    assert a.keys() == b.keys() and len(a) > 10
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def history(run):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.history()]


def test_a_run_keeps_what_it_promises(digits, whole):
    run, model = whole, whole.model()
    names = {path.name for path in run.path.iterdir()}
    assert names == {"training.json", "history.csv", "logs", "best.keras", "initial_filters.npy",
                     "state-00006.npz"}
    assert list(run.path.glob("logs/*/events*"))
    assert {"epoch", "accuracy", "loss", "val_accuracy", "val_loss", "learning_rate"} <= set(
        run.history()[0])
    assert [row["epoch"] for row in run.history()] == list(range(6))
    before = np.load(run.path / "initial_filters.npy")
    np.testing.assert_array_equal(before, first_filters(new_model(CONFIG, digits)))
    assert before.shape == (5, 5, 1, 2) and not np.array_equal(before, first_filters(model))
    logits = model(digits.test.images.astype("float32") / 255)
    assert logits.shape == (50, 10)


def test_the_best_model_is_that_of_the_best_epoch(digits):
    run = Run.start("a", replace(CONFIG, learning_rate=0.02, epochs=5))
    model = compile_model(train(run, digits))
    rows = run.history()
    scores = model.evaluate(data_sets.batches(digits.validation, 100), verbose=0, return_dict=True)
    best = rows[best_epoch(rows) - 1]
    assert scores["loss"] == pytest.approx(best["val_loss"], rel=1e-5)
    assert scores["accuracy"] == max(row["val_accuracy"] for row in rows)


@pytest.mark.parametrize("rows, best", [
    ([], 0),
    ([(0.5, 1), (0.9, 2), (0.8, 0)], 2),
    ([(0.9, 2), (0.9, 1), (0.9, 1)], 2),
])
def test_best_epoch(rows, best):
    assert best_epoch([{"val_accuracy": a, "val_loss": b} for a, b in rows]) == best


def test_without_a_validation_part_the_last_epoch_is_best():
    assert best_epoch([{"loss": 1}, {"loss": 3}, {"loss": 2}]) == 3


@pytest.mark.parametrize("epochs", [1, 4])
def test_a_killed_training_ends_as_an_uninterrupted_one(digits, whole, epochs, monkeypatch):
    killed = Run.start("killed", CONFIG)
    with monkeypatch.context() as patch:
        patch.setattr("app.training.keras.callbacks.TensorBoard", lambda path: KillAfter(epochs))
        with pytest.raises(Killed):
            train(killed, digits)
    assert len(killed.history()) == epochs
    keras.utils.set_random_seed(77)  # whatever another process would have drawn before
    train(Run.start("killed", CONFIG, resume=True), digits)
    assert_same(weights(whole), weights(killed))
    assert history(whole) == history(killed)


def test_a_kill_in_the_middle_of_an_epoch_s_writing_repeats_the_epoch(digits, whole):
    """best.keras and history.csv of the third epoch are there, its state is not."""
    killed = Run.start("killed", CONFIG)
    checkpoints = Checkpoints(killed)
    killed.begin_training()
    kept = checkpoints._keep_state
    checkpoints._keep_state = lambda n: kept(n) if n < 3 else (_ for _ in ()).throw(Killed)
    with pytest.raises(Killed):
        fit(new_model(CONFIG, digits), CONFIG, digits.train, digits.validation,
            callbacks=[checkpoints])
    assert len(killed.history()) == 3
    train(killed, digits)
    assert_same(weights(whole), weights(killed))
    assert history(whole) == history(killed)


@pytest.mark.parametrize("xla", [True, False])
def test_steps_are_compiled_by_xla_where_asked(digits, xla):
    seen = []

    class Watched(SoftmaxCrossEntropy):
        def call(self, y_true, y_pred):
            seen.append(compiled_by_xla())
            return super().call(y_true, y_pred)

    config = Config("mlp", "digits", epochs=1, batch_size=25, xla=xla, sizes={"hidden": [4]})
    model = new_model(config, digits)
    model.compile("sgd", Watched())
    fit(model, config, digits.test)
    assert set(seen) == {xla}


def test_a_finished_training_is_not_done_again(digits, whole, monkeypatch):
    monkeypatch.setattr("app.training.fit", None)
    train(whole, digits)


def test_patience_is_counted_over_a_kill(digits):
    config = replace(CONFIG, epochs=30, patience=2, learning_rate=1e-9)
    run = Run.start("a", config)
    train(run, digits)
    rows = run.history()
    assert len(rows) == best_epoch(rows) + 2 < 30
    train(run, digits)
    assert run.history() == rows


def test_more_epochs_go_on_from_the_last(digits):
    config = replace(CONFIG, schedule="constant", epochs=4)
    whole, longer = Run.start("whole", config), Run.start("longer", replace(config, epochs=2))
    train(whole, digits)
    train(longer, digits)
    train(Run.start("longer", config, resume=True), digits)
    assert_same(weights(whole), weights(longer))


def test_divergence_is_an_error_and_nothing_of_it_is_kept(digits):
    run = Run.start("a", replace(CONFIG, optimizer="sgd", learning_rate=1e38, schedule="constant"))
    with pytest.raises(HandgradError, match=r"diverged: loss is (nan|inf) after epoch 1. Use a sm"):
        train(run, digits)
    assert not list(run.path.glob("state-*")) and not run.history()
    assert not (run.path / "best.keras").exists()


@pytest.mark.parametrize("change, message", [
    ({"optimizer": "adams"}, "Unknown optimizer 'adams'. Did you mean 'adam'"),
    ({"schedule": "cos"}, "Unknown schedule 'cos'. Did you mean 'cosine'"),
    ({"augment": "flop"}, "Unknown augmentation 'flop'. Did you mean 'flip'"),
    ({"batch_size": 301}, "batch size must be 1 to 300, .* Received: 301"),
    ({"model": "simpleconvnet", "sizes": {"kernel": 9}}, "at least 10x10.*Received: 8x8"),
])
def test_settings_that_do_not_fit_are_found_before_training(digits, change, message):
    with pytest.raises(UsageError, match=message):
        check(replace(CONFIG, **{"sizes": {}, **change}), digits)


def test_a_search_has_no_batch_size_of_its_own(digits):
    check(replace(CONFIG, search=True, batch_size=301), digits)


def test_both_parts_are_trained_on_and_none_validated(digits):
    run = Run.start("a", replace(CONFIG, epochs=2, on_train_and_validation=True))
    train(run, digits)
    assert "val_loss" not in run.history()[0] and len(run.history()) == 2
    assert weights(run)["optimizer 0"] == 2 * -(-400 // 64)  # steps on 300 + 100 images


@pytest.mark.parametrize("damage, message", [
    (lambda state: state.write_bytes(state.read_bytes()[:-100]), "state-00002.npz is damaged"),
    (lambda state: state.write_bytes(b""), "state-00002.npz is damaged"),
    (lambda state: np.savez(state, **{"model 0": np.zeros(3)}), "holds 1 variables of another"),
], ids=["cut", "empty", "of another model"])
def test_a_state_that_cannot_be_taken_up(digits, damage, message):
    run = Run.start("a", replace(CONFIG, epochs=2))
    train(run, digits)
    damage(run.path / "state-00002.npz")
    with pytest.raises(HandgradError, match=f"{message}.* Remove it to start anew"):
        train(Run.start("a", replace(CONFIG, epochs=2), resume=True), digits)


def test_the_schedule_ends_at_zero(whole):
    rates = [row["learning_rate"] for row in whole.history()]
    assert rates == sorted(rates, reverse=True) and rates[-1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_learns(name):
    images = np.repeat(np.arange(2, dtype=np.uint8) * 200, 32).reshape(64, 1, 1, 1)
    split = Split(np.tile(images, (1, 2, 2, 1)), np.arange(64, dtype=np.int32) // 32)
    model = compile_model(build("mlp", (2, 2, 1), 2, hidden=(8,)), optimizer=name,
                          learning_rate=0.05)
    config = Config("mlp", "none", epochs=12, batch_size=0 if name == "rprop" else 16)
    losses = fit(model, config, split).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    assert isinstance(model.loss, SoftmaxCrossEntropy)


def test_a_killed_command_resumes_to_the_same_weights(tmp_path):
    """A real process, killed by signal 9 in the middle, and continued by another."""
    arguments = [sys.executable, "-m", "app.cli", "train", "lenet5", "--epochs", "12",
                 "--augment", "shift", "--schedule", "cosine", "--json", "--name"]
    whole = subprocess.run([*arguments, "whole"], capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    killed = subprocess.Popen([*arguments, "killed"], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    history = tmp_path / "runs" / "killed" / "history.csv"
    deadline = time.monotonic() + 60
    while not history.exists() or len(history.read_text().splitlines()) < 4:
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert 3 <= len(Run.open("killed").history()) < 12
    resumed = subprocess.run([*arguments, "killed", "--resume"], capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    results = [json.loads(done.stdout) for done in (whole, resumed)]
    assert results[0]["test_loss"] == results[1]["test_loss"]
    assert_same(weights(Run.open("whole")), weights(Run.open("killed")))
