"""Settings of detectors that follow from the boxes to be found."""

import numpy as np
from sklearn.cluster import KMeans

SPREAD = (0.05, 0.95)  # the quantiles that stand for the smallest and the largest box


def box_sides(labels):
    """(n, 2): width and height in pixels of each box in labels (N, M, 5)."""
    boxes = labels[labels[..., 4] >= 0]
    return np.maximum(boxes[:, 2:4] - boxes[:, :2], 1.0)


def extremes(sides):
    """(smallest, largest) root of an area, but for the outermost of them."""
    return np.quantile(np.sqrt(np.prod(sides, -1)), SPREAD)


def clusters(values, count):
    """`count` typical values (count, ...) of positive `values` (n, ...), the smallest first.

    k-means of their logarithms. Source: Redmon, Farhadi, YOLO9000, CVPR 2017, section 2. Departs
    from it: the distance is that of logarithms in place of 1 - IoU; both look at ratios alone.
    """
    logs = np.log(values).reshape(len(values), -1)
    if len(np.unique(logs, axis=0)) < count:
        return None
    found = KMeans(count, n_init=4, random_state=0).fit(logs).cluster_centers_
    return np.exp(found[np.argsort(found.sum(1))]).reshape(count, *values.shape[1:])
