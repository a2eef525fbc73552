"""Small networks that each hold one thing that lean training could get wrong."""

import keras
import numpy as np
from keras import layers, ops

import custom_layers

CASES = {}


def case(function):
    """Registers `function() -> (inputs, outputs)` under its name, as words."""
    CASES[function.__name__.replace("_", " ")] = function
    return function


def unit(x, width, activation="relu", **arguments):
    """BN-ReLU-conv."""
    x = layers.Activation(activation)(layers.BatchNormalization()(x))
    return layers.Conv2D(width, 3, padding="same", use_bias=False, **arguments)(x)


def image(channels=3, size=8, **arguments):
    return keras.Input((size, size, channels), **arguments)


@case
def a_chain_of_units():
    x = image()
    y = layers.Conv2D(4, 3, padding="same")(x)
    for _ in range(3):
        y = unit(y, 4)
    return x, layers.Dense(3)(layers.GlobalAveragePooling2D()(y))


@case
def residual_units():
    x = image()
    y = layers.Conv2D(4, 3, padding="same")(x)
    for strides in (1, 2):
        short = layers.Conv2D(4, 1, strides=strides)(y)
        z = layers.BatchNormalization()(layers.Conv2D(4, 3, strides, "same")(y))
        y = layers.ReLU()(layers.Add()([unit(layers.ReLU()(z), 4), short]))
    return x, layers.Flatten()(y)


@case
def a_chain_of_concatenations():
    x = image()
    y = x
    for _ in range(4):
        y = layers.Concatenate()([y, unit(unit(y, 4), 2)])
    return x, layers.GlobalAveragePooling2D()(layers.AveragePooling2D(2)(y))


@case
def an_output_in_the_middle_and_an_input_as_output():
    x = image()
    y = unit(x, 4)
    z = unit(layers.Dropout(0.3, seed=1)(y), 3)
    return x, [z, y, x, layers.GlobalMaxPooling2D()(z), z]


@case
def outputs_by_name_of_inputs_by_name():
    a, b = image(name="a"), keras.Input((5,), name="b")
    y = unit(a, 5)
    z = layers.Multiply()([y, layers.Reshape((1, 1, 5))(layers.Dense(5, "sigmoid")(b))])
    return {"a": a, "b": b}, {"map": z, "vector": layers.Dense(2)(b), "mean": ops.mean(z)}


@case
def one_normalization_twice():
    """Its statistics move twice, the second time from where the first left them."""
    x, n = image(4), layers.BatchNormalization(momentum=0.5)
    y = layers.Conv2D(4, 3, padding="same")(n(x))
    return x, layers.Add()([n(y), n(layers.Activation("tanh")(y))])


@case
def one_dropout_and_one_kernel_twice():
    x, drop, dense = keras.Input((6,)), layers.Dropout(0.5, seed=4), layers.Dense(6, "silu")
    return x, drop(dense(drop(dense(x))))


@case
def a_model_in_a_model_twice():
    inner_x = image(4)
    inner = keras.Model(inner_x, [unit(inner_x, 4), layers.GlobalAveragePooling2D()(inner_x)])
    stack = keras.Sequential([image(4), layers.BatchNormalization(), layers.ReLU(),
                              layers.Dropout(0.2, seed=3), layers.Conv2D(4, 1)])
    x = image(4)
    y, first = inner(stack(x))
    z, second = inner(stack(y))
    return x, [z, layers.Add()([first, second])]


@case
def frozen_layers():
    x = image()
    y = layers.Conv2D(4, 3, padding="same", activation="relu", trainable=False)(x)
    y = layers.BatchNormalization(trainable=False)(y)
    y = layers.LayerNormalization(trainable=False)(layers.ReLU()(y))
    y = unit(y, 4)
    y = layers.Conv2D(3, 3, trainable=False)(layers.PReLU(trainable=False)(y))
    return x, layers.Dense(2)(layers.Flatten()(y))


@case
def all_of_it_frozen():
    x, y = a_chain_of_units()
    keras.Model(x, y).trainable = False
    return x, y


@case
def a_normalization_told_not_to_train():
    x = image()
    y = layers.BatchNormalization()(layers.Conv2D(4, 3)(x), training=False)
    y = layers.Identity()(layers.ELU()(y, training=False), training=True)
    return x, layers.Dropout(0.4, seed=2)(layers.ReLU()(y), training=True)


@case
def regularisers():
    l2 = keras.regularizers.L2(0.03)
    x = image()
    y = layers.Conv2D(4, 3, activation="relu", kernel_regularizer=l2, activity_regularizer=l2)(x)
    y = layers.BatchNormalization(gamma_regularizer=l2, beta_regularizer="l1")(y)
    y = layers.ActivityRegularization(l1=0.02)(layers.ReLU(activity_regularizer=l2)(y))
    y = layers.Dropout(0.3, seed=1, activity_regularizer=l2)(y)
    inner = keras.Sequential([keras.Input((6, 6, 4)), layers.Dense(3, activity_regularizer=l2)])
    return x, layers.Add()([inner(y), inner(layers.MaxPooling2D(1, activity_regularizer=l2)(y))])


@case
def a_gradient_that_stops():
    """Stock has no gradient for the first kernel, which is not a gradient of zero."""
    x = keras.Input((6,))
    y = ops.stop_gradient(layers.Dense(6, "relu")(x))
    return x, layers.Dense(3)(layers.BatchNormalization()(y))


@case
def pooling_of_ties():
    """Whole numbers in a map that nothing else keeps: which of the equal ones has won?"""
    x = image(2, name="whole")
    maps = [layers.Conv2D(2, 1, kernel_initializer="ones", name=f"whole_{i}")(x) for i in range(6)]
    windows = [(2, 2), (3, 2), (3, 1), (2, 3), (3, 3), (4, 2)]
    return x, [layers.MaxPooling2D(size, strides, padding=("same", "valid")[i % 2])(y)
               for i, (y, (size, strides)) in enumerate(zip(maps, windows))]


@case
def whole_numbers_at_the_kinks():
    x = image(2, name="whole")
    y = layers.Conv2D(2, 1, kernel_initializer="ones", name="whole_1")(x)
    return x, [layers.Activation(name)(y) for name in (
        "relu", "relu6", "leaky_relu", "elu", "selu", "softsign", "hard_sigmoid", "hard_silu",
        "hard_tanh", "celu")] + [
            layers.ReLU(max_value=2.0)(y), layers.ReLU(threshold=1.0)(y), ops.maximum(y, 1.0),
            layers.LeakyReLU(0.0)(y), layers.GlobalMaxPooling2D()(y), layers.PReLU()(y),
            layers.Maximum()([y, x]), layers.Minimum()([y, x]), ops.abs(y)]


@case
def pooling_before_and_after_an_activation():
    x = image(4)
    y = layers.MaxPooling2D()(layers.ReLU()(layers.BatchNormalization()(x)))
    y = layers.Conv2D(4, 2, padding="same", activation="relu")(y)
    z = layers.MaxPooling2D(2, 1)(y)
    w = layers.MaxPooling2D(2, 1)(layers.Activation("relu6")(ops.multiply(4.0, y)))
    return x, [z, w, layers.MaxPooling2D(3, 1, "same")(layers.LeakyReLU(0.1)(z))]


@case
def every_noise():
    x, names = image(4), ("Dropout", "SpatialDropout2D", "GaussianDropout", "AlphaDropout")
    y = layers.GaussianNoise(0.3, seed=9)(layers.Conv2D(4, 3)(x))
    for i, name in enumerate(names):
        y = getattr(layers, name)(0.3, seed=i)(layers.Activation("tanh")(y))
    y = layers.Dropout(0.4, noise_shape=(None, 1, 6, 4), seed=11)(y)
    y = layers.Dropout(0.0)(layers.Dropout(0.6)(y))
    return x, custom_layers.Dropout(0.3, seed=5, scale_at="inference")(layers.Dense(3)(y))


@case
def masks():
    """Batch normalisation leaves out what is masked."""
    ids, x = keras.Input((7,), dtype="int32"), keras.Input((7, 3), name="whole")
    y = layers.BatchNormalization()(layers.Embedding(9, 3, mask_zero=True)(ids))
    z = layers.BatchNormalization()(layers.Masking(1.0)(x))
    y = layers.Add()([layers.Dropout(0.2, seed=1)(layers.ReLU()(y)), z])
    return [ids, x], [layers.GlobalAveragePooling1D()(y), layers.LSTM(3)(y)]


@case
def unknown_sizes():
    x = keras.Input((None, None, 3))
    y = unit(unit(layers.Conv2D(4, 3)(x), 4), 4)
    z = layers.UpSampling2D(2)(layers.MaxPooling2D(2, padding="same")(y))
    y = layers.Concatenate()([layers.ZeroPadding2D(((1, 0), (0, 1)))(y), z])
    return x, layers.Dense(2)(layers.GlobalAveragePooling2D()(layers.Cropping2D(1)(y)))


@case
def bytes_for_an_image():
    x = image(dtype="uint8")
    y = layers.Rescaling(1 / 255, offset=-0.5)(x)
    return x, layers.GlobalMaxPooling2D()(unit(layers.Conv2D(4, 3, use_bias=False)(y), 4))


@case
def other_axes():
    x = image(4)
    y = layers.BatchNormalization(axis=1)(x)
    y = layers.LayerNormalization(axis=(1, 2))(layers.Softmax(axis=(1, 2))(y))
    y = layers.GroupNormalization(groups=2, axis=1)(layers.Concatenate(axis=2)([x, y]))
    return x, layers.GlobalAveragePooling2D(data_format="channels_first")(y)


@case
def vectors():
    x = keras.Input((6,))
    y = layers.BatchNormalization()(layers.Dense(8, "gelu")(x))
    y = layers.LayerNormalization()(layers.Dropout(0.4, seed=2)(layers.Dense(8, "selu")(y)))
    z = layers.Dot(1)([y, layers.Dense(8)(x)])
    return x, layers.Concatenate()([y, z, x, layers.Minimum()([y, layers.Dense(8)(y)])])


@case
def broadcasting():
    x = image(4)
    row, channel = layers.Cropping2D(((3, 4), (0, 0)))(x), layers.GlobalMaxPooling2D()(x)
    y = layers.Multiply()([layers.Add()([x, row]), layers.Reshape((1, 1, 4))(channel)])
    y = layers.Subtract()([row, y]) + layers.Average()([row, y])
    return x, [y * channel[:, None, None], layers.Maximum()([y, row]) - 2, 1 / (1 + y * y)]


@case
def our_layers():
    x = image()
    y = custom_layers.Conv2D(4, 3, padding="same", activation="relu", algorithm="im2col")(x)
    y = custom_layers.BatchNormalization()(custom_layers.Conv2D(4, 3, padding="same")(y))
    y = custom_layers.GELU()(custom_layers.ScaledTanh()(custom_layers.ReLU(max_value=1.0)(y)))
    y = custom_layers.LocalResponseNormalization()(custom_layers.SpatialDropout2D(0.3, seed=1)(y))
    p, i = custom_layers.MaxPoolingWithIndices2D()(y)
    y = custom_layers.Add()([y, custom_layers.MaxUnpooling2D()(p, i)])
    y = custom_layers.MaxPooling2D(algorithm="winners")(y)
    y = custom_layers.Dropout(0.5, seed=3)(custom_layers.Subsampling2D()(y))
    return x, custom_layers.Dense(3)(custom_layers.Flatten()(y))


@case
def unpooling_by_winners():
    """Of an odd image, in overlapping windows, twice by one pooling, and by indices read twice."""
    x, pool, unpool = image(size=9), custom_layers.MaxPoolingWithIndices2D, (
        custom_layers.MaxUnpooling2D)
    p, i = pool(padding="same")(layers.ReLU()(layers.BatchNormalization()(unit(x, 4))))
    q, j = pool(3, 1)(unit(p, 4))
    y = unpool(3, 1)(unit(q, 4), j, output_size=(5, 5))
    y = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(y))
    y = unit(unpool(padding="same")(y, i, output_size=(9, 9)), 4)
    z, k = pool()(y)
    return x, [unpool(padding="same")(p, i, output_size=(9, 9)), unpool()(z, k, output_size=(9, 9)),
               ops.cast(k, z.dtype) * z]


@case
def regions_of_interest():
    x = image()
    corners = layers.Lambda(lambda t: ops.zeros_like(t[:, :2, 0, :1]) + ops.array(
        [1.0, 2.0, 5.0, 7.0], t.dtype))(x)
    y = layers.ReLU()(layers.BatchNormalization()(unit(x, 4)))
    return x, layers.Dense(2)(custom_layers.RoIAlign(3, 0.5)(y, corners))


@case
def layers_of_the_first_networks():
    x = image(3)
    y = custom_layers.SparseConv2D(((0, 1), (2,), (0, 1, 2), (1,)), 3, padding=1)(x)
    y = custom_layers.Subsampling2D(activation="tanh")(
        custom_layers.LocalResponseNormalization(alpha=0.1, n=3)(y))
    y = custom_layers.SparseConv2D(((3, 1), (0,)), 2, use_bias=False, activation="relu")(y)
    y = custom_layers.Subsampling2D(2, 1, "same")(y)
    fixed, trained = custom_layers.RBF(4), custom_layers.RBF(3, fixed=False)
    return x, [trained(fixed(custom_layers.Flatten()(y))), fixed(layers.Flatten()(y))]


@case
def operations():
    x = image(4)
    y = ops.relu(ops.conv(x, ops.ones((3, 3, 4, 4)) / 9))
    a, b = ops.split(layers.BatchNormalization()(y), 2, axis=-1)
    y = ops.concatenate([a * ops.sigmoid(b), b, a[..., :1]], -1)
    y = layers.Lambda(lambda t: t[:, ::2] * 3)(ops.pad(y, [[0, 0], [1, 1], [1, 1], [0, 0]]))
    return x, ops.einsum("bhwc,bhwd->bcd", y, layers.Dense(2)(ops.silu(y)))


@case
def one_sample_of_one_pixel():
    """The batch's variance is 0."""
    x = keras.Input((1, 1, 3), batch_size=1)
    return x, layers.Conv2D(2, 1)(layers.ReLU()(layers.BatchNormalization()(x)))


@case
def far_from_zero():
    """A mean of a hundred deviations, whose square is lost in float32."""
    x = image()
    y = layers.BatchNormalization()(layers.Rescaling(0.1, offset=10.0)(x))
    return x, layers.Conv2D(2, 3)(layers.ReLU()(y))


def values(places, batch=5, seed=0):
    """Inputs: whole numbers, with their ties and kinks, where the name says so."""
    rng = np.random.default_rng(seed)

    def value(x):
        shape = (x.shape[0] or batch, *(n or 9 for n in x.shape[1:]))
        if "int" in x.dtype:
            return rng.integers(0, 9, shape).astype(x.dtype)
        whole = x.name.startswith("whole")
        return (rng.integers(-1, 3, shape) if whole else rng.normal(size=shape)).astype(x.dtype)

    return keras.tree.map_structure(value, places)
