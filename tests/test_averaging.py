"""Averaged predictions: ensembles and views."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from app.averaging import averaged_views, ensemble
from app.errors import UsageError
from app.models import build


def network(seed=0, name="lenet5", shape=(8, 8, 1), classes=3):
    keras.utils.set_random_seed(seed)
    return build(name, shape, classes, statistics=([0.5] * shape[2], [0.3] * shape[2]))


def images(count=5, shape=(8, 8, 1)):
    return np.random.default_rng(0).random((count, *shape), "float32")


def probabilities(model, x):
    return tf.nn.softmax(model(x)).numpy()


def test_an_ensemble_averages_probabilities(tmp_path):
    models, x = [network(seed) for seed in range(3)], images()
    together = ensemble(models)
    expected = np.mean([probabilities(model, x) for model in models], 0)
    np.testing.assert_allclose(probabilities(together, x), expected, rtol=1e-5)
    together.save(tmp_path / "together.keras")
    again = keras.models.load_model(tmp_path / "together.keras")
    np.testing.assert_allclose(again(x), together(x), rtol=1e-6)
    models[0].set_weights([w * 0 for w in models[0].get_weights()])  # it has its own weights
    np.testing.assert_allclose(probabilities(together, x), expected, rtol=1e-5)


def test_networks_of_any_kind_may_be_together():
    models = [network(0), network(1, "mlp")]
    assert ensemble(models)(images()).shape == (5, 3)


@pytest.mark.parametrize("other, what", [
    ({"shape": (9, 8, 1)}, "the same images. Expected: (8, 8, 1)"),
    ({"classes": 4}, "the same classes. Expected: (3,)"),
])
def test_models_that_differ_are_no_ensemble(other, what):
    with pytest.raises(UsageError) as error:
        ensemble([network(), network(1, **other)])
    assert what in str(error.value) and "of 'lenet5'" in str(error.value)


def test_views_are_mirrored_and_moved():
    model, x = network(), images()
    np.testing.assert_allclose(
        probabilities(averaged_views(model, "flip"), x),
        (probabilities(model, x) + probabilities(model, x[:, :, ::-1])) / 2, rtol=1e-5)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    places = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
    moved = [probabilities(model, padded[:, a:a + 8, b:b + 8]) for a, b in places]
    np.testing.assert_allclose(probabilities(averaged_views(model, "shift"), x),
                               np.mean(moved, 0), rtol=1e-5)
    both = averaged_views(model, "flip, shift")
    symmetric = both(x[:, :, ::-1])
    np.testing.assert_allclose(both(x), symmetric, rtol=1e-4, atol=1e-5)


def test_what_is_said_of_a_pixel_is_brought_back_to_it():
    x = images(shape=(8, 12, 1))
    seen = keras.Input((8, 12, 1))  # a network whose logits are the image: each view says the same
    same = keras.Model(seen, keras.layers.Concatenate()([seen, 2 * seen]))
    inner = (slice(None), slice(1, -1), slice(1, -1))  # black comes in at the border
    for views in ("flip", "shift", "flip,shift"):
        np.testing.assert_allclose(probabilities(averaged_views(same, views), x)[inner],
                                   probabilities(same, x)[inner], rtol=1e-5)


def test_unknown_view():
    with pytest.raises(UsageError, match="Unknown view 'flop'. Did you mean 'flip'"):
        averaged_views(network(), "flop")


def test_runs_become_one_export(command):
    for name in ("mlp", "perceptron"):
        assert command("train", name, "--epochs", "2", "--name", name)[0] == 0
    assert command("train", "mlp", "--epochs", "1", "--seed", "1", "--name", "other")[0] == 0
    code, value, _ = command("ensemble", "mlp", "perceptron", "--name", "both", "--views", "shift")
    assert code == 0 and value["exported"] == "saved_models/both/1"
    assert set(value["members"]) == {"mlp", "perceptron"} and value["test_accuracy"] > 0.5
    code, value, err = command("ensemble", "mlp", "other", "--name", "both")
    assert code == 2 and "must have the same test part" in err and "'other' with digits" in err
    code, value, err = command("ensemble", "mlp", "--name", "both")
    assert code == 2 and "at least 2 runs. Received: 1" in err
