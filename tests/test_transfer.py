"""Fine-tuning: a trained trunk under a new head."""

import keras
import numpy as np
import pytest

from app.errors import UsageError
from app.models import build
from app.runs import Config, Run
from app.tasks import find_task
from app.training import new_model
from app.transfer import head_of, statistics_of, transfer


def network(name="lenet5", shape=(8, 8, 1), classes=3, seed=0, **settings):
    keras.utils.set_random_seed(seed)
    channels = shape[2]
    return build(name, shape, classes, statistics=([0.4] * channels, [0.2] * channels), **settings)


def test_the_trunk_is_taken_and_the_head_is_new():
    source, model = network(seed=1), network(classes=5)
    fresh = model.get_layer("logits").get_weights()
    transfer(model, source)
    for name in ("C1", "C3", "C5", "F6"):
        for a, b in zip(model.get_layer(name).get_weights(), source.get_layer(name).get_weights()):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(model.get_layer("logits").get_weights()[0], fresh[0])
    assert all(layer.trainable for layer in model.layers)


def test_a_network_of_masks_goes_on_at_another_size_of_its_images():
    networks = find_task("segment").networks
    small, large = (build("segnet-basic-photo", shape, 4, networks, width=1 / 16)
                    for shape in ((24, 36, 3), (36, 48, 3)))
    transfer(large, small)
    assert head_of(large) == ["scores"]
    np.testing.assert_array_equal(large.get_layer("deconv1_1").get_weights()[0],
                                  small.get_layer("deconv1_1").get_weights()[0])


@pytest.mark.parametrize("task, name, settings", [
    ("segment", "unet", {}), ("segment", "fcn-8s", {"width": 1 / 64}), ("describe", "nic", {
        "length": 6, "width": 1 / 16}),
    *(("detect", name, {"width": 1 / 16}) for name in find_task("detect").networks)])
def test_the_head_is_all_that_depends_on_the_classes(task, name, settings):
    task = find_task(task)
    source, model = (build(name, (64, 64, 1), classes, task.networks, **settings,
                           statistics=([0.4], [0.2])) for classes in (5, 7))
    transfer(model, source, head=task.head(model))
    assert statistics_of(source)[0] == pytest.approx([0.4])


def test_the_first_layers_stay():
    model = network(classes=5)
    transfer(model, network(seed=1), freeze=2)
    assert [layer.name for layer in model.layers if layer.weights and not layer.trainable] == [
        "C1", "C3"]


@pytest.mark.parametrize("name, settings, head", [
    ("lenet5-1998", {}, ["distances"]), ("nin", {}, ["cccp6"]), ("resnet20", {}, ["logits"]),
    ("googlenet-auxiliary", {"shape": (65, 65, 1), "width": 1 / 16},
     ["auxiliary1", "auxiliary2", "logits"])])
def test_heads(name, settings, head):
    model = network(name, **settings)
    assert sorted(head_of(model)) == head
    transfer(network(name, **{**settings, "classes": 7}), model)


def test_the_normalisation_is_the_sources():
    mean, std = statistics_of(network())
    np.testing.assert_allclose([mean[0], std[0]], [0.4, 0.2], rtol=1e-6)
    assert statistics_of(build("mlp", (8, 8, 1), 3)) is None


@pytest.mark.parametrize("freeze", [-1, 5])
def test_a_freeze_count_beyond_the_network(freeze):
    message = f"--freeze must be 0 to 4, .*'lenet5'. Received: {freeze}"
    with pytest.raises(UsageError, match=message):
        transfer(network(), network(), freeze=freeze)


@pytest.mark.parametrize("source, message", [
    (("lenet5", (8, 8, 3)), r"images 8x8x3.*images 8x8x1.*'C1': expected \[\(5, 5, 1, 6\), \(6,\)\]"
                            r". Received: \[\(5, 5, 3, 6\), \(6,\)\]"),
    (("lenet5", (48, 48, 1)), "'C5'"),
    (("mlp", (8, 8, 1)), "weights of 'mlp'.*'lenet5'.*'C1'.*no such layer"),
])
def test_a_trunk_that_does_not_fit_names_the_first_layer(source, message):
    with pytest.raises(UsageError, match=message):
        transfer(network(), network(*source))


# Through runs


@pytest.mark.parametrize("settings, message", [
    ({"start_from": "x", "sizes": {"weights": "imagenet"}}, "--from .* --weights .*: imagenet"),
    ({"start_from": "x", "whiten": "zca"}, "--from .* --whiten .*one of them. Received: zca"),
    ({"sizes": {"weights": "imagenet"}, "whiten": "pca"}, "--weights .* --whiten .*: pca"),
    ({"freeze": 1}, "--freeze and --head-learning-rate need --from RUN"),
])
def test_what_is_expected_of_images_is_said_once(settings, message, few_digits):
    with pytest.raises(UsageError, match=message):
        new_model(Config("keras-vgg16", "digits", **settings), few_digits(96, 50, 50))


def test_a_run_gives_its_other_outputs_too(tmp_path):
    """A network with auxiliary classifiers starts from another's whole trunk."""
    source = network("googlenet-auxiliary", (65, 65, 1), width=1 / 16)
    (tmp_path / "run").mkdir()
    source.save(tmp_path / "run" / "best.keras")
    run = Run(tmp_path / "run", Config("googlenet-auxiliary", "digits"))
    assert len(run.model().outputs) == 1 and len(run.model(whole=True).outputs) == 3
    transfer(network("googlenet-auxiliary", (65, 65, 1), 7, width=1 / 16), run.model(whole=True))


def test_a_run_is_not_replaced_by_what_starts_from_it(command):
    train = ("train", "mlp", "--epochs", "1", "--name", "a")
    assert command(*train)[0] == 0
    code, _, err = command(*train, "--from", "a", "--overwrite")
    assert code == 2 and "--from names the run that --overwrite would replace" in err
    assert Run.open("a").model() is not None
