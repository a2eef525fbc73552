"""Pyramid pooling, RoI pooling and RoI align against NumPy; ties, borders, errors."""

import functools
import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers.examples import spread
from custom_layers.pyramid_pooling import SpatialPyramidPooling2D, spatial_pyramid_pool
from custom_layers.regions import RoIAlign, RoIPooling, roi_align, roi_pool

IMAGE = (2, 7, 9, 3)
BY_IMAGE = np.array([
    [[0.3, 0.2, 4.6, 5.1], [1.0, 2.0, 6.7, 3.9], [0.0, 0.0, 0.0, 0.0]],
    [[-2.2, 0.4, 3.3, 9.0], [2.2, 2.4, 2.9, 2.6], [5.5, 3.5, 30.0, 20.0]],
])
BY_NUMBER = np.array([[1, 0.3, 0.2, 4.6, 5.1], [0, 1.0, 2.0, 6.7, 3.9], [1, 5.5, 3.5, 30.0, 20.0],
                      [1, -2.2, 0.4, 3.3, 9.0]])
every_roi = pytest.mark.parametrize("rois", [BY_IMAGE, BY_NUMBER], ids=["by image", "by number"])
modes = pytest.mark.parametrize("jit", [None, False, True], ids=["eager", "graph", "xla"])
both = pytest.mark.parametrize("layer", [RoIPooling, RoIAlign])


def compiled(function, jit):
    return function if jit is None else tf.function(function, jit_compile=jit)


def over_rois(x, rois, region):
    """`region(image, box)` for each RoI, in the RoIs' arrangement."""
    if rois.ndim == 3:
        return np.stack([[region(image, box) for box in boxes] for image, boxes in zip(x, rois)])
    return np.stack([region(x[int(image)], box) for image, *box in rois])


def naive_roi_pool(x, rois, size, scale):
    def region(image, box):
        x1, y1, x2, y2 = (int(math.copysign(math.floor(abs(v * scale) + 0.5), v)) for v in box)
        y = np.zeros((*size, image.shape[2]))
        for i, j in np.ndindex(*size):
            (top, bottom), (left, right) = (
                (max(start + k * n // bins, 0), start - (-(k + 1) * n // bins))
                for k, bins, start, n in ((i, size[0], y1, max(y2 - y1 + 1, 1)),
                                          (j, size[1], x1, max(x2 - x1 + 1, 1))))
            window = image[top:max(bottom, 0), left:max(right, 0)]
            y[i, j] = window.max((0, 1)) if window.size else 0
        return y

    return over_rois(x, rois, region)


def naive_roi_align(x, rois, size, scale, samples, aligned):
    def value(image, row, column):
        h, w, c = image.shape
        if not (-1 <= row <= h and -1 <= column <= w):
            return np.zeros(c)
        row, column = min(max(row, 0), h - 1), min(max(column, 0), w - 1)
        return sum(
            (1 - abs(row - a)) * (1 - abs(column - b)) * image[a, b]
            for a in range(h) for b in range(w) if abs(row - a) < 1 and abs(column - b) < 1
        )

    def region(image, box):
        x1, y1, x2, y2 = (v * scale - 0.5 * aligned for v in box)
        height, width = (n if aligned else max(n, 1) for n in (y2 - y1, x2 - x1))
        y = np.zeros((*size, image.shape[2]))
        for i, j in np.ndindex(*size):
            for a, b in itertools.product(range(samples), repeat=2):
                row = y1 + (i + (a + 0.5) / samples) * height / size[0]
                column = x1 + (j + (b + 0.5) / samples) * width / size[1]
                y[i, j] += value(image, row, column) / samples**2
        return y

    return over_rois(x, rois, region)


@modes
@pytest.mark.parametrize("levels", [(1, 2, 4), (3,), (1, 12)], ids=str)
def test_spatial_pyramid(levels, jit):
    x = spread(IMAGE)
    bins = []
    for a in levels:
        for i, j in np.ndindex(a, a):
            rows = slice(math.floor(i * 7 / a), math.ceil((i + 1) * 7 / a))
            columns = slice(math.floor(j * 9 / a), math.ceil((j + 1) * 9 / a))
            bins.append(x[:, rows, columns].max((1, 2)))
    expected = np.concatenate(bins, 1)
    op = functools.partial(spatial_pyramid_pool, levels=levels)
    np.testing.assert_array_equal(compiled(op, jit)(x), expected)
    first = op(x.transpose(0, 3, 1, 2), data_format="channels_first")
    np.testing.assert_array_equal(first, expected)


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 13)], ids=str)
def test_spatial_pyramid_gives_one_length_for_any_size(size):
    layer, shape = SpatialPyramidPooling2D(), (2, *size, 3)
    assert layer(spread(shape)).shape == layer.compute_output_shape(shape) == (2, 63)
    assert layer.compute_output_shape((None, None, None, 256)) == (None, 21 * 256)


@pytest.mark.parametrize("arguments", [{}, {"levels": (1, 3)}], ids=str)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_spatial_pyramid_gradients(arguments, data_format, gradient_check):
    layer = SpatialPyramidPooling2D(data_format=data_format, **arguments)
    assert gradient_check(layer, spread((2, 5, 6, 4)), directions=2, elements=64,
                          second_order=True).error <= 1e-6


@modes
@every_roi
@pytest.mark.parametrize("size", [(2, 3), (7, 7)], ids=str)
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_roi_pool(rois, size, scale, jit):
    x = spread(IMAGE)
    op = functools.partial(roi_pool, output_size=size, spatial_scale=scale)
    expected = naive_roi_pool(x, rois, size, scale)
    np.testing.assert_array_equal(compiled(op, jit)(x, rois), expected)
    first = np.moveaxis(op(x.transpose(0, 3, 1, 2), rois, data_format="channels_first"), -3, -1)
    np.testing.assert_array_equal(first, expected)


@modes
@every_roi
@pytest.mark.parametrize("settings", [
    {}, {"spatial_scale": 0.3, "sampling_ratio": 3}, {"aligned": False, "sampling_ratio": 1},
], ids=str)
def test_roi_align(rois, settings, jit):
    x = spread(IMAGE)
    op = functools.partial(roi_align, output_size=(2, 3), **settings)
    expected = naive_roi_align(
        x, rois, (2, 3), settings.get("spatial_scale", 1.0), settings.get("sampling_ratio", 2),
        settings.get("aligned", True))
    np.testing.assert_allclose(compiled(op, jit)(x, rois), expected, atol=1e-12)
    first = np.moveaxis(op(x.transpose(0, 3, 1, 2), rois, data_format="channels_first"), -3, -1)
    np.testing.assert_allclose(first, expected, atol=1e-12)


def test_an_aligned_roi_over_the_image_is_the_image():
    x = spread((1, 4, 6, 2))
    y = roi_align(x, [[[0, 0, 6, 4]]], output_size=(4, 6), sampling_ratio=1)
    np.testing.assert_allclose(y[:, 0], x, atol=1e-12)
    np.testing.assert_array_equal(roi_pool(x, [[[0, 0, 5, 3]]], output_size=(4, 6))[:, 0], x)


def test_roi_pool_over_the_image_is_a_level_of_the_pyramid():
    x = spread(IMAGE)
    y = roi_pool(x, [[[0, 0, 8, 6]]] * 2, output_size=(4, 4))
    np.testing.assert_array_equal(tf.reshape(y, (2, -1)), spatial_pyramid_pool(x, levels=(4,)))


@both
@every_roi
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_gradients(layer, rois, data_format, gradient_check):
    x = spread(IMAGE if data_format == "channels_last" else (2, 3, 7, 9))
    layer = layer((2, 3), 0.8, data_format=data_format)
    report = gradient_check(layer, [x, rois], skip=("rois",), directions=2, elements=64,
                            second_order=True)
    assert report.error <= 1e-6


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_the_backward_of_roi_align_is_its_adjoint(jit):
    rng = np.random.default_rng(0)
    x, dy = tf.constant(rng.normal(size=IMAGE)), tf.constant(rng.normal(size=(4, 7, 7, 3)))

    @tf.function(jit_compile=jit)
    def products(x, rois, dy):
        y, backward = roi_align.pair(x, rois)
        return tf.reduce_sum(y * dy), tf.reduce_sum(x * backward(dy)[0])

    np.testing.assert_allclose(*products(x, tf.constant(BY_NUMBER), dy), rtol=1e-12)


@modes
@pytest.mark.parametrize("op", [
    functools.partial(roi_pool, rois=[[[0, 0, 3, 3]]], output_size=(2, 2)),
    functools.partial(spatial_pyramid_pool, levels=(2,)),
], ids=["roi_pool", "pyramid"])
def test_the_first_of_equals_takes_the_gradient(op, jit):
    def gradient(x):
        rois = op.keywords.get("rois")
        settings = {k: v for k, v in op.keywords.items() if k != "rois"}
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = op.func(x, *([tf.constant(rois, tf.float32)] if rois else []), **settings)
        return tape.gradient(y, x)

    expected = np.zeros((4, 4))
    expected[::2, ::2] = 1
    np.testing.assert_array_equal(compiled(gradient, jit)(tf.ones((1, 4, 4, 1)))[0, :, :, 0],
                                  expected)


def test_keep_no_image():
    """What the backward passes keep is smaller than x: one place a value, or the RoIs' taps."""
    x, rois = tf.constant(spread((1, 40, 40, 8), dtype="float32")), tf.constant([[[1., 1, 30, 30]]])
    for pair in (roi_pool.pair(x, rois), roi_align.pair(x, rois), spatial_pyramid_pool.pair(x)):
        kept, functions = [], [pair[1]]
        while functions:
            for cell in functions.pop().__closure__ or ():
                for value in tf.nest.flatten(cell.cell_contents):
                    kept += [value.ref()] if tf.is_tensor(value) else []
                    if getattr(value, "__closure__", None):
                        functions.append(value)
        assert kept and x.ref() not in kept
        assert all(k.deref().shape.num_elements() < x.shape.num_elements() / 4 for k in kept)


@both
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_leaves_the_rois_alone(layer, policy):
    """In bfloat16, 301 and 303 are 300 and 304."""
    x = spread((1, 1, 400, 1), dtype="float32")
    rois = np.array([[[301, 0, 303, 1]]], "float32")
    half = layer((1, 3), dtype=policy)
    y, exact = half(x, rois), layer((1, 3))(x, rois)
    assert y.dtype == policy.removeprefix("mixed_")
    np.testing.assert_allclose(tf.cast(y, tf.float32), exact, atol=1e-2)


@both
@pytest.mark.parametrize("batch", [1, 2])
def test_unknown_sizes(layer, batch):
    layer = layer((2, 3))
    spec = [tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((None, None, 4))]

    @tf.function(input_signature=spec)
    def run(x, rois):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, rois)
        return y, tape.gradient(y, x)

    x, rois = spread((batch, 7, 9, 3), dtype="float32"), BY_IMAGE[:batch].astype("float32")
    y, dx = run(x, rois)
    assert y.shape == (batch, 3, 2, 3, 3) == layer.compute_output_shape(x.shape, rois.shape)
    assert dx.shape == x.shape
    np.testing.assert_allclose(y, layer(x, rois), rtol=1e-6)


@modes
@both
@pytest.mark.parametrize("shapes", [((0, 7, 9, 3), (0, 3, 4)), ((2, 7, 9, 3), (2, 0, 4)),
                                    ((2, 7, 9, 3), (0, 5))], ids=str)
def test_nothing_to_pool(layer, shapes, jit):
    def run(x, rois):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer((2, 2))(x, rois)
        return y, tape.gradient(y, x)

    y, dx = compiled(run, jit)(*map(tf.ones, shapes))
    assert y.shape == (*shapes[1][:-1], 2, 2, 3)
    np.testing.assert_array_equal(dx, np.zeros(shapes[0]))


@both
def test_in_a_model_that_trains_and_comes_back_from_its_file(layer, tmp_path):
    image, rois = keras.Input((None, None, 3), name="image"), keras.Input((None, 4), name="rois")
    y = keras.layers.Conv2D(4, 3)(image)
    model = keras.Model([image, rois], layer(2, spatial_scale=0.5, name="region")(y, rois))
    assert model.output_shape == (None, None, 2, 2, 4)
    x = [spread(IMAGE, dtype="float32"), BY_IMAGE.astype("float32")]
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again(x), model(x))
    assert again.get_layer("region").get_config() == model.get_layer("region").get_config()
    model.compile("sgd", "mse")
    before = model.get_weights()[0]
    model.fit(x, np.ones((2, 3, 2, 2, 4)), verbose=0)
    assert not np.array_equal(before, model.get_weights()[0])


@both
@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("roi", [
    (1, 9, 0, 12, 3), (1, 0, 7, 3, 8), (1, -5, 0, -1, 3), (1, 0, -4, 3, -1), (1, 3, 0, 1, 3),
    (1, 0, 3, 3, 1), (2, 0, 0, 1, 1), (-1, 0, 0, 1, 1), (1, 0, 0, np.nan, 1), (1, 0, 0, np.inf, 1),
], ids=str)
def test_rois_outside_the_image(layer, mode, roi):
    call = layer(2) if mode == "eager" else tf.function(layer(2))
    error = ValueError if mode == "eager" else tf.errors.InvalidArgumentError
    with pytest.raises(error, match="(?s)Each of `rois` must be .* meet its image"):
        call(tf.ones(IMAGE), tf.constant([(0, 1, 1, 2, 2), roi], tf.float32))


@both
@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize(("shapes", "message"), [
    ((IMAGE, (2, 3, 5)), r"`rois` of layer it must .*Received: rois.shape=\(2, 3, 5\)"),
    ((IMAGE, (3, 4)), r"Received: rois.shape=\(3, 4\)"),
    ((IMAGE, (3, 2, 4)), r"Received: rois.shape=\(3, 2, 4\), inputs.shape=\(2, 7, 9, 3\)"),
    (((7, 9, 3), (3, 5)), r"Layer it takes images.*Received: inputs.shape=\(7, 9, 3\)"),
])
def test_wrong_shapes(layer, mode, shapes, message):
    layer = layer(2, name="it")
    with pytest.raises(ValueError, match=message):
        (layer if mode == "eager" else tf.function(layer))(*map(tf.zeros, shapes))


@pytest.mark.parametrize(("make", "message"), [
    (lambda: RoIPooling(0), "Received: output_size=0"),
    (lambda: RoIPooling((1, 2, 3)), "Received: output_size="),
    (lambda: RoIAlign(spatial_scale=0), "Received: spatial_scale=0"),
    (lambda: RoIAlign(sampling_ratio=0), "Received: sampling_ratio=0"),
    (lambda: RoIAlign(data_format="NHWC"), "Received: data_format=NHWC"),
    (lambda: SpatialPyramidPooling2D(()), r"Received: levels=\(\)"),
    (lambda: SpatialPyramidPooling2D((1, 0)), r"Received: levels=\(1, 0\)"),
    (lambda: SpatialPyramidPooling2D()(tf.ones((1, 0, 3, 2))), r"Received: inputs.shape=\(1, 0, 3"),
])
def test_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
