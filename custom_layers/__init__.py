"""Handgrad's layers: Keras layers whose backward passes are written by hand.

Each layer is the Keras class of the same name with its arithmetic replaced by an op, so that
`from custom_layers import Conv2D` is all that a script has to change.
"""

from custom_layers.activations import LeakyReLU, ReLU, Sigmoid, Softmax, Step, Tanh
from custom_layers.convolution import Conv1D, Conv2D
from custom_layers.dense import Dense
from custom_layers.dropout import Dropout
from custom_layers.gradient import chain, differentiable
from custom_layers.gradient_check import check_gradients
from custom_layers.losses import HalfSquares, SigmoidCrossEntropy, SoftmaxCrossEntropy
from custom_layers.normalization import BatchNormalization
from custom_layers.pooling import AveragePooling2D, GlobalAveragePooling2D, MaxPooling2D
from custom_layers.reshaping import Flatten

__all__ = [
    "AveragePooling2D",
    "BatchNormalization",
    "Conv1D",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling2D",
    "HalfSquares",
    "LeakyReLU",
    "MaxPooling2D",
    "ReLU",
    "Sigmoid",
    "SigmoidCrossEntropy",
    "Softmax",
    "SoftmaxCrossEntropy",
    "Step",
    "Tanh",
    "chain",
    "check_gradients",
    "differentiable",
]
