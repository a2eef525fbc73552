"""How good drawn images are, in the eyes of a classifier that was trained on real ones."""

from dataclasses import dataclass

import keras
import numpy as np
import scipy
import tensorflow as tf

from app.transfer import head_of

AT_ONCE = 500  # images in memory with their feature maps


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


class Observer:
    """Looks at images by a classifier, beside real images.

    Args:
        classifier: a model from images to logits.
        real: float32 (N, H, W, C) in [0, 1].
    """

    def __init__(self, classifier, real):
        head = classifier.get_layer(head_of(classifier)[0])
        self.model = Batched(keras.Model(classifier.inputs, (head.input, classifier.outputs[0])))
        self.reference, _ = self._see(real)

    def quality(self, images, compared=None):
        """The `Quality` of images, by default all of them; the distance of the first `compared`.

        Distances are for sets of one size: with fewer images of the same distribution it is larger.
        """
        features, probabilities = self._see(images)
        taken_for = np.bincount(probabilities.argmax(1), minlength=probabilities.shape[1])
        return Quality(frechet_distance(features[:compared], self.reference),
                       float(probabilities.max(1).mean()), taken_for / len(images))

    def _see(self, images):
        """(features (N, D), probabilities (N, C)): what the head is given, what it says."""
        features, logits = self.model(images)
        return features.reshape(len(features), -1), scipy.special.softmax(logits, axis=1)


class Batched:
    """A model, called for any number of images by one graph: with `predict` small networks wait."""

    def __init__(self, model):
        self.call = tf.function(lambda x: model(x, training=False), reduce_retracing=True)

    def __call__(self, inputs):
        parts = [self.call(tf.constant(inputs[i:i + AT_ONCE]))
                 for i in range(0, len(inputs), AT_ONCE)]
        return keras.tree.map_structure(lambda *values: np.concatenate(values), *parts)


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
