"""Bad arguments: a ValueError that names the class, the argument, what was expected, received."""

import pytest

import custom_layers

NAN, INFINITE = float("nan"), float("inf")
K = {"kernel_size": 3}
FK = {"filters": 2, **K}
TABLE = {"table": ((0, 1), (2,)), **K}


def bad(name, *words, **arguments):
    """A class, arguments that it refuses, words that the message holds."""
    return name, arguments, words


ARGUMENTS = [
    *(bad("Dense", "`units`", "positive integer", units=n) for n in (0, -3, 2.5)),
    *(bad(name, word, **{**arguments, **wrong})
      for name, arguments in (("Conv1D", FK), ("Conv2D", FK), ("Conv2DTranspose", FK),
                              ("SeparableConv2D", FK), ("LearnedCombination2D", FK),
                              ("DepthwiseConv2D", K), ("SparseConv2D", TABLE))
      for word, wrong in (
          ("kernel_size", {"kernel_size": 0}), ("kernel_size", {"kernel_size": -3}),
          ("kernel_size", {"kernel_size": (3, 3, 3)}),
          ("strides", {"strides": 0}), ("strides", {"strides": -1}),
          ("dilation_rate", {"dilation_rate": 0}), ("dilation_rate", {"dilation_rate": -1}),
          ("data_format", {"data_format": "nhwc"}), ("padding", {"padding": "full"}))),
    *(bad(name, "filters", "positive", **{**FK, "filters": n})
      for name in ("Conv1D", "Conv2D", "Conv2DTranspose", "SeparableConv2D",
                   "LearnedCombination2D") for n in (0, -1)),
    *(bad(name, "depth_multiplier", "positive", depth_multiplier=n, **arguments)
      for name, arguments in (("DepthwiseConv2D", K), ("SeparableConv2D", FK),
                              ("LearnedCombination2D", FK)) for n in (0, -1)),
    *(bad(name, "strides", "dilation_rate", strides=2, dilation_rate=2, **FK)
      for name in ("Conv1D", "Conv2D", "Conv2DTranspose")),
    *(bad(name, "groups", word, groups=n, **FK) for name in ("Conv1D", "Conv2D")
      for n, word in ((0, "positive integer"), (-1, "positive integer"), (3, "divisible"))),
    bad("Conv2D", "`padding`", ">= 0", padding=-1, **FK),
    bad("Conv2D", "`padding`", ">= 0", padding=((1, 2), (3, -4)), **FK),
    bad("Conv2D", "`algorithm`", "im2col", algorithm="fast", **FK),
    bad("Conv2DTranspose", "`output_padding`", "strictly less", output_padding=1, **FK),
    *(bad("SparseConv2D", "`table`", "a row for each output map", table=table, **K)
      for table in ((), ((),), ((0, 0),), ((-1,),), ((0.5,),), 3)),
    bad("SparseConv2D", "groups", groups=2, **TABLE),
    *(bad("LearnedCombination2D", "`sparsity`", sparsity=s, **FK) for s in (-1, NAN, INFINITE)),
    *(bad(name, word, **{"pool_size": 2, **wrong})
      for name in ("MaxPooling2D", "AveragePooling2D", "L2Pooling2D", "GaussianPooling2D",
                   "Subsampling2D", "MaxPoolingWithIndices2D", "MaxUnpooling2D")
      for word, wrong in (
          ("pool_size", {"pool_size": 0}), ("pool_size", {"pool_size": -2}),
          ("pool_size", {"pool_size": (2, 2, 2)}), ("strides", {"strides": 0}),
          ("strides", {"strides": (1, -1)}), ("data_format", {"data_format": "nhwc"}))),
    *(bad(name, "padding", "'same'", padding="full")
      for name in ("L2Pooling2D", "GaussianPooling2D", "Subsampling2D",
                   "MaxPoolingWithIndices2D", "MaxUnpooling2D")),
    *(bad("GaussianPooling2D", "`sigma`", sigma=s)
      for s in (0, -1.0, NAN, INFINITE, (1.0, 2.0, 3.0))),
    bad("MaxPooling2D", "`algorithm`", "winners", algorithm="fast"),
    *(bad("SpatialPyramidPooling2D", "`levels`", "> 0", levels=n) for n in (0, (), (1, -2))),
    *(bad(name, "data_format", "nhwc", data_format="nhwc")
      for name in ("GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalMaxPooling2D",
                   "SpatialPyramidPooling2D", "RoIPooling", "RoIAlign", "UpSampling2D",
                   "ZeroPadding2D", "Cropping2D", "LocalResponseNormalization", "Flatten")),
    bad("SpatialDropout2D", "data_format", "nhwc", rate=0.5, data_format="nhwc"),
    *(bad(name, "`output_size`", "> 0", output_size=n) for name in ("RoIPooling", "RoIAlign")
      for n in (0, (7, -1), (7, 7, 7))),
    *(bad(name, "`spatial_scale`", spatial_scale=s) for name in ("RoIPooling", "RoIAlign")
      for s in (0, -1.0, NAN, INFINITE)),
    *(bad("RoIAlign", "`sampling_ratio`", "> 0", sampling_ratio=n) for n in (0, -1, 1.5)),
    *(bad(name, "`rate`", word, rate=rate) for name in ("Dropout", "SpatialDropout2D")
      for rate, word in ((-0.1, "between 0 and 1"), (1, "[0, 1)"), (1.0, "[0, 1)"),
                         (1.5, "between 0 and 1"), (INFINITE, "inf"), (NAN, "nan"))),
    bad("Dropout", "`scale_at`", "'inference'", rate=0.5, scale_at="never"),
    bad("Dropout", "noise_shape", rate=0.5, noise_shape=(0, 1)),
    *(bad(name, f"`{argument}`", "[0, 1)", units=3, **{argument: rate})
      for name in ("LSTM", "GRU") for argument in ("dropout", "recurrent_dropout")
      for rate in (-0.1, 1.0, 2)),
    *(bad(name, "units", "positive integer", units=n) for name in ("LSTM", "GRU")
      for n in (0, -2)),
    *(bad("Embedding", "`input_dim`", "positive integer", input_dim=n, output_dim=3)
      for n in (0, -1)),
    *(bad("Embedding", "`output_dim`", "positive integer", input_dim=3, output_dim=n)
      for n in (0, -1)),
    *(bad(name, argument, "nan", **{argument: NAN}) for name, argument in (
        ("BatchNormalization", "momentum"), ("LayerNormalization", "epsilon"),
        ("GroupNormalization", "epsilon"), ("ReLU", "max_value"), ("LeakyReLU", "negative_slope"),
        ("ScaledTanh", "slope"), ("Rescaling", "scale"), ("SmoothL1", "delta"),
        ("LocalResponseNormalization", "beta"), ("WeightDecay", "decay"), ("Rprop", "max_step"),
        ("SoftmaxCrossEntropy", "label_smoothing"), ("SigmoidFocalCrossEntropy", "gamma"))),
    *(bad("ReLU", name, "-1", **{name: -1})
      for name in ("max_value", "negative_slope", "threshold")),
    bad("ScaledTanh", "`amplitude`", "must not be 0", amplitude=0),
    bad("ScaledTanh", "`amplitude`", "finite", amplitude=INFINITE),
    bad("ScaledTanh", "`slope`", "finite", slope=-INFINITE),
    *(bad("LocalResponseNormalization", "`n`", "odd", n=n) for n in (4, -1, 0, 2.5)),
    *(bad("LocalResponseNormalization", "`k`", k=k) for k in (0, -1.0, INFINITE)),
    *(bad("LocalResponseNormalization", "`alpha`", alpha=a) for a in (-1e-4, INFINITE)),
    bad("LocalResponseNormalization", "`beta`", "finite", beta=INFINITE),
    *(bad("RBF", "`units`", "positive integer", units=n) for n in (0, -1, 2.0)),
    bad("RBF", "`codes`", "each of the 3 units", units=3, codes=((1, -1), (1, 1))),
    bad("RBF", "`codes`", "finite", units=1, codes=((1, NAN),)),
    *(bad("UpSampling2D", "size", "2 integers", size=n) for n in (0, -1, (2, 2, 2))),
    bad("UpSampling2D", "`interpolation`", "bilinear", interpolation="area"),
    *(bad(name, argument, "negative", **{argument: -1})
      for name, argument in (("ZeroPadding2D", "padding"), ("Cropping2D", "cropping"))),
    bad("ZeroPadding2D", "padding", padding=(1, 2, 3)),
    bad("Cropping2D", "cropping", cropping=(1, 2, 3)),
    bad("Reshape", "target_shape", "at most one", target_shape=(-1, -1)),
    bad("Reshape", "target_shape", "-2", target_shape=(-2, 3)),
    bad("SoftmaxCrossEntropy", "`label_smoothing`", "[0, 1)", label_smoothing=1),
    bad("SoftmaxCrossEntropy", "`ignore_class`", "integer", ignore_class=0.5),
    *(bad("SoftmaxCrossEntropy", "`class_weights`", class_weights=(1, w)) for w in (-1, NAN)),
    *(bad("SoftmaxJaccard", "`jaccard`", jaccard=j) for j in (-1, NAN, INFINITE)),
    *(bad("MaximumAPosteriori", "`j`", j=j) for j in (0, -1, INFINITE)),
    *(bad("CrossEntropy", "`delta`", delta=d) for d in (-1, INFINITE)),
    *(bad("NegativeLogLikelihood", "`delta`", delta=d) for d in (-1, INFINITE)),
    *(bad("SmoothL1", "`delta`", delta=d) for d in (0, -1, INFINITE)),
    *(bad("SigmoidFocalCrossEntropy", "`alpha`", "[0, 1]", alpha=a) for a in (-0.1, 1.1)),
    *(bad("SigmoidFocalCrossEntropy", "`gamma`", gamma=g) for g in (-1, INFINITE)),
    *(bad("WeightDecay", "`decay`", ">= 0", decay=d) for d in (-1, INFINITE)),
    *(bad("MixingEntropy", "`strength`", strength=s) for s in (-1, INFINITE)),
    bad("Rprop", "learning_rate", "max_step", learning_rate=0),
    bad("Rprop", "learning_rate", "finite", learning_rate=INFINITE, max_step=INFINITE),
    bad("Rprop", "min_step", "<=", min_step=1.0),
    bad("Rprop", "eta_plus", "finite", eta_plus=INFINITE),
    *(bad("Rprop", "eta_minus", "eta_plus", **wrong)
      for wrong in ({"eta_minus": 0}, {"eta_minus": 1}, {"eta_plus": 1})),
]


@pytest.mark.parametrize("name, arguments, words", ARGUMENTS,
                         ids=lambda v: str(v) if isinstance(v, (str, dict)) else "")
def test_arguments(name, arguments, words):
    with pytest.raises(ValueError) as error:
        getattr(custom_layers, name)(**arguments)
    message = str(error.value)
    assert name in message
    for word in (*words, "eceived"):
        assert word in message
