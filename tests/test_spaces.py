"""Search spaces: their defaults, corners, and what is declared."""

import inspect

import keras_tuner
import pytest
from model_cases import SMALLEST

from app import data as data_sets
from app.errors import UsageError
from app.models import MODELS, build
from app.models.arithmetic import shapes_only
from app.results import trainable_parameters
from app.runs import Config
from app.training import check
from tuning.oracles import objective_of, oracle_of
from tuning.spaces import SPACES, choose, find_space, space


@pytest.mark.parametrize("name", SPACES)
def test_defaults_are_the_plain_model(name):
    hp = keras_tuner.HyperParameters()
    sizes = choose(hp, name, 1000)["sizes"]
    plain = inspect.signature(MODELS[name].function).parameters
    assert {k: plain[k].default for k in sizes} == {
        k: tuple(v) if isinstance(v, list) else v for k, v in sizes.items()}
    side = max(28, SMALLEST.get(name, 1))
    with shapes_only():
        found, expected = (build(name, (side, side, 1), 10, **given) for given in (sizes, {}))
    assert trainable_parameters(found) == trainable_parameters(expected)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("corner", [0, -1])
def test_spaces_build_at_their_corners(name, corner):
    hp = keras_tuner.HyperParameters()
    choose(hp, name, 1000)
    for parameter in list(hp.space):
        hp.values[parameter.name] = list(ends(parameter))[corner]
    side = max(12, SMALLEST.get(name, 1))
    with shapes_only():
        model = build(name, (side, side, 1), 3, **find_space(name)(hp))
    assert model.outputs[0].shape == (None, 3)


def test_a_space_gives_compiled_models():
    """As Keras Tuner's own tuners take them."""
    model = space("lenet5", (28, 28, 1), 10, 1000)(keras_tuner.HyperParameters())
    assert model.compiled and trainable_parameters(model) == 61_706


def ends(parameter):
    if isinstance(parameter, keras_tuner.engine.hyperparameters.Boolean):
        return False, True
    if hasattr(parameter, "min_value"):
        return parameter.min_value, parameter.max_value
    return parameter.values


@pytest.mark.parametrize("name", SPACES)
def test_the_whole_space_is_declared_at_once(name):
    hp = keras_tuner.HyperParameters()
    choose(hp, name, 1000)
    declared = {p.name for p in hp.space}
    assert {"batch_size", "learning_rate", "optimizer", "weight_decay"} <= declared
    for corner in (0, -1):
        for parameter in list(hp.space):
            hp.values[parameter.name] = list(ends(parameter))[corner]
        choose(hp, name, 1000)
        assert {p.name for p in hp.space} == declared


def test_the_craft_of_training_is_searched_when_asked_for():
    hp = keras_tuner.HyperParameters()
    chosen = choose(hp, "mlp", 1000, with_craft=True)
    plain = choose(keras_tuner.HyperParameters(), "mlp", 1000)
    crafts = {"schedule", "warmup", "label_smoothing", "ema", "augment"}
    assert set(chosen) - set(plain) == crafts <= {p.name for p in hp.space}
    for corner in (0, -1):
        for parameter in list(hp.space):
            hp.values[parameter.name] = list(ends(parameter))[corner]
        config = Config("mlp", "digits", **choose(hp, "mlp", 1000, with_craft=True))
        check(config, data_sets.load("digits"))


def test_sizes_that_are_not_there_have_no_value():
    oracle = oracle_of("random", objective_of("val_accuracy"), 60, 1, 0)
    choose(oracle.hyperparameters, "mlp", 1000)
    depths = set()
    for i in range(40):
        oracle.start_order.append(str(i))
        values = oracle.populate_space("1")["values"]
        units = [name for name in values if name.startswith("units")]
        assert units == [f"units{i + 1}" for i in range(values["layers"])]
        depths.add(len(units))
    assert depths == {1, 2, 3}


@pytest.mark.parametrize("images, sizes", [(9, [9]), (16, [16]), (100, [16, 32, 64])])
def test_batch_sizes_are_at_most_the_images(images, sizes):
    hp = keras_tuner.HyperParameters()
    assert choose(hp, "mlp", images)["batch_size"] == min(32, sizes[-1])
    assert {p.name: p for p in hp.space}["batch_size"].values == sizes


def test_unknown_space():
    with pytest.raises(UsageError, match="Unknown search space 'perceptron'.*Known: .*mlp"):
        find_space("perceptron")
