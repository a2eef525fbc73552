"""How good drawn images are, in the eyes of a classifier that was trained on real ones."""

from dataclasses import dataclass

import keras
import numpy as np
import scipy

from app.transfer import head_of


@dataclass(frozen=True)
class Quality:
    """What a classifier sees in a set of images.

    fid: the Fréchet distance to real images: 0 for the same set, and never quite 0 for another.
    confidence: the mean probability of the class that an image is taken for.
    coverage: (classes,) the share of the images that is taken for each class.
    """

    fid: float
    confidence: float
    coverage: np.ndarray


def qualities(classifier, real, sets):
    """The `Quality` of each set of images beside the images `real`, by name.

    Compare sets of one size: with fewer images the distance of the same distribution is larger.

    classifier: a model from images to logits. real: float32 (N, H, W, C) in [0, 1].
    sets: such images by name, as in {"drawn": ..., "held out": ..., "noise": ...}.
    """
    head = classifier.get_layer(head_of(classifier)[0])
    observer = keras.Model(classifier.inputs, (head.input, classifier.outputs[0]))
    reference, _ = _observe(observer, real)
    found = {}
    for name, images in sets.items():
        features, probabilities = _observe(observer, images)
        taken_for = np.bincount(probabilities.argmax(1), minlength=probabilities.shape[1])
        found[name] = Quality(frechet_distance(features, reference),
                              float(probabilities.max(1).mean()), taken_for / len(images))
    return found


def _observe(observer, images):
    """(features (N, D), probabilities (N, C)) of images: what the head is given, what it says."""
    features, logits = observer.predict(images, batch_size=256, verbose=0)
    return features.reshape(len(features), -1), scipy.special.softmax(logits, axis=1)


def noise_like(images, seed=0):
    """Images of the same shape whose pixels are drawn from all of `images`, each by itself."""
    return np.random.default_rng(seed).choice(images.ravel(), images.shape)


def frechet_distance(a, b):
    """The squared Fréchet distance of two Gaussians, those with the moments of two sets.

        |mu_a - mu_b|^2 + trace(S_a + S_b - 2 (S_a S_b)^1/2)

    The trace of the root is the sum of the roots of the eigenvalues of S_a^1/2 S_b S_a^1/2, which
    is symmetric: no root of a product that rounding makes complex.

    Shapes: a (N, D), b (M, D) -> a number. Singular covariances (N <= D) are allowed.
    Source: Heusel et al., GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
    Equilibrium, NIPS 2017, equation 6. Departs from it: the features are those of a classifier
    of the same data, in place of Inception's.
    """
    for name, features in (("a", a), ("b", b)):
        if features.ndim != 2 or len(features) < 2 or features.shape[1] != a.shape[1]:
            raise ValueError("`frechet_distance` takes features (N, D) and (M, D) of at least two "
                             f"images each. Received: {name}.shape={features.shape}")
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    values, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    crossed = np.linalg.eigvalsh(root @ cov_b @ root)
    return float(np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(cov_a) + np.trace(cov_b)
                 - 2 * np.sqrt(np.maximum(crossed, 0)).sum())
