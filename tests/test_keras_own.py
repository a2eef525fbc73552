"""Keras's own tests of its layers, run with our class in the place of Keras's.

The modules are part of the installed package. Each takes its classes from `layers` (or from the
module of one layer); that name is given ours where we have one. Quantisation and LoRA are
Keras's extensions of its own arithmetic and are left out.
"""

import importlib.util
import sys
import types

import keras
import pytest
from keras.src import testing

import custom_layers

pytestmark = pytest.mark.filterwarnings("default")

MODULES = {
    "convolutional.depthwise_conv_test": {"DepthwiseConv2D"},
    "convolutional.separable_conv_test": {"SeparableConv2D"},
    "convolutional.conv_transpose_test": {"Conv2DTranspose"},
    "reshaping.up_sampling2d_test": {"UpSampling2D"},
    "core.dense_test": {"Dense"},
    "core.embedding_test": {"Embedding"},
    "rnn.lstm_test": {"LSTM"},
    "rnn.gru_test": {"GRU"},
    "rnn.bidirectional_test": {"GRU", "LSTM"},
    "convolutional.conv_test": {"Conv1D", "Conv2D"},
    "pooling.max_pooling_test": {"MaxPooling2D"},
    "pooling.average_pooling_test": {"AveragePooling2D"},
    "pooling.global_average_pooling_test": {"GlobalAveragePooling1D", "GlobalAveragePooling2D"},
    "pooling.global_max_pooling_test": {"GlobalMaxPooling2D"},
    "normalization.batch_normalization_test": {"BatchNormalization"},
    "regularization.dropout_test": {"Dropout"},
    "activations.relu_test": {"ReLU"},
    "activations.leaky_relu_test": {"LeakyReLU"},
    "activations.softmax_test": {"Softmax"},
    "reshaping.flatten_test": {"Flatten"},
    "merging.merging_test": {"Add", "Concatenate", "Multiply"},
    "normalization.group_normalization_test": {"GroupNormalization"},
    "normalization.layer_normalization_test": {"LayerNormalization"},
    "preprocessing.rescaling_test": {"Rescaling"},
    "regularization.spatial_dropout_test": {"SpatialDropout2D"},
    "reshaping.cropping2d_test": {"Cropping2D"},
    "reshaping.reshape_test": {"Reshape"},
    "reshaping.zero_padding2d_test": {"ZeroPadding2D"},
}
LEFT_OUT = ("quantiz", "lora", "int8", "int4", "float8", "gptq", "awq", "grain")


def with_ours(module):
    """A namespace with the names of `module`, our classes where we have them."""
    names = vars(module) | {n: getattr(custom_layers, n) for n in custom_layers.__all__
                            if hasattr(module, n)}
    return types.SimpleNamespace(**names)


def test_cases(path):
    """The test classes of one of Keras's modules, which now test our layer."""
    with pytest.MonkeyPatch.context() as patch:
        for name in MODULES[path]:  # tables of parameters hold classes of the moment of import
            patch.setattr(keras.src.layers, name, getattr(custom_layers, name))
        if importlib.util.find_spec("grain") is None:
            patch.setitem(sys.modules, "grain", types.ModuleType("grain"))
        module = importlib.import_module(f"keras.src.layers.{path}")
    for name, value in list(vars(module).items()):
        if isinstance(value, types.ModuleType) and value.__name__.startswith("keras.src.layers"):
            setattr(module, name, with_ours(value))
    for name, value in list(vars(module).items()):
        if isinstance(value, type) and issubclass(value, testing.TestCase):
            methods = {m: None for m in dir(value) if any(word in m for word in LEFT_OUT)}
            yield name, type(name, (value,), methods)


test_cases.__test__ = False
for path in MODULES:
    globals().update(test_cases(path))


@pytest.mark.parametrize("path", MODULES)
def test_the_tests_test_our_class(path):
    module = importlib.import_module(f"keras.src.layers.{path}")
    replaced = {
        name for value in vars(module).values() if isinstance(value, types.SimpleNamespace)
        for name in MODULES[path] if getattr(value, name, None) is getattr(custom_layers, name)
    }
    assert replaced == MODULES[path]
    assert all(getattr(keras.layers, n) is not getattr(custom_layers, n) for n in replaced)
