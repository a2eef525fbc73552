"""Linear SVMs and ridge regression on the features of regions: R-CNN's second half."""

import keras
import numpy as np
import tensorflow as tf
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVC

from app.detection import coding
from app.detection.boxes import area, iou
from app.detection.regions import SCALES


def refit(network, inputs, labels, *, penalty=1.0, ridge=1.0, lower=0.3, near=0.6):
    """Puts linear SVMs and ridge regressions in place of a region head's last two layers.

    The SVM of a class takes its true boxes as positives, regions that overlap none of them by
    `lower` as negatives; its margin becomes the score, that of the background is 0. Offsets are
    regressed from regions that overlap an object of the class by `near`.

    Args:
        network: of R-CNN, SPPNet or Fast R-CNN, its features trained; it is changed.
        inputs: {"images": (N, H, W, C), "proposals": (N, R, 4)}.
        labels: the true boxes (N, M, 5), M at most R.
        penalty: scikit-learn's C of the SVMs.
        ridge: the weight of the squares of the regression's coefficients.

    Source: Girshick et al., Rich Feature Hierarchies, CVPR 2014, sections 2.3, appendices B, C.
    Departs from it: all negatives are taken at once in place of mining hard ones; the regression
    too sees the last layer's features, and smaller weights on its squares suit fewer regions.
    """
    scores, offsets = network.get_layer("scores"), network.get_layer("offsets")
    features = keras.Model(network.input, scores.input)
    regions = np.asarray(inputs["proposals"])
    x = features.predict(inputs, batch_size=8, verbose=0)
    true = np.zeros_like(regions)
    true[:, :labels.shape[1]] = labels[..., :4]
    positives = features.predict({**inputs, "proposals": true}, batch_size=8, verbose=0)
    positives = positives[:, :labels.shape[1]]
    overlaps = iou(tf.constant(regions), tf.constant(labels[..., :4])).numpy()
    there = area(tf.constant(regions)).numpy() > 0

    kernel, bias = map(np.zeros_like, scores.get_weights())
    moves, start = map(np.zeros_like, offsets.get_weights())
    for c in range(scores.units - 1):
        own = labels[..., 4] == c
        overlap = np.where(own[:, None], overlaps, 0.0)
        negatives = there & (overlap.max(-1) < lower)
        if not own.any() or not negatives.any():
            # Never found without objects; always where there is nothing else.
            bias[c] = 100.0 if own.any() else -100.0
            continue
        kernel[:, c], bias[c] = _svm(positives[own], x[negatives], penalty)
        close = there & (overlap.max(-1) >= near)
        if close.any():
            boxes = np.take_along_axis(labels[..., :4], overlap.argmax(-1)[..., None], 1)
            wanted = coding.encode(tf.constant(regions), tf.constant(boxes), SCALES).numpy()
            fitted = Ridge(ridge).fit(x[close], wanted[close])
            moves[:, 4 * c:4 * c + 4], start[4 * c:4 * c + 4] = fitted.coef_.T, fitted.intercept_
    scores.set_weights([kernel, bias])
    offsets.set_weights([moves, start])
    return network


def _svm(positives, negatives, penalty):
    """(weights, bias) of the linear SVM that tells the two apart; both weigh the same in all."""
    x = np.concatenate([positives, negatives])
    y = np.repeat([1, 0], [len(positives), len(negatives)])
    fitted = LinearSVC(C=penalty, class_weight="balanced", max_iter=10_000).fit(x, y)
    return fitted.coef_[0], fitted.intercept_[0]
