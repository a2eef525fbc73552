"""Classical baselines by scikit-learn: features made by hand, or by a network, and a classifier.

What a baseline can choose (how many neighbours, how soft a margin) is chosen on the validation
part; the test part is used once.
"""

import time
from dataclasses import asdict, dataclass

import numpy as np
from skimage.feature import hog
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import (RFE, SelectFromModel, SelectKBest, VarianceThreshold,
                                       chi2, f_classif, mutual_info_classif)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, LinearSVC

COMPONENTS = 50


def pixels(images):
    """All values of an image, in [0, 1]."""
    return images.reshape(len(images), -1).astype("float32") / 255


def gradients(images):
    """Histograms of oriented gradients, nine directions in each cell of a quarter of the side.

    Source: Dalal, Triggs, Histograms of Oriented Gradients for Human Detection, 2005.
    """
    cell = max(2, min(images.shape[1:3]) // 7)
    color = images.shape[-1] == 3
    return np.array([
        hog(image if color else image[..., 0], orientations=9, pixels_per_cell=(cell, cell),
            cells_per_block=(2, 2), channel_axis=-1 if color else None)
        for image in images], "float32")


def _k(values):
    """How many to keep: no more than differ between images."""
    return min(COMPONENTS, np.count_nonzero(np.ptp(values, axis=0)))


# From (training values, labels) to a fitted step, between the features and the classifier.
REDUCTIONS = {
    "pca": lambda x, y: PCA(min(_k(x), len(x)), random_state=0),
    "lda": lambda x, y: LinearDiscriminantAnalysis(),
    "chi-square": lambda x, y: SelectKBest(chi2, k=_k(x)),
    "mutual-information": lambda x, y: SelectKBest(mutual_info_classif, k=_k(x)),
    "correlation": lambda x, y: make_pipeline(VarianceThreshold(),
                                              SelectKBest(f_classif, k=_k(x))),
    "elimination": lambda x, y: RFE(LinearSVC(), n_features_to_select=_k(x), step=0.2),
    "l1": lambda x, y: SelectFromModel(LinearSVC(penalty="l1", dual=False, C=0.1)),
}
FEATURES = {"pixels": pixels, "hog": gradients}
CLASSIFIERS = {
    "svm": [lambda c=c: SVC(C=c) for c in (1, 10, 100)],
    "knn": [lambda k=k: KNeighborsClassifier(k) for k in (1, 3, 5)],
}


@dataclass(frozen=True)
class Score:
    """A baseline: how many values it classifies by, accuracies, seconds of all its work."""

    features: str
    reduction: str | None
    classifier: str
    values: int
    validation_accuracy: float
    test_accuracy: float
    seconds: float

    as_dict = asdict


def baseline(data, features, reduction, classifier, *, name=None, limit=None):
    """The `Score` of one baseline.

    Args:
        data: a `Data`.
        features: a function from images (N, H, W, C) uint8 to values (N, n).
        reduction: a name out of `REDUCTIONS`, or None.
        classifier: a name out of `CLASSIFIERS`.
        limit: the most training images, the first of each; None takes all.
    """
    began = time.perf_counter()
    parts = {}
    for part, split in data.splits.items():
        few = slice(limit if part == "train" else None)
        parts[part] = features(split.images[few]), split.labels[few]
    x, y = parts["train"]
    if reduction:
        step = REDUCTIONS[reduction](x, y).fit(x, y)
        parts = {part: (step.transform(values), labels) for part, (values, labels) in parts.items()}
        x, y = parts["train"]
    fitted = [make().fit(x, y) for make in CLASSIFIERS[classifier]]
    scores = [model.score(*parts["validation"]) for model in fitted]
    best = int(np.argmax(scores))
    return Score(name or features.__name__, reduction, classifier, x.shape[1], scores[best],
                 fitted[best].score(*parts["test"]), time.perf_counter() - began)
