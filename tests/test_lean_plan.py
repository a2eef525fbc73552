"""What lean training keeps: the cheapest cut, the plan as a table, a budget."""

import itertools

import keras
import numpy as np
import pytest
from lean_cases import CASES, values
from lean_twins import assert_same, precision, shaken

from benchmarks.lean_networks import NETWORKS
from custom_layers.lean import lean
from custom_layers.lean_cut import minimum_cut


def makes(kept, made, needed):
    """Whether everything needed is kept or can be made from what is kept."""
    def there(result):
        return result in kept or (bool(made.get(result)) and all(map(there, made[result])))

    return all(map(there, needed))


def cheapest(sizes, made, needed):
    """The size of the cheapest set, by trying all."""
    return min(sum(sizes[r] for r in kept)
               for n in range(len(sizes) + 1) for kept in itertools.combinations(sizes, n)
               if makes(set(kept), made, needed))


@pytest.mark.parametrize("seed", range(40))
def test_the_cut_is_the_cheapest_of_all(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 10))
    sizes = {i: int(rng.integers(1, 50)) for i in range(n)}
    made = {i: [int(j) for j in rng.choice(i, min(i, int(rng.integers(1, 3))), replace=False)]
            for i in range(1, n) if rng.random() < 0.7}
    needed = {int(i) for i in rng.choice(n, int(rng.integers(1, n + 1)), replace=False)}
    kept = minimum_cut(sizes, made, needed)
    assert makes(kept, made, needed)
    assert sum(sizes[r] for r in kept) == cheapest(sizes, made, needed)


def test_of_equal_results_the_last_is_kept():
    """A bias and an activation of a kept size: nothing of them has to run again."""
    assert minimum_cut({"a": 5, "b": 5, "c": 5}, {"b": ["a"], "c": ["b"]}, {"c"}) == {"c"}


def unit_chain():
    layers = keras.layers
    x = y = keras.Input((16, 16, 3))
    for i in range(3):
        y = layers.Conv2D(32, 3, padding="same", use_bias=False, name=f"conv{i}")(y)
        y = layers.ReLU(name=f"relu{i}")(layers.BatchNormalization(name=f"norm{i}")(y))
    return keras.Model(x, layers.GlobalAveragePooling2D(name="mean")(y))


def test_the_plan_of_a_chain_by_hand():
    """Of colours the convolution runs again, of the others the results are kept, once each."""
    plan = lean(unit_chain()).plan
    size = 16 * 16 * 32 * 4
    rows = {row.layer: row for row in plan.rows}
    assert [rows[f"conv{i}"].kept for i in range(3)] == [0, size, size]
    assert all(rows[f"{kind}{i}"].kept == 0 for kind in ("norm", "relu") for i in range(3))
    assert plan.kept_bytes == 2 * size + rows["mean"].kept
    assert plan.stock_bytes == 6 * size  # what normalisation reads, and what ReLU returns
    assert plan.stock == []


@pytest.mark.parametrize("name", ["resnet20", "vgg_bn"])
def test_a_budget_is_kept_for_more_work(name):
    model = NETWORKS[name]((32, 32, 3), 10)
    plans = [lean(model, budget=budget).plan for budget in (None, 0.4, 0.3, 0.2)]
    for plan, budget in zip(plans[1:], (0.4, 0.3, 0.2)):
        assert plan.kept_bytes <= budget * plan.stock_bytes
    work = [plan.more_work for plan in plans]
    assert work == sorted(work)
    assert work[0] < 0.025 < work[-1] < 1  # ResNet-20 runs its first convolution twice


@pytest.mark.parametrize(("channels", "settings", "winners"), [
    (1, {}, False), (1, {"budget": 0.9}, True), (1, {"save": "bfloat16"}, True), (32, {}, True)])
def test_winners_are_kept_where_they_cost_little_time(channels, settings, winners):
    """Behind 9 products a result only where memory is asked for, behind 288 always."""
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((8, 8, channels)), layers.Conv2D(8, 3), layers.MaxPooling2D(name="pool")])
    (row,) = (row for row in lean(model, **settings).plan.rows if row.layer == "pool")
    assert ("winners" in row.how) == winners


def test_a_budget_that_cannot_be_kept_says_what_can():
    """Who won in max pooling is kept whatever the budget."""
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((8, 8, 3)), layers.Conv2D(8, 3, activation="relu"), layers.MaxPooling2D()])
    with pytest.warns(UserWarning, match="The least that can be kept is 0\\..*budget=1e-09"):
        lean(model, budget=1e-9).plan


@pytest.mark.parametrize("name", ["residual units", "a chain of concatenations",
                                  "unpooling by winners", "regions of interest"])
def test_within_a_budget_the_gradients_are_stock_s(name):
    with precision("float64"):
        place, outputs = CASES[name]()
        model = shaken(keras.Model(place, outputs))
        assert_same(model, lean(model, budget=0.2), values(place), "graph")
