"""The losses of the detectors beside naive ones: anchor by anchor, cell by cell."""

import numpy as np
import pytest
import tensorflow as tf

from app.detection.matching import IGNORED, NEGATIVE
from app.detection.regions import divided, regions_loss
from app.detection.retinanet import retinanet_loss
from app.detection.ssd import ssd_loss
from app.detection.yolo import yolo1_loss
from app.detection.yolo_anchors import yolo2_loss, yolo3_loss


def softmax_entropy(z, label):
    return np.log(np.exp(z).sum()) - z[label]


def huber(e, delta=1.0):
    e = np.abs(e)
    return np.where(e < delta, e**2 / 2 / delta, e - delta / 2).sum()


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def cross_entropy(z, t):
    return -(t * np.log(sigmoid(z)) + (1 - t) * np.log(1 - sigmoid(z)))


@pytest.fixture
def anchors():
    """Targets of two images of 12 anchors and predictions of 4 + 4 numbers."""
    rng = np.random.default_rng(1)
    classes = np.full((2, 12), NEGATIVE)
    classes[0, :3], classes[:, 3:5] = [0, 2, 1], IGNORED
    y_true = np.concatenate([rng.normal(size=(2, 12, 4)), classes[..., None]], -1)
    return y_true.astype("float32"), rng.normal(size=(2, 12, 8)).astype("float32"), classes


def test_the_loss_of_ssd(anchors):
    """3 positives and their 7 of at most 9 negatives; 3 negatives of the image without objects."""
    y_true, y_pred, classes = anchors
    total = 0
    for i in range(2):
        negatives = sorted((softmax_entropy(y_pred[i, a, 4:], 3) for a in range(12)
                            if classes[i, a] == NEGATIVE), reverse=True)
        total += sum(negatives[:9 if i == 0 else 3])
        for a in np.flatnonzero(classes[i] >= 0):
            total += softmax_entropy(y_pred[i, a, 4:], classes[i, a])
            total += huber(y_pred[i, a, :4] - y_true[i, a, :4])
    assert float(ssd_loss(y_true, y_pred)) == pytest.approx(total / 3, rel=1e-5)


def test_the_loss_of_retinanet(anchors):
    y_true, y_pred, classes = anchors
    total = 0
    for i, a in np.argwhere(classes != IGNORED):
        t = np.eye(4)[classes[i, a]] if classes[i, a] >= 0 else np.zeros(4)
        p = sigmoid(y_pred[i, a, 4:])
        wrong = t * (1 - p) + (1 - t) * p
        weight = t * 0.25 + (1 - t) * 0.75
        total += (weight * wrong**2 * cross_entropy(y_pred[i, a, 4:], t)).sum()
        if classes[i, a] >= 0:
            total += huber(y_pred[i, a, :4] - y_true[i, a, :4])
    assert float(retinanet_loss(y_true, y_pred)) == pytest.approx(total / 3, rel=1e-5)


def overlap(a, b):
    """IoU of two boxes (centre x, centre y, width, height)."""
    low = np.maximum(a[:2] - a[2:] / 2, b[:2] - b[2:] / 2)
    high = np.minimum(a[:2] + a[2:] / 2, b[:2] + b[2:] / 2)
    both = np.prod(np.maximum(high - low, 0))
    return both / (a[2:].prod() + b[2:].prod() - both)


def test_the_loss_of_yolo_1():
    """A grid of 2 x 3 cells, an object in one of them; the second box is the better one."""
    rng = np.random.default_rng(2)
    y_true = np.tile(np.array([0, 0, 0, 0, NEGATIVE], np.float32), (1, 2, 3, 1))
    y_true[0, 1, 2] = [0.3, 0.6, 0.7, 0.5, 1]
    y_pred = rng.uniform(0.1, 0.9, (1, 2, 3, 12)).astype("float32")
    y_pred[0, 1, 2, :4], y_pred[0, 1, 2, 5:9] = [0.9, 0.1, 0.2, 0.2], [0.35, 0.5, 0.6, 0.5]
    cells, sides = np.array([2, 1]), np.array([3, 2])

    def box(values):
        return np.concatenate([(values[:2] + cells) / sides, values[2:] ** 2])

    total = 0.5 * (y_pred[..., [4, 9]] ** 2).sum() - 0.5 * y_pred[0, 1, 2, 9] ** 2
    total += 5 * ((y_pred[0, 1, 2, 5:9] - y_true[0, 1, 2, :4]) ** 2).sum()
    iou = overlap(box(y_pred[0, 1, 2, 5:9]), box(y_true[0, 1, 2, :4]))
    total += (y_pred[0, 1, 2, 9] - iou) ** 2
    total += ((y_pred[0, 1, 2, 10:] - [0, 1]) ** 2).sum()
    assert float(yolo1_loss(y_true, y_pred, 2)) == pytest.approx(total, rel=1e-5)


@pytest.fixture
def priors(anchors):
    """Targets with places in (0, 1), predictions of 5 + 3 numbers."""
    y_true, y_pred, classes = anchors
    y_true[..., :2] = sigmoid(y_true[..., :2])
    return y_true, y_pred, classes


def test_the_loss_of_yolo_2(priors):
    y_true, y_pred, classes = priors
    pairs = np.array([[1.0, 2.0], [3.0, 1.5]])
    total = 0
    for i, a in np.argwhere(classes != IGNORED):
        p, t = y_pred[i, a], y_true[i, a]
        if classes[i, a] == NEGATIVE:
            total += sigmoid(p[4]) ** 2
            continue
        prior, place = pairs[a % 2], sigmoid(p[:2])
        iou = overlap(np.concatenate([place, prior * np.exp(p[2:4])]),
                      np.concatenate([t[:2], prior * np.exp(t[2:4])]))
        total += ((place - t[:2]) ** 2).sum() + ((p[2:4] - t[2:4]) ** 2).sum()
        total += 5 * (sigmoid(p[4]) - iou) ** 2 + softmax_entropy(p[5:], classes[i, a])
    assert float(yolo2_loss(y_true, y_pred, pairs.tolist())) == pytest.approx(total / 2, rel=1e-5)


def test_the_loss_of_yolo_3(priors):
    y_true, y_pred, classes = priors
    total = 0
    for i, a in np.argwhere(classes != IGNORED):
        p, t = y_pred[i, a], y_true[i, a]
        total += cross_entropy(p[4], float(classes[i, a] >= 0))
        if classes[i, a] >= 0:
            total += cross_entropy(p[:2], t[:2]).sum() + ((p[2:4] - t[2:4]) ** 2).sum() / 2
            total += cross_entropy(p[5:], np.eye(3)[classes[i, a]]).sum()
    assert float(yolo3_loss(y_true, y_pred)) == pytest.approx(total / 2, rel=1e-5)


def test_the_loss_of_regions():
    """A region on the object, one that overlaps it by less than half, an empty one."""
    labels = np.array([[[0, 0, 10, 10, 1]]], np.float32)
    rois = np.array([[[0, 0, 10, 8], [0, 0, 10, 4], [0, 0, 0, 0]]], np.float32)
    numbers = np.random.default_rng(0).normal(size=(1, 3, 3 + 8)).astype("float32")
    y_pred = np.concatenate([rois, numbers], -1)
    _, scores, offsets = (t.numpy()[0] for t in divided(tf.constant(y_pred)))
    wanted = np.array([0, (5 - 4) / 8, 0, np.log(10 / 8)]) / [0.1, 0.1, 0.2, 0.2]
    positive = softmax_entropy(scores[0], 1) + huber(offsets[0, 1] - wanted)
    negative = softmax_entropy(scores[1], 2)
    settings = dict(count=8, positives=2)
    found = float(regions_loss(labels, y_pred, **settings, lower=0.0))
    assert found == pytest.approx((positive + negative) / 2, rel=1e-4)
    found = float(regions_loss(labels, y_pred, **settings, lower=0.45))
    assert found == pytest.approx(positive, rel=1e-4)
