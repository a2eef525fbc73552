"""How a network is compiled, and what of that shows in its training."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from app import data as data_sets
from app.compiling import compile_model, optimizer_of
from app.errors import UsageError
from app.models import build
from app.runs import Config, Run
from app.schedules import SCHEDULES, learning_rate
from app.state import read_state
from app.training import new_model, train
from custom_layers import MaximumAPosteriori, Rprop
from custom_layers.optimizers import Warmup

pytestmark = pytest.mark.usefixtures("empty_folder")
CONFIG = Config("mlp", "digits", epochs=4, batch_size=32, optimizer="sgd", learning_rate=0.1)


# Schedules


def rates(name, warmup=0.0, epochs=4, steps=10):
    schedule = learning_rate(name, 0.5, epochs, steps, warmup)
    return [float(schedule(i)) if callable(schedule) else schedule for i in range(epochs * steps)]


@pytest.mark.parametrize("name, last", [("constant", 0.5), ("step", 0.005),
                                        ("exponential", 0.005), ("cosine", 0)])
def test_schedules_fall_to_their_end(name, last):
    found = rates(name)
    assert found[0] == 0.5 and found == sorted(found, reverse=True)
    assert found[-1] == pytest.approx(last, rel=0.15, abs=1e-2 if name == "cosine" else 0)


def test_steps_are_at_a_half_and_three_quarters():
    found = rates("step")
    assert [i for i in range(1, 40) if found[i] != found[i - 1]] == [21, 31]
    assert found[25] == pytest.approx(0.05)


@pytest.mark.parametrize("name", SCHEDULES)
def test_warm_up_rises_to_the_first_rate(name):
    found = rates(name, warmup=1.5)
    np.testing.assert_allclose(found[:15], 0.5 * np.arange(1, 16) / 16, rtol=1e-6)
    assert found[15] == pytest.approx(0.5)
    assert found[15:] == sorted(found[15:], reverse=True)


def test_a_warm_up_is_saved_with_its_schedule():
    schedule = Warmup(keras.optimizers.schedules.CosineDecay(0.3, 20), 5)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert isinstance(again, Warmup)
    assert [float(again(i)) for i in range(25)] == [float(schedule(i)) for i in range(25)]


@pytest.mark.parametrize("steps", [0, -1, 1.5])
def test_a_warm_up_takes_steps(steps):
    with pytest.raises(ValueError, match="`steps` must be an integer >= 1"):
        Warmup(0.1, steps)


# What is compiled


def test_lenet5_1998_has_its_own_loss(digits):
    model = new_model(replace(CONFIG, model="lenet5-1998", label_smoothing=0.1), digits)
    assert isinstance(model.loss, MaximumAPosteriori) and model.loss.from_logits
    assert model.loss.label_smoothing == 0.1


def test_the_average_of_the_weights_is_kept(digits):
    """One step an epoch: the weights of every step are those of trainings of so many epochs."""
    config = replace(CONFIG, batch_size=0, ema=0.7, epochs=3)
    steps = []
    for epochs in (1, 2, 3):
        steps.append(_last(Run.start(f"plain{epochs}", replace(config, ema=None, epochs=epochs)),
                           digits))
    average = steps[0]
    for step in steps[1:]:
        average = [0.7 * a + 0.3 * w for a, w in zip(average, step)]
    run = Run.start("averaged", config)
    train(run, digits)
    kept = _last(run, digits)
    for a, b in zip(kept, average):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def _last(run, data):
    """The trained weights that the run's newest state holds."""
    if not (run.path / "best.keras").exists():
        train(run, data)
    model = new_model(run.config, data)
    (state,) = run.path.glob("state-*.npz")
    read_state(model, state)
    return [w.numpy() for w in model.trainable_weights]


def test_the_head_learns_at_its_own_rate(digits):
    """One step of SGD: each weight moves by its rate times its gradient."""
    first = replace(CONFIG, batch_size=0, epochs=1)
    source = Run.start("source", first)
    train(source, digits)
    moved = {}
    for name, rate in (("same", None), ("faster", 1.0)):
        config = replace(first, start_from=str(source.path), head_learning_rate=rate)
        before = [w.numpy() for w in new_model(config, digits).trainable_weights]
        run = Run.start(name, config)
        train(run, digits)
        moved[name] = [a - b for a, b in zip(_last(run, digits), before)]
    for i, (same, faster) in enumerate(zip(moved["same"], moved["faster"])):
        factor = 10 if i >= 4 else 1  # the last kernel and bias are the head's
        np.testing.assert_allclose(faster, factor * same, rtol=1e-3, atol=1e-6)


def test_a_frozen_layer_stays(digits):
    source = Run.start("source", CONFIG)
    train(source, digits)
    config = replace(CONFIG, start_from=str(source.path), freeze=1)
    run = Run.start("tuned", config)
    tuned, before = train(run, digits), source.model()
    for a, b in zip(tuned.get_layer("hidden1").get_weights(),
                    before.get_layer("hidden1").get_weights()):
        np.testing.assert_array_equal(a, b)
    assert (tuned.get_layer("hidden2").get_weights()[0]
            != before.get_layer("hidden2").get_weights()[0]).any()


@pytest.mark.parametrize("lean", [None, "float32"])
def test_auxiliary_classifiers_train_and_are_not_kept(digits, lean):
    data = data_sets.load("digits", image_size=65)
    few = [split.take(np.arange(16)) for split in (data.train, data.validation, data.test)]
    data = replace(data, train=few[0], validation=few[1], test=few[2])
    config = replace(CONFIG, model="googlenet-auxiliary", sizes={"width": 1 / 8}, epochs=1,
                     batch_size=8, lean=lean)
    run = Run.start("auxiliary", config)
    before = [w.numpy() for w in new_model(config, data).trainable_weights]
    model = train(run, data)
    assert model(data.test.images / 255).shape == (16, 10)
    (row,) = run.history()
    assert {"accuracy", "val_accuracy", "auxiliary1_loss", "logits_loss"} <= set(row)
    assert row["loss"] == pytest.approx(row["logits_loss"] + 0.3 * (
        row["auxiliary1_loss"] + row["auxiliary2_loss"]), rel=1e-3)
    after = _last(run, data)
    names = [w.path for w in new_model(config, data).trainable_weights]
    still = [name for name, a, b in zip(names, before, after) if (a == b).all()]
    assert not [name for name in still if "kernel" in name]


def test_rprop_takes_the_whole_batch(digits):
    config = replace(CONFIG, optimizer="rprop", batch_size=0, learning_rate=0.01, epochs=15)
    run = Run.start("rprop", config)
    train(run, digits)
    losses = [row["loss"] for row in run.history()]
    assert losses[-1] < 0.5 * losses[0]
    assert isinstance(new_model(config, digits).optimizer, Rprop)


@pytest.mark.parametrize("head_rate", [None, 0.02])
def test_adamw_takes_its_part_of_kernels_alone(digits, head_rate):
    def after_a_step(optimizer):
        model = new_model(replace(CONFIG, model="resnet20", optimizer=optimizer,
                                  sizes={"width": 0.2}), digits)
        model.optimizer = optimizer_of(optimizer, 0.01, weight_decay=0.5,
                                       head_learning_rate=head_rate, head=["logits"])
        before = [w.numpy() for w in model.trainable_weights]
        model.optimizer.apply([tf.ones_like(w) for w in before], model.trainable_weights)
        return model, before

    (decayed, before), (plain, _) = map(after_a_step, ("adamw", "adam"))
    for old, mine, other in zip(before, decayed.trainable_weights, plain.trainable_weights):
        rate = head_rate if head_rate and "logits" in mine.path else 0.01
        part = rate * 0.5 if "kernel" in mine.path else 0
        np.testing.assert_allclose(other - mine, part * old, atol=1e-7, err_msg=mine.path)


def test_adamw_needs_no_penalty(digits):
    config = replace(CONFIG, optimizer="adamw", weight_decay=0.3)
    model = new_model(config, digits)
    assert not model.losses and model.optimizer.weight_decay == 0.3
    assert new_model(replace(config, optimizer="adam"), digits).losses


@pytest.mark.parametrize("settings, message", [
    ({"label_smoothing": 1.0}, "--label-smoothing must be at least 0 and less than 1. Received: 1"),
    ({"ema": 1.0}, "--ema must lie between 0 and 1, both excluded. Received: 1"),
    ({"warmup": 4.0}, "--warmup must be at least 0 and below the 4 epochs .* Received: 4"),
    ({"optimizer": "rprop", "schedule": "cosine"}, "Rprop's steps set themselves"),
    ({"freeze": 2}, "--freeze and --head-learning-rate need --from RUN"),
    ({"head_learning_rate": 0.1}, "--freeze and --head-learning-rate need --from RUN"),
    ({"start_from": "nowhere"}, "There is no run 'nowhere'"),
    ({"sizes": {"width": 2}}, "'mlp' has no setting 'width'"),
])
def test_settings_that_do_not_fit(digits, settings, message):
    with pytest.raises(UsageError, match=message):
        new_model(replace(CONFIG, **settings), digits)


def test_the_default_is_softmax_and_cross_entropy():
    model = compile_model(build("mlp", (8, 8, 1), 3))
    assert type(model.loss).__name__ == "SoftmaxCrossEntropy" and model.compiled
