"""Each network of the catalogue, narrow: a lean step, a step in bfloat16, an export."""

import keras
import numpy as np
import pytest
from lean_twins import precision
from model_cases import ALL, fast, small

from app.compiling import compile_model
from app.export import export
from app.models import served
from app.serving import load
from custom_layers.lean import lean


def network(name):
    keras.utils.set_random_seed(0)
    model = small(name, statistics=([0.5] * 3, [0.3] * 3))
    return compile_model(model, network=name, optimizer="sgd", learning_rate=0.01)


def batch(model, count=8):
    rng = np.random.default_rng(0)
    x = rng.random((count, *model.input_shape[1:]), "float32")
    y = rng.integers(0, 4, count)
    return x, y if len(model.outputs) == 1 else [y] * len(model.outputs)


@pytest.mark.parametrize("name", ALL)
def test_a_lean_step_is_the_plain_step(name):
    """In float64 (batch statistics of a few pixels make float32's rounding large), in eager mode.

    Dropout is off: it alone would differ, by how it draws its masks.
    """
    with precision("float64"):
        plain, other = network(name), network(name)
    x, y = batch(plain)
    for model in (plain, other):
        for layer in model.layers:
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0
    view = lean(other)
    for model in (plain, view):
        model.run_eagerly = True
        model.train_on_batch(x, y)
    for a, b in zip(plain.trainable_weights, other.trainable_weights):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-7, atol=1e-9, err_msg=a.path)


@pytest.mark.parametrize("name", ALL)
def test_a_step_in_mixed_bfloat16(name):
    with precision("mixed_bfloat16"):
        model = network(name)
    model.run_eagerly = True
    before = [w.numpy() for w in model.trainable_weights]
    model.train_on_batch(*batch(model))
    after = [w.numpy() for w in model.trainable_weights]
    for weight, value in zip(model.trainable_weights, after):
        assert np.isfinite(value).all() and value.dtype == "float32", weight.path
    assert any((a != b).any() for a, b in zip(before, after))


@pytest.mark.parametrize("name", fast(("lenet5-1998", "alexnet", "googlenet-auxiliary",
                                       "resnet20")))
def test_it_exports(name, tmp_path):
    model = served(network(name))
    x, _ = batch(model, 3)
    path = export(model, name="net", class_names=list("abcd"), to=tmp_path, card={},
                  sample_images=np.round(x * 255) / 255)
    found = load(path)
    assert found is not None and (path / "saved_model.pb").stat().st_size > 1000
