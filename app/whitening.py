"""Whitening fitted on training images: of whole images (ZCA, PCA), or of small patches."""

import keras
import numpy as np

NAME = "whiten"
WAYS = ("zca", "pca")
MOST = 4096  # values of an image: their covariance is a matrix of them
PATCH_IMAGES = 5000


def layers(way, image_shape):
    """The layers that whiten an image: y = (x - mean) W, for each value of y a unit.

    With the covariance C = V diag(l) V^T of the training images and e a hundredth of the mean of
    l:

        PCA:  W = V diag(l + e)^-1/2          values that do not correlate, the largest first
        ZCA:  W = V diag(l + e)^-1/2 V^T      an image again, the nearest that is white

    Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009, appendix A.
    """
    values = int(np.prod(image_shape))
    if way not in WAYS:
        raise ValueError(f"Whitening is one of {', '.join(WAYS)}. Received: {way}")
    if values > MOST:
        raise ValueError(
            f"Whitening needs images of at most {MOST} values. Received: {values}, "
            f"{'x'.join(map(str, image_shape))}. Make them smaller with --image-size")
    return [
        keras.layers.Flatten(name=f"{NAME}_flatten"),
        keras.layers.Dense(values, kernel_initializer="zeros", trainable=False,
                           name=f"{NAME}_{way}"),
        keras.layers.Reshape(image_shape, name=f"{NAME}_reshape"),
    ]


def way_of(model):
    """How a model whitens images, "zca" or "pca", or None."""
    names = {layer.name for layer in model.layers}
    return next((way for way in WAYS if f"{NAME}_{way}" in names), None)


def fit(model, images):
    """Fits a model's whitening to training images, bytes (N, H, W, C), if it has one.

    A convolution "whiten" gets the principal components of the patches that it sees, over the
    deviation along each of them, and their negatives.
    """
    for layer in model.layers:
        if layer.name == NAME:
            layer.set_weights([_patch_filters(_inputs(layer, model, images), *layer.kernel_size)])
        elif layer.name in [f"{NAME}_{way}" for way in WAYS]:
            mean, variances, directions = _components(images.reshape(len(images), -1), 1 / 255)
            kernel = directions / np.sqrt(variances + 0.01 * variances.mean())
            kernel = kernel @ directions.T if layer.name.endswith("zca") else kernel
            layer.set_weights([kernel, -mean @ kernel])


def _inputs(layer, model, images):
    """What `layer` sees of some of the images."""
    chosen = images[np.linspace(0, len(images) - 1, min(len(images), PATCH_IMAGES), dtype=int)]
    before = keras.Model(model.inputs, layer.input)
    return before.predict(chosen / np.float32(255), batch_size=250, verbose=0)


def _patch_filters(images, height, width):
    """(height, width, C, 2 * height * width * C)"""
    patches = np.lib.stride_tricks.sliding_window_view(images, (height, width), axis=(1, 2))
    patches = np.moveaxis(patches, 3, -1).reshape(-1, height * width * images.shape[-1])
    _, variances, directions = _components(patches)
    filters = directions / np.sqrt(variances + 5e-4)
    return np.concatenate([filters, -filters], 1).reshape(height, width, images.shape[-1], -1)


def _components(rows, factor=1.0):
    """(mean, variances, directions in columns) of rows times a factor, the largest first."""
    mean = rows.mean(axis=0, dtype=np.float64) * factor
    covariance = np.zeros((rows.shape[1],) * 2)
    for start in range(0, len(rows), 4096):
        block = rows[start:start + 4096] * factor - mean
        covariance += block.T @ block
    variances, directions = np.linalg.eigh(covariance / len(rows))
    return mean, np.maximum(variances[::-1], 0), directions[:, ::-1]
