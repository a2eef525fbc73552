"""Anchors: boxes of a few sizes around each cell of a feature map, that predictions start from."""

import numpy as np


def grid(image_shape, stride):
    """(rows, columns) of the feature map of a stride: "same" padding rounds up."""
    return tuple(-(-side // stride) for side in image_shape[:2])


def anchors(image_shape, sizes):
    """All anchors (A, 4) of an image, as a constant.

    sizes: for each stride the (width, height) pairs, in pixels, that stand around the centre of
    each of its cells. Ordered as predictions are: strides, rows, columns, sizes.
    """
    found = []
    for stride, pairs in sizes.items():
        rows, columns = (stride * (np.arange(n) + 0.5) for n in grid(image_shape, stride))
        y, x = np.meshgrid(rows, columns, indexing="ij")
        centres = np.stack([x, y], -1)[:, :, None]
        halves = np.asarray(pairs) / 2
        found.append(np.concatenate([centres - halves, centres + halves], -1).reshape(-1, 4))
    return np.concatenate(found).astype("float32")


def shaped(scales, ratios):
    """(width, height) of the areas scale^2 with width / height = ratio, for each scale, ratio."""
    return [(scale * ratio**0.5, scale / ratio**0.5) for scale in scales for ratio in ratios]


def default_boxes(side, strides, smallest, largest, ratios=(1.0, 2.0, 0.5, 3.0, 1 / 3)):
    """SSD's default boxes for each stride: one scale a stride, and a square of the next one's.

    Forward:   s_k = smallest + (largest - smallest) (k - 1) / (m - 1), times the image's side;
               widths s_k sqrt(a), heights s_k / sqrt(a), and a square of sqrt(s_k s_(k+1))
    Source:    Liu et al., SSD: Single Shot MultiBox Detector, ECCV 2016, equation 4.
    """
    step = (largest - smallest) / max(1, len(strides) - 1)
    scales = [side * (smallest + step * k) for k in range(len(strides) + 1)]
    return {stride: shaped([scales[k]], ratios) + shaped([(scales[k] * scales[k + 1]) ** 0.5], [1])
            for k, stride in enumerate(strides)}
