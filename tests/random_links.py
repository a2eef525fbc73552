"""The kinds of links that random graphs are made of.

A kind takes the graph in the making, for its choices, and a tensor, and returns a tensor.
"""

import keras
from keras import layers, ops

import custom_layers

ACTIVATIONS = ("relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "tanh", "sigmoid",
               "softplus", "softsign", "hard_sigmoid", "hard_silu", "mish", "softmax", "linear",
               "exponential", "log_softmax", "celu", "log_sigmoid", "tanh_shrink",
               "hard_tanh", "soft_shrink", "hard_shrink", "squareplus")
ANY, VECTOR, SEQUENCE, IMAGE, VOLUME = (2, 3, 4, 5), (2,), (3,), (4,), (5,)


def _link(name, *, ranks=ANY, smallest=1, weighty=False, **choices):
    """A kind that is one layer; an argument of several values in a tuple is one of them."""
    def make(g, x):
        arguments = {k: g.pick(*v) if isinstance(v, tuple) else v for k, v in choices.items()}
        return (g.weighty if weighty else g.layer)(name, **arguments)(x)

    return ranks, smallest, make


def _convolution(name, ranks, **choices):
    return _link(name, ranks=ranks, smallest=3, weighty=True, **{
        "kernel_size": (1, 2, 3), "padding": ("same", "valid"), **choices})


def _strided(g, x):
    return g.weighty("Conv2D", filters=g.size(2, 6), kernel_size=3, strides=2,
                     padding=g.pick("same", "valid"))(x)


def _grouped(g, x):
    return g.weighty("Conv2D", filters=2 * x.shape[-1], kernel_size=2, groups=x.shape[-1])(x)


def _noise(name, rate, ranks=ANY):
    def make(g, x):
        y = g.layer(name, **{rate: g.pick(0.2, 0.5)}, seed=g.size(1, 99))(x)
        # A map that is 0 everywhere makes ties, of which rounding alone would choose the winner.
        return layers.Add()([x, y]) if name.startswith("Spatial") else y

    return ranks, 1, make


def _batch_normalization(g, x):
    layer = g.layer("BatchNormalization", momentum=g.pick(0.9, 0.99), epsilon=g.pick(1e-3, 1e-2),
                    center=g.chance(0.8), scale=g.chance(0.8), axis=g.pick(-1, -1, -1, 1))
    layer.trainable = g.chance(0.85)
    return layer(x, training=False) if g.chance(0.1) else layer(x)


def _layer_normalization(g, x):
    axes = [-1, list(range(1, len(x.shape)))] + [[-2, -1]] * (len(x.shape) > 2)
    return g.layer("LayerNormalization", axis=axes[g.size(0, len(axes) - 1)],
                   center=g.chance(0.8), scale=g.chance(0.8))(x)


def _group_normalization(g, x):
    return g.layer("GroupNormalization", groups=g.pick(1, -1), scale=g.chance(0.8))(x)


def _activation(g, x):
    return g.layer("Activation", activation=g.activation(x.shape[-1]))(x)


def _softmax(g, x):
    axis = g.pick(-1, 1)
    return x + 0.5 if x.shape[axis] == 1 else g.layer("Softmax", axis=axis)(x)


def _einsum(g, x):
    axes = "abcd"[:len(x.shape) - 1]
    shape = (*x.shape[1:-1], 4)
    return layers.EinsumDense(f"{axes}x,xy->{axes}y", shape, bias_axes="y")(x)


def _function(g, x):
    return layers.Lambda(g.pick(lambda t: t * ops.sigmoid(t), lambda t: ops.sum(t, -1),
                                lambda t: ops.concatenate([t, ops.sin(t)], 1)))(x)


def _ours(g, x):
    """A layer that Keras has not."""
    pooled = ("L2Pooling2D", "GaussianPooling2D", "Subsampling2D", "LocalResponseNormalization")
    return getattr(custom_layers, g.pick("ScaledTanh", "GELU", "SiLU", *pooled))()(x)


def _statistics(g, x):
    channels = x.shape[-1]
    return layers.Normalization(mean=[0.3] * channels, variance=[1.7] * channels)(x)


def _permute(g, x):
    return layers.Permute([int(i) for i in 1 + g.rng.permutation(len(x.shape) - 1)])(x)


def _reshape(g, x):
    sizes = x.shape[1:]
    return g.layer("Reshape", target_shape=g.pick((-1, sizes[-1]), (*sizes[::-1],), (-1, 1)))(x)


def _unit_lengths(g, x):
    return layers.UnitNormalization()(x)


def _expanded(g, x):
    return layers.RepeatVector(g.size(2, 4))(x)


def _activity(g, x):
    return layers.ActivityRegularization(l2=0.02)(x)


def _operation(g, x):
    return g.pick(
        lambda: x * 2, lambda: 1.5 - x, lambda: -x, lambda: x / 3 + x, lambda: ops.tanh(x),
        lambda: ops.square(ops.sin(x)), lambda: ops.relu(x), lambda: ops.maximum(x, 0.1),
        lambda: ops.flip(x, -1), lambda: x - ops.mean(x, axis=-1, keepdims=True),
        lambda: ops.sigmoid(x) * x, lambda: ops.clip(x, -1.5, 1.5), lambda: x[:, :1] + x,
        lambda: ops.transpose(x, (0, *range(len(x.shape) - 1, 0, -1))),
        lambda: ops.where(x > 0.2, x, 0.3 * x), lambda: ops.abs(x),
        lambda: ops.stop_gradient(x) * x, lambda: ops.cast(x, x.dtype),
    )()


def _split(g, x):
    if x.shape[-1] % 2:
        return layers.Lambda(lambda t: ops.concatenate([t, t * t], -1))(x)
    first, second = ops.split(x, 2, axis=-1)
    return g.pick(lambda: first + second, lambda: first, lambda: ops.sigmoid(first) * second)()


def _residual(g, x):
    y = g.like(x)
    merge = g.pick("Add", "Multiply", "Average", "Maximum", "Minimum", "Subtract", "+", "*", "-")
    if len(merge) > 1:
        return g.layer(merge)([x, y]) if merge != "Subtract" else layers.Subtract()([y, x])
    return {"+": lambda: x + y, "*": lambda: x * y, "-": lambda: y - x}[merge]()


def _dense_block(g, x):
    for _ in range(g.size(2, 4)):
        y = g.layer("BatchNormalization")(x)
        y = layers.Activation("relu")(y)
        y = layers.Conv2D(2, 3, padding="same", use_bias=False)(y)
        x = g.layer("Concatenate")([x, y])
    return x


def _concatenation(g, x):
    parts = [x, *(g.like(x) for _ in range(g.size(1, 2)))]
    return g.layer("Concatenate", axis=g.pick(-1, 1))(parts)


def _squeeze(g, x):
    y = layers.GlobalAveragePooling2D(keepdims=True)(x)
    return g.layer("Multiply")([x, layers.Dense(x.shape[-1], activation="sigmoid")(y)])


def _shared(g, x):
    """One layer on two tensors, or twice in a row."""
    layer = g.pick(
        lambda: layers.BatchNormalization(), lambda: layers.Dense(x.shape[-1], activation="tanh"),
        lambda: layers.Dropout(0.4, seed=3), lambda: layers.Activation("silu"),
        lambda: layers.LayerNormalization(), lambda: layers.PReLU(),
    )()
    if g.chance(0.5):
        return layer(layer(x))
    return layers.Add()([layer(x), layer(g.like(x))])


def _nested(g, x):
    """A model inside the model: of one output or two, used once or twice, perhaps frozen."""
    if g.depth > 1:
        return g.step(x, "Activation")
    inner = type(g)(g.size(0, 10**6), g.depth + 1)
    start = inner.input(*x.shape[1:])
    if g.chance(0.3):
        links = [layers.BatchNormalization(), layers.Activation("relu"),
                 layers.Dropout(0.3, seed=1), layers.Dense(3)]
        model = keras.Sequential([start, *links[:g.size(2, 4)]])
    else:
        y = inner.step(start)
        for _ in range(g.size(1, 3)):
            y = inner.step(y)
        model = keras.Model(start, y if y is not start else layers.Activation("tanh")(y))
    model.trainable = g.chance(0.85)
    y = model(x)
    return layers.Add()([y, model(g.like(x))]) if g.chance(0.3) else y


def _attention(g, x):
    return layers.MultiHeadAttention(2, 3, dropout=0.2, seed=5)(x, x)


def _attended(g, x):
    return layers.Attention(use_scale=True)([x, g.like(x)])


def _dotted(g, x):
    return layers.Dot(axes=-1, normalize=g.chance(0.3))([x, g.like(x)])


def _spectral(g, x):
    return layers.SpectralNormalization(layers.Conv2D(3, 2))(x)


def _bidirectional(g, x):
    return layers.Bidirectional(layers.GRU(2, return_sequences=g.chance(0.5)))(x)


def _distributed(g, x):
    return layers.TimeDistributed(layers.Dense(3, activation="tanh"))(x)


def _recurrent(name):
    return _link(name, ranks=SEQUENCE, units=(2, 3), return_sequences=(True, False))


# A kind: the ranks it takes, the smallest width of an image, from a graph and a tensor a tensor.
KINDS = {
    "Conv2D": _convolution("Conv2D", IMAGE, filters=(2, 4, 5), dilation_rate=(1, 2)),
    "Activation": (ANY, 1, _activation),
    "BatchNormalization": (ANY, 1, _batch_normalization),
    "residual": (ANY, 1, _residual),
    "dense block": (IMAGE, 3, _dense_block),
    "shared": (ANY, 1, _shared),
    "nested": (ANY, 3, _nested),
    "concatenation": (ANY, 1, _concatenation),
    "operation": (ANY, 1, _operation),
    "split": (ANY, 1, _split),
    "squeeze and excite": (IMAGE, 2, _squeeze),
    "strided": (IMAGE, 4, _strided),
    "grouped": (IMAGE, 2, _grouped),
    "DepthwiseConv2D": _convolution("DepthwiseConv2D", IMAGE, depth_multiplier=(1, 2)),
    "SeparableConv2D": _convolution("SeparableConv2D", IMAGE, filters=(2, 4)),
    "Conv2DTranspose": _convolution("Conv2DTranspose", IMAGE, filters=(2, 3), strides=(1, 2)),
    "Conv1D": _convolution("Conv1D", SEQUENCE, filters=(2, 4), padding=("causal", "same")),
    "DepthwiseConv1D": _convolution("DepthwiseConv1D", SEQUENCE),
    "SeparableConv1D": _convolution("SeparableConv1D", SEQUENCE, filters=3),
    "Conv1DTranspose": _convolution("Conv1DTranspose", SEQUENCE, filters=2, strides=(1, 2)),
    "Conv3D": _convolution("Conv3D", VOLUME, filters=(2, 3)),
    "Dense": _link("Dense", weighty=True, units=(3, 5)),
    "PReLU": _link("PReLU"),
    "ReLU": _link("ReLU", max_value=(None, 1.0), negative_slope=(0.0, 0.1), threshold=(0.0, 0.2)),
    "LeakyReLU": _link("LeakyReLU", negative_slope=(0.3, 0.01)),
    "ELU": _link("ELU", alpha=(1.0, 0.5)),
    "Softmax": (ANY, 1, _softmax),
    "Dropout": _noise("Dropout", "rate"),
    "SpatialDropout1D": _noise("SpatialDropout1D", "rate", SEQUENCE),
    "SpatialDropout2D": _noise("SpatialDropout2D", "rate", IMAGE),
    "SpatialDropout3D": _noise("SpatialDropout3D", "rate", VOLUME),
    "GaussianNoise": _noise("GaussianNoise", "stddev"),
    "GaussianDropout": _noise("GaussianDropout", "rate"),
    "AlphaDropout": _noise("AlphaDropout", "rate"),
    "LayerNormalization": (ANY, 1, _layer_normalization),
    "GroupNormalization": ((3, 4, 5), 1, _group_normalization),
    "RMSNormalization": _link("RMSNormalization"),
    "UnitNormalization": (ANY, 1, _unit_lengths),
    "Normalization": (ANY, 1, _statistics),
    "Rescaling": _link("Rescaling", scale=(0.5, 2.0), offset=(0.0, 0.3)),
    "MaxPooling1D": _link("MaxPooling1D", ranks=SEQUENCE, smallest=3, padding=("same", "valid")),
    "MaxPooling2D": _link("MaxPooling2D", ranks=IMAGE, smallest=3, pool_size=(2, 3),
                          strides=(None, 1, 2), padding=("same", "valid")),
    "AveragePooling1D": _link("AveragePooling1D", ranks=SEQUENCE, smallest=3,
                              pool_size=(2, 3)),
    "AveragePooling2D": _link("AveragePooling2D", ranks=IMAGE, smallest=3, pool_size=(2, 3),
                              strides=(None, 1, 2), padding=("same", "valid")),
    "GlobalMaxPooling1D": _link("GlobalMaxPooling1D", ranks=SEQUENCE),
    "GlobalMaxPooling2D": _link("GlobalMaxPooling2D", ranks=IMAGE, keepdims=(False, True),
                                data_format=("channels_last", "channels_first")),
    "GlobalAveragePooling1D": _link("GlobalAveragePooling1D", ranks=SEQUENCE),
    "GlobalAveragePooling2D": _link("GlobalAveragePooling2D", ranks=IMAGE, keepdims=(True, False),
                                    data_format=("channels_last", "channels_first")),
    "ZeroPadding1D": _link("ZeroPadding1D", ranks=SEQUENCE),
    "ZeroPadding2D": _link("ZeroPadding2D", ranks=IMAGE, padding=(1, ((0, 1), (2, 0))),
                           data_format=("channels_last", "channels_first")),
    "Cropping1D": _link("Cropping1D", ranks=SEQUENCE, smallest=4),
    "Cropping2D": _link("Cropping2D", ranks=IMAGE, smallest=4, cropping=(1, ((0, 1), (1, 0)))),
    "UpSampling1D": _link("UpSampling1D", ranks=SEQUENCE),
    "UpSampling2D": _link("UpSampling2D", ranks=IMAGE),
    "Flatten": _link("Flatten"),
    "Reshape": (ANY, 1, _reshape),
    "Permute": ((3, 4, 5), 1, _permute),
    "RepeatVector": (VECTOR, 1, _expanded),
    "Identity": _link("Identity"),
    "ActivityRegularization": (ANY, 1, _activity),
    "LSTM": _recurrent("LSTM"),
    "GRU": _recurrent("GRU"),
    "SimpleRNN": _recurrent("SimpleRNN"),
    "Bidirectional": (SEQUENCE, 1, _bidirectional),
    "EinsumDense": (ANY, 1, _einsum),
    "Lambda": (ANY, 1, _function),
    "layers that Keras has not": (IMAGE, 3, _ours),
    "TimeDistributed": (SEQUENCE, 1, _distributed),
    "MultiHeadAttention": (SEQUENCE, 1, _attention),
    "Attention": (SEQUENCE, 1, _attended),
    "Dot": (VECTOR, 1, _dotted),
    "SpectralNormalization": (IMAGE, 3, _spectral),
}
