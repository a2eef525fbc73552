"""Bad input: a ValueError that names the layer, the argument, what was expected and received.

Each input is refused alike in eager mode, in a graph and by a symbolic call, before any kernel
runs. (Bad arguments: test_bad_arguments.py.)
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import custom_layers

FIRST = {"data_format": "channels_first"}
K = {"kernel_size": 3}
FK = {"filters": 2, **K}
TABLE = {"table": ((0, 1), (2,)), **K}


class T:
    """A tensor to be made: its shape and dtype. As a symbolic one, with `keras.Input`."""

    def __init__(self, *shape, dtype="float32", value=None):
        self.shape, self.dtype, self.value = shape, dtype, value

    def tensor(self):
        if self.dtype == "string":
            return tf.fill(self.shape, "a")
        value = np.zeros(self.shape) if self.value is None else self.value
        return tf.cast(tf.constant(value), self.dtype)

    def __repr__(self):
        return f"{self.dtype}{list(self.shape)}"


def call(name, arguments, good, wrong, *words, only=("eager", "graph", "symbolic"), **others):
    """A layer, inputs it takes first (or None), inputs and other tensors that it then refuses."""
    return name, arguments, good, wrong, others, words, only


RUN = ("eager", "graph")  # where `call` sees it, which a symbolic call does not run
IMAGES = {  # layers over images, with arguments
    "Conv2D": FK, "DepthwiseConv2D": K, "SeparableConv2D": FK, "LearnedCombination2D": FK,
    "SparseConv2D": TABLE, "MaxPooling2D": {"pool_size": 3}, "AveragePooling2D": {"pool_size": 3},
    "L2Pooling2D": {"pool_size": 3}, "GaussianPooling2D": {"pool_size": 3},
    "Subsampling2D": {"pool_size": 3}, "MaxPoolingWithIndices2D": {"pool_size": 3},
    "Conv2DTranspose": FK, "UpSampling2D": {}, "GlobalAveragePooling2D": {},
    "GlobalMaxPooling2D": {}, "SpatialPyramidPooling2D": {},
}
WINDOWS = list(IMAGES)[:11]
WEIGHTED = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "LearnedCombination2D",
            "SparseConv2D", "Subsampling2D", "Conv2DTranspose")
FLOATS = {"Softmax": {}, "Sigmoid": {}, "Tanh": {}, "Step": {}, "SiLU": {}, "GELU": {},
          "ScaledTanh": {}, "LocalResponseNormalization": {}, "RBF": {"units": 3}}
NUMBERS = {"ReLU": {}, "LeakyReLU": {}, "Dropout": {"rate": 0.5},
           "BatchNormalization": {}, "LayerNormalization": {}, "GroupNormalization": {"groups": 2},
           "Rescaling": {"scale": 2.0}, "Dense": {"units": 3}, "LSTM": {"units": 3},
           "GRU": {"units": 3}, "Embedding": {"input_dim": 5, "output_dim": 3}}
RANK3 = ("LSTM", "GRU")

INPUTS = [
    # Rank
    *(call(name, a, None, T(2, 8, 8), "3") for name, a in IMAGES.items()),
    *(call(name, a, T(2, 8, 8, 3), T(2, 8, 8, 8, 3), "8, 8, 8") for name, a in IMAGES.items()),
    call("Conv1D", FK, None, T(2, 8), "ndim"),
    call("Conv1D", FK, T(2, 8, 3), T(2, 8, 8, 3), "8, 8, 3"),
    call("Dense", {"units": 3}, None, T(4), "min_ndim=2"),
    call("RBF", {"units": 3}, None, T(4), "min_ndim=2"),
    call("Flatten", {}, None, T(), "min_ndim=1"),
    call("GlobalAveragePooling1D", {}, None, T(2, 8), "ndim=3"),
    call("SpatialDropout2D", {"rate": 0.5}, None, T(2, 8), "ndim=4"),
    call("ZeroPadding2D", {}, None, T(2, 8, 3), "ndim=4"),
    call("Cropping2D", {"cropping": 1}, None, T(2, 8, 3), "ndim=4"),
    *(call(name, {"units": 3}, None, T(2, 8), "ndim=3") for name in RANK3),
    call("LocalResponseNormalization", {}, None, T(8), "(N, ..., C)"),
    call("LocalResponseNormalization", FIRST, T(2, 3, 8, 8), T(2, 3, 8), "(N, C, H, W)"),
    call("BatchNormalization", {}, T(2, 8, 3), T(2, 3), "ndim"),
    # Channels
    *(call(name, IMAGES[name], T(2, 8, 8, 3), T(2, 8, 8, c), "axis -1", "value 3")
      for name in WEIGHTED for c in (1, 4)),
    *(call(name, {**IMAGES[name], **FIRST}, T(2, 3, 8, 8), T(2, 1, 8, 8), "axis 1", "value 3")
      for name in WEIGHTED),
    *(call(name, {**a, **FIRST}, T(2, 3, 8, 8), T(2, 3, 2, 8), "do", "not", "fit", "window")
      for name, a in IMAGES.items() if name in WINDOWS),
    *(call(name, a, T(4, 6), T(4, 5), "axis", "value 6") for name, a in (
        ("Dense", {"units": 3}), ("RBF", {"units": 3}), ("BatchNormalization", {}),
        ("LayerNormalization", {}), ("GroupNormalization", {"groups": 2}))),
    call("LayerNormalization", {"axis": (1, 2)}, T(4, 6, 2), T(4, 1, 2), "axis 1", "value 6"),
    *(call(name, {"units": 3}, T(2, 5, 4), T(2, 5, 1), "4", "1") for name in RANK3),
    call("Conv1D", FK, T(2, 8, 3), T(2, 8, 1), "axis -1", "value 3"),
    call("Conv2D", {**FK, "groups": 2}, None, T(2, 8, 8, 3), "divisible", "groups=2"),
    call("SparseConv2D", TABLE, None, T(2, 8, 8, 2), "`table`", "maps [2]", "maps 0 to 1"),
    *(call(name, {**IMAGES[name]}, None, T(2, 8, 8, None), "None", only=["symbolic"])
      for name in WEIGHTED),
    call("RBF", {"units": 1, "codes": ((1, -1, 1),)}, None, T(4, 5), "size of a code, 3"),
    call("GroupNormalization", {"groups": 4}, None, T(2, 6), "groups", "4", "6"),
    call("GroupNormalization", {"groups": 7}, None, T(2, 6), "groups", "7", "6"),
    # Axes
    *(call(name, {"axis": 5}, None, T(4, 6), "xis", "5") for name in (
        "BatchNormalization", "LayerNormalization", "GroupNormalization", "Softmax")),
    call("Softmax", {"axis": (1, -4)}, None, T(4, 6), "`axis`", "2 axes"),
    call("Concatenate", {"axis": 2}, None, [T(4, 6), T(4, 6)], "`axis`", "2 axes"),
    # Sizes
    *(call(name, a, good, T(2, *size, 3), str(size)[1:-1])
      for name, a in IMAGES.items() for size in ((0, 8), (8, 0)) for good in (None, T(2, 8, 8, 3))),
    *(call(name, a, good, T(2, *size, 3), "fit", "eceived", str(size)[1:-1])
      for name, a in IMAGES.items() if name in WINDOWS
      for size in ((2, 8), (8, 1)) for good in (None, T(2, 8, 8, 3))),
    call("Conv2D", {**FK, "dilation_rate": 2}, T(2, 8, 8, 3), T(2, 4, 8, 3), "5 x 5"),
    call("Conv2D", {**FK, "padding": ((0, 0), (1, 0))}, T(2, 8, 8, 3), T(2, 8, 1, 3), "fit"),
    call("Conv2D", {**FK, "strict": True, "strides": 2}, T(2, 9, 9, 3), T(2, 8, 9, 3), "divide"),
    call("Conv1D", FK, T(2, 8, 3), T(2, 2, 3), "fit", "2, 2, 3"),
    call("Conv1D", {**FK, "padding": "causal"}, T(2, 8, 3), T(2, 0, 3), "2, 0, 3"),
    call("GlobalAveragePooling1D", {}, None, T(2, 0, 3), "2, 0, 3"),
    *(call(name, {"units": 3}, good, T(2, 0, 4), "2, 0, 4")
      for name in RANK3 for good in (None, T(2, 5, 4))),
    *(call("Cropping2D", {"cropping": c}, None, T(2, 4, 5, 3), "cropping", "(2, 4, 5, 3)")
      for c in (2, ((4, 0), (0, 0)), ((0, 0), (3, 9)))),
    call("Reshape", {"target_shape": (4, 4)}, None, T(2, 3, 5), "target_shape=(4, 4)", "(3, 5)"),
    call("Reshape", {"target_shape": (4, -1)}, None, T(2, 3, 5), "target_shape=(4, -1)"),
    call("Reshape", {"target_shape": (5, 3)}, T(2, 3, 5), T(2, 4, 5), "target_shape=(5, 3)"),
    # Dtypes
    *(call(name, a, None, T(2, 8, 8, 3, dtype=d), "float", f"dtype={d}")
      for name, a in IMAGES.items() for d in ("int32", "bool", "complex64", "string")
      if name not in ("MaxPooling2D", "UpSampling2D", "GlobalAveragePooling2D",
                      "GlobalMaxPooling2D")),
    *(call("MaxPooling2D", {}, None, T(2, 8, 8, 3, dtype=d), "integer", f"dtype={d}")
      for d in ("bool", "complex64", "string")),
    *(call(name, {}, None, T(2, 8, 8, 3, dtype="string"), "integer", "dtype=string")
      for name in ("GlobalAveragePooling2D", "GlobalMaxPooling2D")),
    *(call("UpSampling2D", {"interpolation": "bilinear"}, None, T(2, 8, 8, 3, dtype=d),
           f"dtype={d}") for d in ("complex64", "string")),
    *(call(name, a, None, T(2, 6, dtype=d), "float", f"dtype={d}")
      for name, a in FLOATS.items() for d in ("int32", "bool", "complex64", "string")),
    *(call(name, a, T(2, 6), T(2, 6, dtype="int32"), "dtype=int32") for name, a in FLOATS.items()),
    *(call(name, a, None, T(*((2, 5) if name in RANK3 else (2,)), 6, dtype="string"),
           "float or integer", "dtype=string") for name, a in NUMBERS.items()),
    *(call(name, {"units": 3}, None, T(2, 5, 4, dtype="complex64"), "dtype=complex64")
      for name in RANK3),
    call("GlobalAveragePooling1D", {}, None, T(2, 5, 4, dtype="string"), "dtype=string"),
    call("SpatialDropout2D", {"rate": 0.5}, None, T(2, 5, 4, 3, dtype="bool"), "dtype=bool"),
    *(call(name, {}, None, [T(2, 6, dtype=d), T(2, 6, dtype=d)], "numbers", d)
      for name, d in (("Add", "bool"), ("Multiply", "bool"), ("Multiply", "string"))),
    # Several inputs
    *(call(name, {}, good, [T(2, 6, 3), T(2, 5, 3)], "6", "5", "eceived")
      for name in ("Add", "Multiply") for good in (None, [T(2, 6, 3), T(2, 6, 3)])),
    *(call(name, {}, good, [T(2, 6), T(3, 6)], "batch size", "(3, 6)")
      for name in ("Add", "Multiply") for good in (None, [T(2, 6), T(2, 6)])),
    *(call("Concatenate", {}, good, wrong, "matching shapes", "eceived")
      for good in (None, [T(2, 6, 3), T(2, 6, 4)])
      for wrong in ([T(2, 6, 3), T(2, 5, 3)], [T(2, 6, 3), T(3, 6, 3)], [T(2, 6, 3), T(2, 6)])),
    *(call(name, {}, None, T(2, 6), "list") for name in ("Add", "Multiply", "Concatenate")),
    *(call(name, {}, None, [], "list", only=RUN) for name in ("Add", "Multiply", "Concatenate")),
    # What must broadcast to the inputs
    *(call("Dropout", {"rate": 0.5, "noise_shape": n}, None, T(4, 9), "`noise_shape`", "(4, 9)")
      for n in ((4, 5), (2, 1, 9), (None, 3))),
    *(call("Rescaling", {"scale": 1.0, **a}, None, T(2, 4, 1), "broadcast", *a)
      for a in ({"scale": [1.0, 2.0, 3.0]}, {"offset": [1.0, 2.0]},
                {"scale": np.ones((2, 2, 4, 1))})),
    # Masks
    *(call("Softmax", {}, None, T(2, 5), "`mask`", "(2, 5)", mask=T(*m, dtype="bool"), only=RUN)
      for m in ((2, 4), (3, 5), (2, 2, 5))),
    *(call("BatchNormalization", {}, None, T(2, 5, 3), "mask", "(2, 5, 3)",
           mask=T(*m, dtype="bool"), only=RUN) for m in ((2, 4), (3, 5), (2, 5, 3), (2,))),
    *(call("GlobalAveragePooling1D", {}, None, T(2, 5, 3), "mask", "(2, 5)",
           mask=T(*m, dtype="bool"), only=RUN) for m in ((2, 4), (3, 5), (2, 5, 3), (2,))),
    *(call(name, {"units": 3, **a}, None, T(2, 5, 4), "`mask`", "(2, 5",
           mask=T(*m, dtype="bool"), only=RUN)
      for name in RANK3 for m in ((2, 4), (3, 5), (2,), (2, 5, 4))
      for a in ({}, {"recurrent_dropout": 0.5})),
    # Initial states
    *(call(name, {"units": 3, **a}, None, T(2, 5, 4), "initial_state", "(2, 3)",
           initial_state=state)
      for name, n in (("LSTM", 2), ("GRU", 1)) for a in ({}, {"activation": "elu"})
      for state in ([T(2, 3)] * (n + 1), [T(2, 4)] * n, [T(1, 3)] * n, [T(3)] * n)),
    call("LSTM", {"units": 3}, None, T(2, 5, 4), "initial_state", initial_state=[T(2, 3)]),
    # Regions
    *(call(name, {}, None, T(2, 8, 8, 3), "`rois`", "(batch, rois, 4)", rois=T(*shape))
      for name in ("RoIPooling", "RoIAlign") for shape in ((2, 4), (3, 3, 4), (2, 3, 5), (4,))),
    *(call(name, {}, None, T(2, 8, 8, 3), "`rois`", f"dtype={d}", rois=T(2, 3, 4, dtype=d),
           only=RUN) for name in ("RoIPooling", "RoIAlign") for d in ("bool", "string")),
    *(call(name, {}, None, wrong, "inputs", rois=T(2, 3, 4))
      for name in ("RoIPooling", "RoIAlign") for wrong in (
          T(2, 8, 8), T(2, 0, 8, 3), T(2, 8, 8, 3, dtype="int32"))),
    *(call(name, {}, None, T(2, 8, 8, 3), "`rois`", "meet its image", "20.0", rois=T(
        1, 5, value=[[0, 20, 20, 24, 24]]), only=["eager"]) for name in ("RoIPooling", "RoIAlign")),
    *(call(name, {}, None, T(2, 8, 8, 3), "name an image of the batch", "image 2 of 2", rois=T(
        1, 5, value=[[2, 0, 0, 4, 4]]), only=["eager"]) for name in ("RoIPooling", "RoIAlign")),
    # Indices of another pooling
    call("MaxUnpooling2D", {}, None, T(2, 4, 4, 3), "`indices`", "(2, 3, 3, 3)",
         indices=T(2, 3, 3, 3, dtype="int64")),
    call("MaxUnpooling2D", {}, None, T(2, 4, 4, 3), "`indices`", "float32",
         indices=T(2, 4, 4, 3)),
    call("MaxUnpooling2D", {}, None, T(2, 4, 4), "ndim=4", indices=T(2, 4, 4, dtype="int64")),
    call("MaxUnpooling2D", {}, None, T(2, 4, 4, 3, dtype="int32"), "float",
         indices=T(2, 4, 4, 3, dtype="int64")),
    call("MaxUnpooling2D", {}, None, T(2, 4, 4, 3), "another pooling", "[0, 0, 1, 0]",
         indices=T(2, 4, 4, 3, dtype="int64"), only=["eager"]),
]

CLASSES = ("SoftmaxCrossEntropy", "SoftmaxJaccard", "MaximumAPosteriori", "CrossEntropy",
           "NegativeLogLikelihood")
ELEMENTS = ("SigmoidCrossEntropy", "HalfSquares", "SmoothL1", "SigmoidFocalCrossEntropy")
TARGETS = [  # loss, y_true, y_pred, sample_weight, words
    *((name, wrong, T(4, 5), None, ("Targets", "y_true.shape", "y_pred.shape"))
      for name in ELEMENTS
      for wrong in (T(5), T(4), T(4, 1), T(1, 5), T(3, 5), T(4, 4), T(4, 5, 1, 1), T())),
    *((name, wrong, T(4, 5), None, ("Targets", "y_true.shape", "y_pred.shape"))
      for name in CLASSES
      for wrong in (T(5), T(3), T(3, 5), T(4, 4), T(1, 5), T(4, 5, 5), T())),
    *((name, T(4), T(4, 1), T(4, 4), ("`sample_weight`", "(4, 4)")) for name in ELEMENTS),
    *((name, T(4, 5), T(4, 5), wrong, ("`sample_weight`", "(4,)"))
      for name in (*CLASSES, *ELEMENTS) for wrong in (T(3), T(4, 4), T(4, 5), T(4, 1, 1))),
    *((name, T(4, 5, dtype=d), T(4, 5), None, ("`y_true`", f"dtype={d}"))
      for name in (*CLASSES, *ELEMENTS) for d in ("string", "complex64")),
    *((name, T(4, 5), T(4, 5, dtype=d), None, ("`y_pred`", f"dtype={d}"))
      for name in (*CLASSES, *ELEMENTS) for d in ("string", "complex64")),
    *((name, T(), T(), None, ("y_pred.shape",)) for name in (*CLASSES, *ELEMENTS)),
]

ACCEPTED = [  # what Keras takes, its result: layer, arguments, shape, dtype
    *((name, arguments, shape, dtype)
      for name, arguments, shape in (
          ("Dense", {"units": 3, "activation": "relu"}, (4, 6)),
          ("GlobalAveragePooling1D", {}, (2, 5, 3)), ("GlobalAveragePooling2D", {}, (2, 5, 4, 3)),
          ("GlobalMaxPooling2D", {}, (2, 5, 4, 3)), ("BatchNormalization", {}, (4, 6)),
          ("Rescaling", {"scale": 0.5}, (4, 6)), ("Flatten", {}, (4, 3, 2)),
          ("Embedding", {"input_dim": 5, "output_dim": 3}, (4, 6)),
          ("LSTM", {"units": 3}, (2, 5, 4)), ("GRU", {"units": 3}, (2, 5, 4)))
      for dtype in ("int32", "uint8", "bool")),
    *((name, arguments, (2, 5, 4, 3), dtype)
      for name, arguments in (
          ("MaxPooling2D", {}), ("ReLU", {}), ("LeakyReLU", {}), ("UpSampling2D", {}),
          ("UpSampling2D", {"interpolation": "bilinear"}))
      for dtype in ("int32", "uint8")),
    *((name, arguments, (2, 5, 4, 3), dtype)
      for name, arguments in (
          ("Flatten", {}), ("Reshape", {"target_shape": (4, 15)}), ("ZeroPadding2D", {}),
          ("Cropping2D", {"cropping": 1}), ("UpSampling2D", {}))
      for dtype in ("bool", "complex64", "string")),
    ("Dense", {"units": 3}, (4, 6), "complex64"),
    ("GlobalAveragePooling2D", {}, (2, 5, 4, 3), "complex64"),
]


def made(spec, make):
    return tf.nest.map_structure(make, spec)


def run(layer, inputs, others, mode):
    if mode == "symbolic":
        def symbolic(t):
            return keras.Input(batch_shape=t.shape, dtype=t.dtype)
        return layer(made(inputs, symbolic), **made(others, symbolic))
    inputs, others = (made(spec, T.tensor) for spec in (inputs, others))
    if mode == "eager":
        return layer(inputs, **others)
    return tf.function(lambda x, others: layer(x, **others), autograph=False)(inputs, others)


@pytest.mark.parametrize(
    "name, arguments, good, wrong, others, words, mode",
    [pytest.param(*case, mode, id=f"{mode}-{case[0]}({case[1]})-{case[2]}-{case[3]}-{case[4]}")
     for *case, only in INPUTS for mode in only])
def test_inputs(name, arguments, good, wrong, others, words, mode):
    layer = getattr(custom_layers, name)(**arguments)
    if good is not None:
        run(layer, good, {}, mode)
    with pytest.raises(ValueError) as error:
        run(layer, wrong, others, mode)
    message = str(error.value)
    assert name in message or layer.name in message
    for word in words:
        assert word in message
    assert "eceived" in message or "channels (6)" in message  # as GroupNormalization says it
    assert error.type is ValueError


@pytest.mark.parametrize("name, y_true, y_pred, weight, words", TARGETS)
@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_targets(name, y_true, y_pred, weight, words, graph):
    loss = getattr(custom_layers, name)()
    tensors = [None if t is None else t.tensor() for t in (y_true, y_pred, weight)]
    with pytest.raises(ValueError) as error:
        (tf.function(loss, autograph=False) if graph else loss)(*tensors)
    for word in (name, *words, "eceived"):
        assert word in str(error.value)


@pytest.mark.parametrize("name, arguments, shape, dtype", ACCEPTED)
def test_what_keras_accepts_has_the_result_of_keras(name, arguments, shape, dtype):
    values = np.random.default_rng(0).integers(0, 5, shape)
    x = tf.constant(values.astype("S")) if dtype == "string" else tf.cast(values, dtype)
    ours, stock = (getattr(module, name)(**arguments) for module in (custom_layers, keras.layers))
    for layer in (ours, stock):
        layer.build(shape)
    stock.set_weights(ours.get_weights())
    for call in (ours, tf.function(ours, autograph=False)):
        y, expected = call(x), stock(x)
        assert y.dtype == expected.dtype
        if dtype == "string":
            assert tf.reduce_all(y == expected)
        else:
            np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name, arguments", [("LayerNormalization", {}),
                                             ("GroupNormalization", {"groups": 2})])
def test_integers_are_normalised_as_floats_are(name, arguments):
    layer = getattr(custom_layers, name)(**arguments)  # Keras rounds the result to integers
    x = np.random.default_rng(0).integers(0, 5, (4, 6))
    np.testing.assert_array_equal(layer(tf.constant(x)), layer(tf.constant(x, tf.float32)))


def test_losses_take_lists_as_keras_does():
    y_true, y_pred = [[0.0, 1.0], [1.0, 0.0]], [[0.5, -1.0], [2.0, 0.3]]
    for name in (*CLASSES, *ELEMENTS):
        loss = getattr(custom_layers, name)(reduction="sum")
        weights = [1.0, 2.0]
        expected = loss(tf.constant(y_true), tf.constant(y_pred), tf.constant(weights))
        np.testing.assert_array_equal(loss(y_true, y_pred, weights), expected)


def test_no_layer_is_missing():
    kinds = keras.layers.Layer, keras.losses.Loss
    ours = [getattr(custom_layers, name) for name in custom_layers.__all__]
    classes = {c.__name__ for c in ours if isinstance(c, type) and issubclass(c, kinds)}
    assert classes == {name for name, *_ in INPUTS + TARGETS}
