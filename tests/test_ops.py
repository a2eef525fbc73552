"""The formulas of the docstrings, computed naively in NumPy, against the ops."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers import Conv2D, Dropout, MaxPooling2D, activations
from custom_layers.convolution import conv1d, conv2d
from custom_layers.dropout import dropout
from custom_layers.examples import spread
from custom_layers.losses import half_squares, sigmoid_cross_entropy, softmax_cross_entropy
from custom_layers.normalization import batch_normalization, normalize_by
from custom_layers.pooling import average_pool, global_average_pool, max_pool

SETTINGS = [
    {"strides": s, "padding": p, "dilation": d, "groups": g}
    for s, d in [((1, 1), (1, 1)), ((2, 3), (1, 1)), ((1, 1), (2, 1))]
    for p in ["valid", "same", ((2, 1), (0, 3))]
    for g in [1, 2]
]


def naive_conv2d(x, w, b, strides, padding, dilation, groups):
    (n, h, width, _), (fh, fw, c, o) = x.shape, w.shape
    if padding == "same":
        padding = []
        for size, k, s, d in zip((h, width), (fh, fw), strides, dilation):
            total = max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0)
            padding.append((total // 2, total - total // 2))
    elif padding == "valid":
        padding = (0, 0), (0, 0)
    xp = np.pad(x, ((0, 0), *padding, (0, 0)))
    oh, ow = ((xp.shape[i + 1] - dilation[i] * (w.shape[i] - 1) - 1) // strides[i] + 1
              for i in (0, 1))
    y = np.zeros((n, oh, ow, o))
    for p, q, k in itertools.product(range(oh), range(ow), range(o)):
        first = k // (o // groups) * c
        for i, j in itertools.product(range(fh), range(fw)):
            row, column = p * strides[0] + i * dilation[0], q * strides[1] + j * dilation[1]
            y[:, p, q, k] += xp[:, row, column, first:first + c] @ w[i, j, :, k]
    return y + b


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("algorithm", ["native", "im2col", "toeplitz", "fft"])
def test_conv2d(settings, algorithm):
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(2, 7, 8, 4)), None, rng.normal(size=6)
    w = rng.normal(size=(3, 2, 4 // settings["groups"], 6))
    expected = naive_conv2d(x, w, b, **settings)
    np.testing.assert_allclose(conv2d(x, w, b, algorithm=algorithm, **settings), expected,
                               atol=1e-12)
    first = conv2d(x.transpose(0, 3, 1, 2), w, b, data_format="channels_first",
                   algorithm=algorithm, **settings)
    np.testing.assert_allclose(np.transpose(first, (0, 2, 3, 1)), expected, atol=1e-12)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_conv2d_algorithms_have_the_same_gradients(settings):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(2, 7, 8, 4)))
    w = tf.constant(rng.normal(size=(3, 2, 4 // settings["groups"], 6)))
    results = []
    for algorithm in ("native", "im2col", "toeplitz", "fft"):
        y, backward = conv2d.pair(x, w, None, algorithm=algorithm, **settings)
        dy = np.random.default_rng(1).normal(size=y.shape)
        results.append(backward(tf.constant(dy))[:2])
    for dx, dw in results[1:]:
        np.testing.assert_allclose(dx, results[0][0], atol=1e-12)
        np.testing.assert_allclose(dw, results[0][1], atol=1e-12)


@pytest.mark.parametrize(("size", "taps", "dilation", "strides"), [
    ((70, 41), (7, 5), (1, 1), (1, 1)), ((95, 33), (3, 3), (2, 3), (1, 1)),
    ((64, 50), (1, 8), (1, 1), (2, 3))], ids=str)
@pytest.mark.parametrize("known", [True, False])
def test_conv2d_by_tiles_of_frequencies(size, taps, dilation, strides, known):
    """Several tiles along each axis, of odd and even sides, in images of known and other sizes."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, *size, 3)), rng.normal(size=(*taps, 3, 4))
    settings = {"strides": strides, "dilation": dilation, "padding": "same"}
    y, backward = conv2d.pair(tf.constant(x), tf.constant(w), **settings)
    dy = rng.normal(size=y.shape)

    @tf.function(input_signature=[tf.TensorSpec(t.shape if known else [None] * 4, "float64")
                                  for t in (x, dy)])
    def by_frequencies(x, dy):
        y, backward = conv2d.pair(x, tf.constant(w), algorithm="fft", **settings)
        return y, *backward(dy)[:2]

    for found, expected in zip(by_frequencies(x, dy), (y, *backward(tf.constant(dy))[:2])):
        np.testing.assert_allclose(found, expected, atol=1e-11)


def test_backward_is_the_adjoint():
    """<conv(x), dy> = <x, dx>: exact for a linear map, and not a difference quotient."""
    rng = np.random.default_rng(0)
    x, w = tf.constant(rng.normal(size=(2, 6, 6, 3))), tf.constant(rng.normal(size=(3, 3, 3, 4)))
    y, backward = conv2d.pair(x, w, strides=(2, 2), padding=((1, 0), (2, 1)))
    dy = tf.constant(rng.normal(size=y.shape))
    dx, dw, _ = backward(dy)
    np.testing.assert_allclose(np.vdot(y, dy), np.vdot(x, dx), rtol=1e-12)
    np.testing.assert_allclose(np.vdot(y, dy), np.vdot(w, dw), rtol=1e-12)


def test_conv1d_causal_sees_no_future():
    x, w = np.random.default_rng(0).normal(size=(1, 6, 2)), np.ones((3, 2, 1))
    y = conv1d(x, w, padding="causal", dilation=2)
    x[:, 4:] = 100
    np.testing.assert_array_equal(conv1d(x, w, padding="causal", dilation=2)[:, :4], y[:, :4])


def naive_windows(x, size, strides, padding):
    """The windows of the image without padding: (p, q) -> array (N, <= kh, <= kw, C)."""
    sizes = x.shape[1:3]
    if padding == "same":
        outputs = [-(-n // s) for n, s in zip(sizes, strides)]
        before = [max((o - 1) * s + k - n, 0) // 2
                  for o, s, k, n in zip(outputs, strides, size, sizes)]
    else:
        outputs, before = [(n - k) // s + 1 for n, k, s in zip(sizes, size, strides)], (0, 0)
    for p, q in itertools.product(*map(range, outputs)):
        top, left = p * strides[0] - before[0], q * strides[1] - before[1]
        yield (p, q), x[:, max(top, 0):top + size[0], max(left, 0):left + size[1]]


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("size", "strides"), [((2, 2), (2, 2)), ((3, 2), (2, 1)),
                                               ((2, 2), (3, 3))], ids=str)
def test_pooling(size, strides, padding):
    x = spread((2, 7, 9, 3))
    settings = {"pool_size": size, "strides": strides, "padding": padding}
    largest, mean = max_pool(x, **settings).numpy(), average_pool(x, **settings).numpy()
    winners = max_pool(x, algorithm="winners", **settings).numpy()
    for (p, q), window in naive_windows(x, size, strides, padding):
        np.testing.assert_array_equal(largest[:, p, q], window.max((1, 2)))
        np.testing.assert_array_equal(winners[:, p, q], window.max((1, 2)))
        np.testing.assert_allclose(mean[:, p, q], window.mean((1, 2)), rtol=1e-12)


@pytest.mark.parametrize(("algorithm", "jit"), [
    ("auto", False), ("auto", True), ("native", False), ("winners", False), ("winners", True),
])
def test_the_first_of_equals_takes_the_gradient(algorithm, jit):
    x = tf.ones((1, 4, 4, 1))

    @tf.function(jit_compile=jit)
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = max_pool(x, algorithm=algorithm)
        return tape.gradient(y, x)

    expected = np.zeros((4, 4))
    expected[::2, ::2] = 1
    np.testing.assert_array_equal(gradient(x)[0, :, :, 0], expected)


def test_max_pooling_keeps_a_byte_a_window():
    x = tf.constant(spread((2, 8, 8, 3), dtype="float32"))
    _, backward = max_pool.pair(x, algorithm="winners")
    kept = [c.cell_contents for c in backward.__closure__ if tf.is_tensor(c.cell_contents)]
    assert [(t.dtype, t.shape) for t in kept] == [(tf.uint8, (2, 4, 4, 3))]


def test_dropout_keeps_nothing_of_its_inputs_size():
    x = tf.ones((64, 64))
    _, backward = dropout.pair(x, tf.constant([1, 2]), rate=0.5)
    kept, seen = [], [backward]
    while seen:
        for cell in seen.pop().__closure__ or ():
            value = cell.cell_contents
            seen += [value] if callable(value) and hasattr(value, "__closure__") else []
            kept += [value] if tf.is_tensor(value) else []
    assert sum(t.shape.num_elements() for t in kept) < 10


def test_global_average_pool():
    x = spread((2, 3, 4, 5))
    np.testing.assert_allclose(global_average_pool(x), x.mean((1, 2)))


@pytest.mark.parametrize("axis", [3, 1])
def test_batch_normalization(axis):
    x = np.random.default_rng(0).normal(3, 2, (5, 4, 4, 4))
    axes = tuple(i for i in range(4) if i != axis)
    gamma, beta = np.arange(1.0, 5), np.arange(4.0)
    shape = [4 if i == axis else 1 for i in range(4)]
    y, mean, variance = batch_normalization(x, gamma, beta, axes=axes, epsilon=1e-3)
    np.testing.assert_allclose(mean, x.mean(axes))
    np.testing.assert_allclose(variance, x.var(axes))
    centred = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-3)
    expected = gamma.reshape(shape) * centred + beta.reshape(shape)
    np.testing.assert_allclose(y, expected, atol=1e-12)
    inference = normalize_by(x, mean, variance, gamma, beta, axes=axes, epsilon=1e-3)
    np.testing.assert_allclose(inference, expected, atol=1e-12)


def test_batch_normalization_gradients_of_all_outputs(gradient_check):
    """Its statistics too are outputs with exact gradients; a mask leaves elements out."""
    x = np.random.default_rng(0).normal(3, 2, (6, 5, 2))
    mask = np.arange(30).reshape(6, 5) % 3 > 0

    def op(x, gamma, beta):
        return batch_normalization(x, gamma, beta, mask, axes=(0, 1), epsilon=1e-3)

    gradient_check(op, [x, np.array([0.5, 1.5]), np.array([1.0, 2.0])])
    np.testing.assert_allclose(op(x, None, None)[1], x[mask].mean(0), rtol=1e-6)


@pytest.mark.parametrize(
    ("op", "formula"),
    [
        (activations.relu, lambda x: np.maximum(x, 0)),
        (activations.leaky_relu, lambda x: np.where(x > 0, x, np.float32(0.2) * x)),
        (activations.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
        (activations.tanh, np.tanh),
        (activations.softmax, lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
        (activations.step, lambda x: (x > 0) * 1.0),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_activations(op, formula):
    x = spread((4, 5))
    np.testing.assert_allclose(op(x), formula(x), rtol=1e-12)


def test_step_straight_through():
    y, backward = activations.step.pair(tf.constant([-1.0, 2.0]), straight_through=True)
    np.testing.assert_array_equal(backward(tf.constant([3.0, 4.0])), [3.0, 4.0])


def test_softmax_does_not_overflow():
    np.testing.assert_allclose(activations.softmax([1000.0, 1000.0]), [0.5, 0.5])


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9, 1.0])
def test_dropout_rate_and_scale(rate):
    x = np.ones((300, 301), "float32")
    y = dropout(x, [1, 2], rate=rate).numpy()
    kept = y != 0
    assert abs(kept.mean() - (1 - rate)) < 0.01
    if rate < 1:
        np.testing.assert_allclose(y[kept], 1 / (1 - rate), rtol=1e-6)
        unscaled = dropout(x, [1, 2], rate=rate, scaled=False).numpy()
        np.testing.assert_array_equal(unscaled, kept)


def test_dropout_scaled_at_inference():
    layer, x = Dropout(0.25, seed=0, scale_at="inference"), np.ones((100, 100), "float32")
    assert set(np.unique(layer(x, training=True))) == {0.0, 1.0}
    np.testing.assert_array_equal(layer(x, training=False), 0.75 * x)
    with pytest.raises(ValueError, match="'training' or 'inference'. Received: scale_at=never"):
        Dropout(0.5, scale_at="never")


def test_losses():
    z, rng = spread((4, 5)), np.random.default_rng(0)
    t = rng.dirichlet(np.ones(5), 4)
    log_y = z - np.log(np.exp(z).sum(-1, keepdims=True))
    np.testing.assert_allclose(softmax_cross_entropy(z, t), -(t * log_y).sum(-1))
    labels = np.array([0, 4, 2, 2])
    np.testing.assert_allclose(softmax_cross_entropy(z, labels), -log_y[range(4), labels])
    s = 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(sigmoid_cross_entropy(z, t),
                               -t * np.log(s) - (1 - t) * np.log(1 - s))
    np.testing.assert_allclose(half_squares(z, t), 0.5 * ((z - t) ** 2).sum(-1))


def test_a_label_that_is_no_class_is_an_error():
    with pytest.raises(tf.errors.InvalidArgumentError, match="outside the valid range"):
        softmax_cross_entropy(np.zeros((2, 3)), np.array([0, 3]))


def test_losses_of_pixels():
    z, labels = spread((2, 3, 4, 5)), np.arange(24).reshape(2, 3, 4) % 5
    flat = softmax_cross_entropy(z.reshape(-1, 5), labels.reshape(-1))
    np.testing.assert_allclose(softmax_cross_entropy(z, labels), np.reshape(flat, (2, 3, 4)))


def test_losses_do_not_overflow():
    z = np.array([[1000.0, -1000.0]])
    np.testing.assert_allclose(softmax_cross_entropy(z, np.array([1])), [2000.0])
    np.testing.assert_allclose(sigmoid_cross_entropy(z, np.array([[0.0, 1.0]])), [[1000, 1000]])


@pytest.mark.parametrize("one_hot", [True, False], ids=["one-hot", "labels"])
def test_softmax_cross_entropy_is_the_loss_of_keras(one_hot):
    from custom_layers import SoftmaxCrossEntropy

    z, labels = spread((6, 5), dtype="float32"), np.array([0, 1, 2, 3, 4, 0])
    stock = (keras.losses.CategoricalCrossentropy if one_hot else
             keras.losses.SparseCategoricalCrossentropy)(from_logits=True)
    targets = np.eye(5, dtype="float32")[labels] if one_hot else labels
    weights = np.arange(6, dtype="float32")
    for sample_weight in (None, weights):
        np.testing.assert_allclose(SoftmaxCrossEntropy()(targets, z, sample_weight),
                                   stock(targets, z, sample_weight), rtol=1e-6)
    if not one_hot:
        np.testing.assert_allclose(SoftmaxCrossEntropy()(labels[:, None], z), stock(labels, z),
                                   rtol=1e-6)
    with pytest.raises(ValueError, match="Received: y_true.shape"):
        SoftmaxCrossEntropy()(np.zeros((6, 5, 2)), z)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"algorithm": "fast"}, "one of native, im2col, toeplitz, fft. Received: algorithm=fast"),
        ({"padding": -1}, "an integer >= 0.*Received: padding=-1"),
        ({"padding": ((1, 2, 3), 0)}, "Received: padding="),
        ({"padding": "full"}, "padding"),
    ],
)
def test_conv2d_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        Conv2D(2, 3, **arguments)


def test_strict_shows_the_arithmetic():
    Conv2D(2, 3, strides=2, strict=True).build((None, 7, 7, 1))
    with pytest.raises(ValueError, match=r"\(8 \+ 0 - 1 \* \(3 - 1\) - 1\) / 2 = 2.5"):
        Conv2D(2, 3, strides=2, strict=True).build((None, 8, 7, 1))
    with pytest.raises(ValueError, match="width must divide"):
        Conv2D(2, 3, strides=2, padding=((1, 0), 0), strict=True).build((None, 6, 8, 1))


def test_toeplitz_needs_a_known_size():
    unknown = tf.TensorSpec((None, None, None, 1))
    convolve = tf.function(lambda x: conv2d(x, tf.ones((2, 2, 1, 1)), algorithm="toeplitz"))
    with pytest.raises(ValueError, match="images of known size"):
        convolve.get_concrete_function(unknown)


def test_max_pooling_says_what_is_wrong():
    with pytest.raises(ValueError, match="Received: algorithm=fast"):
        MaxPooling2D(algorithm="fast")


def test_a_subclass_may_bring_its_own_convolution():
    class Doubled(Conv2D):
        def convolution_op(self, inputs, kernel):
            return 2 * super().convolution_op(inputs, kernel)

    x, layer = tf.ones((1, 4, 4, 1)), Doubled(2, 3)
    y = layer(x)
    np.testing.assert_allclose(y, 2 * conv2d(x, layer.kernel, layer.bias), rtol=1e-6)
