"""Weights of classes by how rare they are."""

from dataclasses import replace

import numpy as np
import pytest

from app import scenes
from app.balance import BALANCES, class_weights
from app.errors import HandgradError, UsageError
from app.runs import Config
from app.tasks import find_task
from app.training import new_model
from custom_layers import SoftmaxCrossEntropy, SoftmaxJaccard

NAMES = ("often", "rare", "rarest")
COUNTS = np.array([890, 100, 10])


@pytest.fixture(autouse=True)
def few_scenes(monkeypatch):
    monkeypatch.setattr(scenes, "PARTS", {"train": 64, "validation": 8, "test": 8})


def test_weights_by_hand():
    shares = COUNTS / 1000
    for way, raw in (("median", 0.1 / shares), ("log", 1 / np.log(1.02 + shares)),
                     ("mild", 1 / np.log(1.1 + shares))):
        np.testing.assert_allclose(class_weights(way, COUNTS, NAMES), raw / (shares @ raw))


@pytest.mark.parametrize("way", BALANCES)
def test_rarer_classes_weigh_more_and_the_mean_is_1(way):
    weights = np.array(class_weights(way, COUNTS, NAMES))
    assert (np.diff(weights) > 0).all()
    assert weights @ COUNTS / COUNTS.sum() == pytest.approx(1)


def test_what_cannot_be_balanced_is_said():
    with pytest.raises(UsageError, match="Unknown balance 'mean'.*median, log, mild"):
        class_weights("mean", COUNTS, NAMES)
    with pytest.raises(HandgradError, match="Missing: rare$"):
        class_weights("log", np.array([2, 0, 1]), NAMES)


@pytest.mark.parametrize(("task", "network", "sizes"), [
    ("classify", "mlp", {}), ("classify", "lenet5-1998", {}), ("segment", "unet", {"width": 0.2})])
def test_the_loss_has_the_weights_of_the_training_part(task, network, sizes):
    data = find_task(task).load("digits" if task == "classify" else "digit-scenes",
                                **({"image_size": 32} if network == "lenet5-1998" else {}))
    config = Config(network, data.name, task, balance="median", sizes=sizes)
    loss = new_model(config, data).loss
    counts = data.count(data.train.labels, len(data.class_names))
    assert (loss[0] if isinstance(loss, list) else loss).class_weights == class_weights(
        "median", counts, data.class_names)
    assert new_model(replace(config, balance=None), data).loss.class_weights is None


def test_the_loss_of_masks_has_a_soft_mean_iou():
    data = find_task("segment").load("digit-scenes")
    config = Config("unet", data.name, "segment", balance="mild", jaccard=0.5,
                    sizes={"width": 0.2})
    loss = new_model(config, data).loss
    assert isinstance(loss, SoftmaxJaccard)
    assert loss.jaccard == 0.5 and len(loss.class_weights) == len(data.class_names)
    assert type(new_model(replace(config, jaccard=0.0), data).loss) is SoftmaxCrossEntropy


@pytest.mark.parametrize(("task", "network", "settings", "said"), [
    ("detect", "ssd", {"balance": "log"}, "--balance is for classification and segmentation"),
    ("detect", "ssd", {"jaccard": 1.0}, "--jaccard is for segmentation"),
    ("classify", "mlp", {"jaccard": 1.0}, "--jaccard is for segmentation")])
def test_other_tasks_refuse_them(task, network, settings, said):
    data = find_task(task).load("digits" if task == "classify" else "digit-scenes")
    config = Config(network, data.name, task, **settings)
    with pytest.raises(UsageError, match=f"{said}. Received: --task {task}"):
        new_model(config, data)


def test_a_negative_weight_is_refused():
    with pytest.raises(UsageError, match="--jaccard must be at least 0. Received: -1"):
        Config("unet", "camvid", "segment", jaccard=-1)
