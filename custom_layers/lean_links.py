"""The kinds of links that lean training can run again: their arithmetic, and what they need."""

import functools
import math

import keras
import tensorflow as tf


class Kind:
    """One step of a network: what it computes, and what its backward pass needs for that.

    `reads` says what the backward pass reads: "x" the inputs, "i" those after the first (who won
    in max pooling), "y" the output, "xy" both, "" neither. `cheap` says that running it again
    costs about as much as reading its input.
    `weights` are Keras variables that get a gradient, `constants()` tensors without one (a
    seed, given statistics), read anew on every call. `stock` is `reads` of stock Keras,
    `stock_bytes` what that keeps beside, in bytes an element of the output.
    """

    reads, cheap, weights, stock_bytes = "x", True, (), 0
    commutes_with_max = False  # increasing, with a zero gradient where it is flat
    view = False  # whether its output is its input's bytes under another shape
    concatenates = None  # the axis along which it puts its inputs side by side
    of_keras = None  # Keras's own function, where its losses look behind it

    @property
    def stock(self):
        return self.reads

    def constants(self):
        return ()

    constant_count = 0

    def forward(self, xs, ws):
        """`(y, memo)`: the output, and what of this pass the others may use."""
        raise NotImplementedError

    def again(self, xs, ws, memo):
        """The output of `forward` once more."""
        return self.forward(xs, ws)[0]

    def backward(self, dy, xs, y, ws, memo):
        """`(dxs, dws)`; each of `xs` and `y` is None where `reads` does not name it."""
        raise NotImplementedError


class Pair(Kind):
    """A link that is an op of ours: `pair(*xs, *ws)` returns its result and its backward pass.

    An op that reads its inputs is paired anew with those that were run again; of its forward
    pass, which nobody uses, a graph runs nothing.
    """

    def __init__(self, pair, weights=(), *, reads="x", cheap=True, stock=None):
        self.pair, self.weights, self.cheap = pair, weights, cheap
        self.reads = reads if any(w.trainable for w in weights) or not weights else ""
        self._stock = self.reads if stock is None else stock

    @property
    def stock(self):
        return self._stock

    def forward(self, xs, ws):
        y, backward = self.pair(*xs, *ws)
        return y, (len(xs), None if self.reads else backward)

    def backward(self, dy, xs, y, ws, memo):
        n, backward = memo
        if self.reads:
            _, backward = self.pair(*xs, *ws)
        gradients = backward(dy)
        if not isinstance(gradients, (tuple, list)):
            gradients = (gradients,)
        return gradients[:n], gradients[n:n + len(ws)]


class Elementwise(Kind):
    """A function whose gradient follows from its output: `gradient(dy, y)`."""

    reads = "y"

    def __init__(self, function, gradient, *, commutes_with_max=False, of_keras=None):
        self.function, self.gradient = function, gradient
        self.commutes_with_max, self.of_keras = commutes_with_max, of_keras

    def forward(self, xs, ws):
        return self.function(*xs), None

    def backward(self, dy, xs, y, ws, memo):
        return (self.gradient(dy, y),), ()


class Bias(Kind):
    """y = x + b, by channel;  db = sum of dy over all other axes."""

    reads = ""

    def __init__(self, bias, data_format="channels_last"):
        self.weights, self.first = (bias,), data_format == "channels_first"

    def forward(self, xs, ws):
        return tf.nn.bias_add(xs[0], ws[0], "NC..." if self.first else "N...C"), None

    def backward(self, dy, xs, y, ws, memo):
        layout = "NCHW" if self.first else "NHWC"
        return (dy,), (tf.raw_ops.BiasAddGrad(out_backprop=dy, data_format=layout),)


class Cast(Kind):
    """y = x in another float type, where layers of mixed precision meet."""

    reads = ""

    def __init__(self, dtype):
        self.dtype = dtype

    def forward(self, xs, ws):
        return tf.cast(xs[0], self.dtype), xs[0].dtype

    def backward(self, dy, xs, y, ws, memo):
        return (tf.cast(dy, memo),), ()


class Dropout(Kind):
    """y = x * mask / (1 - rate), linear in x: dx is the same of dy, the mask drawn again.

    `drop(t, seed)` draws the mask from the seed alone.
    """

    reads, stock, stock_bytes, constant_count = "", "", 1, 1

    def __init__(self, drop, seed_generator):
        self.drop, self.seed_generator = drop, seed_generator

    def constants(self):
        return (self.seed_generator.next(),)

    def forward(self, xs, ws):
        return self.drop(xs[0], ws[0]), None

    def backward(self, dy, xs, y, ws, memo):
        return (self.drop(dy, ws[0]),), (None,)


def stock_dropout(rate, noise_shape=None):
    """`drop(t, seed)` with the masks of `keras.layers.Dropout`."""
    def drop(t, seed):
        seed = tf.cast(tf.math.floormod(seed, tf.cast(tf.int32.max - 1, seed.dtype)), tf.int32)
        shape = tf.shape(t)
        shape = shape if noise_shape is None else [
            shape[i] if n is None else n for i, n in enumerate(noise_shape)]
        return tf.nn.experimental.stateless_dropout(t, rate, seed, noise_shape=shape)

    return drop


def our_dropout(pair, **settings):
    """`drop(t, seed)` with the masks of our Dropout."""
    return lambda t, seed: pair(t, seed, **settings)[0]


def softmax(axis):
    def gradient(dy, y):
        return y * (dy - tf.reduce_sum(y * dy, axis, keepdims=True))

    if isinstance(axis, int):
        return Elementwise(functools.partial(tf.nn.softmax, axis=axis), gradient,
                           of_keras=functools.partial(keras.activations.softmax, axis=axis))

    def function(x):
        e = tf.exp(x - tf.reduce_max(x, axis, keepdims=True))
        return e / tf.reduce_sum(e, axis, keepdims=True)

    return Elementwise(function, gradient)


def leaky_relu(slope):
    """By its output's sign, which for a positive slope is its input's."""
    return Elementwise(
        functools.partial(tf.nn.leaky_relu, alpha=slope),
        lambda dy, y: tf.raw_ops.LeakyReluGrad(gradients=dy, features=y, alpha=slope),
        commutes_with_max=True)


def clipped_relu(maximum):
    """min(max(x, 0), maximum)"""
    def gradient(dy, y):
        if maximum == 6:
            return tf.raw_ops.Relu6Grad(gradients=dy, features=y)
        return tf.where((y > 0) & (y < tf.constant(maximum, y.dtype)), dy, tf.zeros((), dy.dtype))

    def function(x):
        if maximum == 6:
            return tf.nn.relu6(x)
        return tf.minimum(tf.nn.relu(x), tf.constant(maximum, x.dtype))

    return Elementwise(function, gradient, commutes_with_max=True)


def relu():
    return Elementwise(
        tf.nn.relu, lambda dy, y: tf.raw_ops.ReluGrad(gradients=dy, features=y),
        commutes_with_max=True)


def hard_silu(x):
    """y = x h,  h = min(max(x / 6 + 1/2, 0), 1);  dx = dy (h + x / 6 where 0 < h < 1)"""
    h = tf.clip_by_value(x / 6 + 0.5, 0, 1)
    return x * h, lambda dy: dy * (h + tf.where((h > 0) & (h < 1), x / 6, tf.zeros((), x.dtype)))


def gelu(x):
    """y = x P,  P = (1 + erf(c x)) / 2;  dx = dy (P + x c exp(-(c x)^2) / sqrt pi)

    c is the root of 1/2 as `tf.nn.gelu` has it: rounded to float32, in float64 too.
    """
    wide = tf.cast(x, tf.float32) if x.dtype.size == 2 else x
    c = tf.cast(0.7071067811865476, wide.dtype)
    u = wide * c
    p = 0.5 * tf.math.erfc(-u)

    def backward(dy):
        return dy * tf.cast(p + u * tf.exp(-u * u) * math.pi**-0.5, x.dtype)

    return tf.cast(wide * p, x.dtype), backward


def mish(x):
    """y = x t,  t = tanh(log(1 + exp(x)));  dx = dy (t + x (1 - t^2) / (1 + exp(-x)))"""
    t = tf.tanh(tf.math.softplus(x))
    return x * t, lambda dy: dy * (t + x * (1 - t * t) * tf.sigmoid(x))


def softplus(x):
    return tf.math.softplus(x), lambda dy: tf.raw_ops.SoftplusGrad(gradients=dy, features=x)


def softsign(x):
    return tf.nn.softsign(x), lambda dy: tf.raw_ops.SoftsignGrad(gradients=dy, features=x)


# By the name of the function in keras.activations; None is the identity.
ACTIVATIONS = {
    "linear": lambda: None,
    "relu": relu,
    "relu6": lambda: clipped_relu(6),
    "leaky_relu": lambda: leaky_relu(0.2),
    "sigmoid": lambda: Elementwise(
        tf.sigmoid, lambda dy, y: tf.raw_ops.SigmoidGrad(y=y, dy=dy),
        of_keras=keras.activations.sigmoid),
    "tanh": lambda: Elementwise(tf.tanh, lambda dy, y: tf.raw_ops.TanhGrad(y=y, dy=dy)),
    "softmax": lambda: softmax(-1),
    "elu": lambda: Elementwise(
        tf.nn.elu, lambda dy, y: tf.raw_ops.EluGrad(gradients=dy, outputs=y)),
    "selu": lambda: Elementwise(
        tf.nn.selu, lambda dy, y: tf.raw_ops.SeluGrad(gradients=dy, outputs=y)),
    "exponential": lambda: Elementwise(tf.exp, lambda dy, y: dy * y),
    "hard_sigmoid": lambda: Elementwise(
        lambda x: tf.clip_by_value(x / 6 + 0.5, 0, 1),
        lambda dy, y: tf.where((y > 0) & (y < 1), dy / 6, tf.zeros((), dy.dtype))),
    "hard_silu": lambda: Pair(hard_silu),
    "gelu": lambda: Pair(gelu),
    "mish": lambda: Pair(mish),
    "softplus": lambda: Pair(softplus),
    "softsign": lambda: Pair(softsign),
}
