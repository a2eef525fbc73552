"""Recipes: what they list, train, keep, and hold their result against."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import tensorflow as tf

from app import data as data_sets
from app import xor
from app.models import MODELS
from app.recipes import RECIPES, Recipe
from app.runs import Config, Run
from app.training import check


@pytest.fixture
def recipe(command):
    """Runs `handgrad recipe ...`; its exit code, JSON object (if any) and errors."""
    return partial(command, "recipe")


def test_all_are_listed(recipe):
    code, value, _ = recipe()
    assert code == 0 and [r["name"] for r in value["recipes"]] == ["xor", *RECIPES]
    assert all(r["source"] and r["data"] for r in value["recipes"][1:])


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_fits_its_network(name):
    """On a few random images of its data's shape."""
    config = RECIPES[name].config
    shape = {"digits": (8, 8, 1), "mnist": (28, 28, 1), "cifar10": (32, 32, 3)}[config.data]
    digits = data_sets.load("digits")
    rng = np.random.default_rng(0)
    parts = {part: replace(split.take(np.arange(256)), images=rng.integers(
        0, 256, (256, *shape), np.uint8)) for part, split in digits.splits.items()}
    check(config, replace(digits, **parts))
    assert config.model in MODELS and RECIPES[name].seeds >= 1


def test_a_recipe_trains_from_each_seed_once(recipe, monkeypatch):
    config = Config("mlp", "digits", epochs=1, batch_size=64, on_train_and_validation=True)
    monkeypatch.setitem(RECIPES, "tiny", Recipe("small", config, 1.5, "nobody", 2,
                                                views="shift"))
    code, value, err = recipe("tiny", "--seeds", "1")
    assert code == 0 and value["published"] == 1.5 and "seed 0" in err
    (first,) = value["results"]
    code, value, err = recipe("tiny")
    assert code == 0 and [r["seed"] for r in value["results"]] == [0, 1]
    assert value["results"][0] == first
    assert value["median_error"] == np.median([r["error"] for r in value["results"]])
    assert 0 < value["results"][1]["error"] < 60 and value["results"][1] != first


def test_several_seeds_are_judged_as_one(recipe, monkeypatch, few_digits):
    """Where their test part is the same; digits are divided by the seed."""
    config = Config("mlp", "digits", epochs=1, batch_size=64, on_train_and_validation=True)
    monkeypatch.setitem(RECIPES, "tiny", Recipe("small", config, 1.5, "nobody", 2, ensemble=True))
    code, _, err = recipe("tiny")
    assert code == 1 and "different test parts: their predictions have no mean" in err
    data = few_digits(96, 50, 50)
    monkeypatch.setattr("app.data.load", lambda source, **settings: data)
    monkeypatch.setitem(RECIPES, "same", Recipe("small", config, 1.5, "nobody", 3, ensemble=True))
    code, value, _ = recipe("same")
    assert code == 0, err
    models = [Run.open(f"recipe-same-{seed}").model() for seed in range(3)]
    x = data.test.images / np.float32(255)
    mean = np.mean([tf.nn.softmax(model(x)) for model in models], axis=0)
    assert value["ensemble_error"] == pytest.approx(
        100 * np.mean(mean.argmax(1) != data.test.labels))


@pytest.mark.parametrize("arguments, message", [
    (("digit",), "Unknown recipe 'digit'. Did you mean 'digits'?"),
    (("digits", "--seeds", "0"), "--seeds must be at least 1. Received: 0"),
])
def test_wrong_requests(recipe, arguments, message):
    code, value, err = recipe(*arguments)
    assert (code, value) == (2, None) and message in err and err.count("\n") == 1


def test_xor_is_exact_and_one_layer_fails(recipe):
    code, value, _ = recipe("xor")
    assert code == 0 and value["exact"] and value["gates"] == xor.TRUTH
    assert value["single_layer_right"] == 3 and value["milliseconds"] < 1000


@pytest.mark.parametrize("name, right", [("AND", 4), ("NAND", 4), ("OR", 4), ("XOR", 3)])
def test_the_best_line(name, right):
    """A single layer can do the gates, but not XOR."""
    assert np.sum(np.equal(xor.best_line(xor.TRUTH[name]), xor.TRUTH[name])) == right
