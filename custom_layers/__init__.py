"""Handgrad's layers: Keras layers whose backward passes are written by hand.

Each layer is the Keras class of the same name with its arithmetic replaced by an op, so that
`from custom_layers import Conv2D` is all that a script has to change.
"""

from custom_layers.activations import LeakyReLU, ReLU, Sigmoid, Softmax, Step, Tanh
from custom_layers.convolution import Conv1D, Conv2D
from custom_layers.dense import Dense
from custom_layers.depthwise import DepthwiseConv2D, SeparableConv2D
from custom_layers.detection_losses import SigmoidFocalCrossEntropy, SmoothL1
from custom_layers.dropout import Dropout
from custom_layers.embedding import Embedding
from custom_layers.geometry import Cropping2D, Rescaling, Reshape, ZeroPadding2D
from custom_layers.global_pooling import GlobalAveragePooling1D, GlobalMaxPooling2D
from custom_layers.gradient import chain, differentiable
from custom_layers.gradient_check import check_gradients
from custom_layers.group_norms import GroupNormalization, LayerNormalization
from custom_layers.gru import GRU
from custom_layers.initializers import Dirac, RandomSigns, initial_values
from custom_layers.likelihood import CrossEntropy, NegativeLogLikelihood
from custom_layers.local_response import LocalResponseNormalization
from custom_layers.losses import HalfSquares, SigmoidCrossEntropy, SoftmaxCrossEntropy
from custom_layers.lstm import LSTM
from custom_layers.merging import Add, Concatenate, Multiply
from custom_layers.normalization import BatchNormalization
from custom_layers.optimizers import Rprop
from custom_layers.overlap import SoftmaxJaccard
from custom_layers.pooling import AveragePooling2D, GlobalAveragePooling2D, MaxPooling2D
from custom_layers.pyramid_pooling import SpatialPyramidPooling2D
from custom_layers.rbf import RBF, MaximumAPosteriori, lenet_codes
from custom_layers.regions import RoIAlign, RoIPooling
from custom_layers.regularizers import WeightDecay
from custom_layers.reshaping import Flatten
from custom_layers.smooth_activations import GELU, ScaledTanh, SiLU
from custom_layers.smooth_pooling import GaussianPooling2D, L2Pooling2D
from custom_layers.sparse_convolution import LearnedCombination2D, MixingEntropy, SparseConv2D
from custom_layers.spatial_dropout import SpatialDropout2D
from custom_layers.subsampling import Subsampling2D
from custom_layers.tasks import activation_for, loss_for
from custom_layers.transposed_convolution import BilinearUpsampling, Conv2DTranspose
from custom_layers.unpooling import MaxPoolingWithIndices2D, MaxUnpooling2D
from custom_layers.upsampling import UpSampling2D

__all__ = [
    "Add",
    "AveragePooling2D",
    "BatchNormalization",
    "BilinearUpsampling",
    "Concatenate",
    "Conv1D",
    "Conv2D",
    "Conv2DTranspose",
    "Cropping2D",
    "CrossEntropy",
    "Dense",
    "DepthwiseConv2D",
    "Dirac",
    "Dropout",
    "Embedding",
    "Flatten",
    "GELU",
    "GRU",
    "GaussianPooling2D",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "GroupNormalization",
    "HalfSquares",
    "L2Pooling2D",
    "LSTM",
    "LayerNormalization",
    "LeakyReLU",
    "LearnedCombination2D",
    "LocalResponseNormalization",
    "MaxPooling2D",
    "MaxPoolingWithIndices2D",
    "MaxUnpooling2D",
    "MaximumAPosteriori",
    "MixingEntropy",
    "Multiply",
    "NegativeLogLikelihood",
    "RBF",
    "RandomSigns",
    "ReLU",
    "Rescaling",
    "Reshape",
    "RoIAlign",
    "RoIPooling",
    "Rprop",
    "ScaledTanh",
    "SeparableConv2D",
    "SiLU",
    "Sigmoid",
    "SigmoidCrossEntropy",
    "SigmoidFocalCrossEntropy",
    "SmoothL1",
    "Softmax",
    "SoftmaxCrossEntropy",
    "SoftmaxJaccard",
    "SparseConv2D",
    "SpatialDropout2D",
    "SpatialPyramidPooling2D",
    "Step",
    "Subsampling2D",
    "Tanh",
    "UpSampling2D",
    "WeightDecay",
    "ZeroPadding2D",
    "activation_for",
    "chain",
    "check_gradients",
    "differentiable",
    "initial_values",
    "lenet_codes",
    "loss_for",
]
