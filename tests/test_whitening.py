"""Whitening: fitted by hand with NumPy, kept in the model, on training images alone."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from app import whitening
from app.errors import UsageError
from app.models import build
from app.runs import Config
from app.training import fit, new_model

CONFIG = Config("mlp", "digits", epochs=1, batch_size=32)


def photos(count=200, side=6, channels=3):
    """Images whose neighbouring pixels agree, as those of photos do."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(count, side // 2, side // 2, channels)).repeat(2, 1).repeat(2, 2)
    return np.clip(128 + 30 * coarse + 9 * rng.normal(size=(count, side, side, channels)),
                   0, 255).astype("uint8")


def whitened(way, images, seen):
    model = build("mlp", images.shape[1:], 3, statistics=way)
    whitening.fit(model, images)
    layer = model.get_layer(f"whiten_{way}")
    assert layer.trainable_weights == []
    return keras.Model(model.inputs, layer.output).predict(seen / np.float32(255), verbose=0)


@pytest.mark.parametrize("way", whitening.WAYS)
def test_values_do_not_correlate(way):
    images = photos()
    y = whitened(way, images, images)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-4)
    rows = images.reshape(len(images), -1) / 255
    variances = np.linalg.eigvalsh(np.cov(rows.T, bias=True))[::-1]
    kept = variances / (variances + 0.01 * variances.mean())
    found = np.cov(y.T, bias=True)
    np.testing.assert_allclose(np.linalg.eigvalsh(found)[::-1], np.sort(kept)[::-1], atol=2e-3)
    if way == "pca":
        np.testing.assert_allclose(found, np.diag(kept), atol=2e-3)


def test_zca_is_an_image_near_the_image():
    images = photos()
    y = whitened("zca", images, images).reshape(images.shape)
    for pixel in np.ndindex(6, 6, 3):
        near = np.corrcoef(y[(..., *pixel)], images[(..., *pixel)])[0, 1]
        assert near > 0.3
        assert near >= max(np.corrcoef(y[(..., *pixel)], images[:, i, j, pixel[2]])[0, 1]
                           for i, j in np.ndindex(6, 6))


def test_filters_of_patches_are_white_with_both_signs():
    images = photos(side=12)
    model = build("airbench", (12, 12, 3), 4, width=1 / 16)
    whitening.fit(model, images)
    kernel = model.get_layer("whiten").kernel.numpy()
    assert kernel.shape == (2, 2, 3, 24)
    np.testing.assert_array_equal(kernel[..., :12], -kernel[..., 12:])
    seen = keras.Model(model.inputs, model.get_layer("whiten").output)
    y = seen.predict(images / np.float32(255), verbose=0)[..., :12].reshape(-1, 12)
    found = np.cov(y.T)
    np.testing.assert_allclose(found, np.diag(np.diag(found)), atol=1e-3)
    assert np.all((np.diag(found) > 0.5) & (np.diag(found) < 1.001))


def test_training_fits_it_on_the_training_images_alone(digits):
    model = new_model(replace(CONFIG, whiten="pca"), digits)
    fit(model, CONFIG, digits.train, digits.validation)
    alone = new_model(replace(CONFIG, whiten="pca"), digits)
    whitening.fit(alone, digits.train.images)
    for ours, expected in zip(*(m.get_layer("whiten_pca").get_weights() for m in (model, alone))):
        np.testing.assert_array_equal(ours, expected)
    assert np.any(ours)


def test_a_network_with_a_margin_is_whitened_before_it(digits):
    model = new_model(replace(CONFIG, model="lenet5-1998", whiten="zca"), digits)
    whitening.fit(model, digits.train.images)
    logits = model.predict(digits.test.images / np.float32(255), verbose=0)
    assert logits.shape == (50, 10) and np.isfinite(logits).all()


@pytest.mark.parametrize("way, shape, message", [
    ("ica", (8, 8, 1), "Whitening is one of zca, pca. Received: ica"),
    ("zca", (96, 96, 3), "at most 4096 values. Received: 27648, 96x96x3. .* --image-size"),
])
def test_bad_input(way, shape, message):
    with pytest.raises(UsageError, match=message):
        build("mlp", shape, 3, statistics=way)
