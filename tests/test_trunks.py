"""Networks as trunks: their maps by stride, and what is built on them."""

import keras
import numpy as np
import pytest

from app.detection import DETECTORS
from app.description.nic import nic
from app.errors import UsageError
from app.models.trunks import feature_maps, trunk_of


@pytest.mark.parametrize(("name", "shape", "maps"), [
    ("resnet18", (64, 64, 3), {1: "images", 2: "conv1_relu", 4: "conv2_2_relu", 8: "conv3_2_relu",
                               16: "conv4_2_relu", 32: "conv5_2_relu"}),
    ("resnet20", (37, 50, 1), {1: "conv2_3_relu", 2: "conv3_3_relu", 4: "conv4_3_relu"}),
    ("nin", (64, 64, 3), {1: "cccp2", 2: "cccp4", 4: "cccp5"}),  # its head is a convolution
    ("keras-mobilenetv2", (64, 64, 3), {
        1: "images", 2: "block_1_expand_relu", 4: "block_3_expand_relu",
        8: "block_6_expand_relu", 16: "block_13_expand_relu", 32: "out_relu"}),
])
def test_the_last_map_of_each_stride(name, shape, maps):
    found = feature_maps(trunk_of(name, shape, width=0.1))
    assert {stride: x._keras_history.operation.name for stride, x in found.items()} == maps
    for stride, x in found.items():
        assert x.shape[1:3] == (-(-shape[0] // stride), -(-shape[1] // stride))


@pytest.mark.parametrize("name", DETECTORS)
def test_each_detector_predicts_as_much_on_any_trunk(name):
    def built(**settings):
        return DETECTORS[name].build((64, 64, 3), 4, width=0.1, **settings)

    small, other = built(), built(trunk="resnet18")
    assert keras.tree.map_structure(lambda x: x.shape, other.output) == keras.tree.map_structure(
        lambda x: x.shape, small.output)
    momenta = {layer.momentum for layer in other.layers if hasattr(layer, "momentum")}
    assert momenta <= {0.9} and other.count_params() != small.count_params()


def test_a_trunk_of_small_strides_is_gone_on_with():
    network = DETECTORS["ssd"].build((64, 48, 1), 3, width=0.1, trunk="resnet20")
    assert network.get_layer("predict8").input.shape[1:3] == (8, 6)
    assert network.get_layer("beyond8").input is network.get_layer("conv4_3_relu").output


def test_a_trunk_has_the_weights_it_is_given(tmp_path):
    """And is given images as they expect them, whatever those of the training part are like."""
    published = keras.applications.MobileNetV2(include_top=False, weights=None,
                                               input_shape=(64, 64, 3))
    published.save_weights(tmp_path / "weights.h5.weights.h5")
    given = str(tmp_path / "weights.h5.weights.h5")
    for network in (
            DETECTORS["ssd"].build((64, 64, 3), 3, trunk="keras-mobilenetv2", weights=given,
                                   statistics=((0.1,) * 3, (0.5,) * 3)),
            nic((64, 64, 3), 9, 5, trunk="keras-mobilenetv2", weights=given).get_layer("trunk")):
        np.testing.assert_array_equal(network.get_layer("Conv1").get_weights()[0],
                                      published.get_layer("Conv1").get_weights()[0])
        assert "normalize" not in [layer.name for layer in network.layers]
        images = np.random.default_rng(0).random((1, 64, 64, 3), np.float32)
        maps = keras.Model(network.input, network.get_layer("out_relu").output)
        np.testing.assert_allclose(maps(images), published(2 * images - 1), atol=1e-4)


@pytest.mark.parametrize(("settings", "said"), [
    ({"trunk": "resnet19"}, "Unknown model 'resnet19'. Did you mean 'resnet18'"),
    ({"weights": "imagenet"}, "--weights is for trunks of keras.applications, as in --trunk "
                              "keras-resnet50. Received: --trunk small"),
    ({"trunk": "resnet18", "weights": "imagenet"}, "Received: --trunk resnet18"),
    ({"trunk": "mlp"}, r"The last map of the trunk has \(227, 227\) pixels on images"),
    ({"trunk": "alexnet"}, r"The last map of the trunk has \(6, 6\) pixels on images"),
])
def test_trunks_that_do_not_fit(settings, said):
    with pytest.raises((UsageError, ValueError), match=said):
        DETECTORS["ssd"].build((227, 227, 3), 3, width=0.1, **settings)
