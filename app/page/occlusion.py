"""Occlusion: what a network makes of an image with a part erased, part by part.

Source: Zeiler, Fergus, Visualizing and Understanding Convolutional Networks, 2014, section 4.2.
Departs from it: a part is filled with the image's median colour, which is the background's where
most of an image is background, not with grey.
"""

import numpy as np

PARTS = 12  # places along a side, at most
BATCH = 32


def occlusion(predict, image, label):
    """How `predict`, from images (N, H, W, C) to probabilities, sees `image` (H, W, C).

    Returns:
        A dict: `patch` (height, width) in pixels; `tops` and `lefts`, where it was laid; for each
        of these places `probability` of the class number `label`, and the most probable class:
        its number, `best`, and its probability, `score`.
    """
    patch = [max(1, -(-side // 3)) for side in image.shape[:2]]
    tops, lefts = (_starts(side, size) for side, size in zip(image.shape, patch))
    places = [(top, left) for top in tops for left in lefts]
    fill = np.median(image, axis=(0, 1))
    parts = []
    for start in range(0, len(places), BATCH):
        batch = places[start:start + BATCH]
        images = np.repeat(image[None], len(batch), axis=0)
        for erased, (top, left) in zip(images, batch):
            erased[top:top + patch[0], left:left + patch[1]] = fill
        parts.append(predict(images))
    probabilities = np.concatenate(parts).reshape(len(tops), len(lefts), -1)
    return {
        "patch": patch, "tops": tops, "lefts": lefts, "fill": fill.tolist(),
        "probability": probabilities[..., label].tolist(),
        "best": probabilities.argmax(-1).tolist(),
        "score": probabilities.max(-1).tolist(),
    }


def _starts(side, size):
    """Where patches of `size` begin, evenly from one edge of `side` to the other.

    >>> _starts(8, 3), _starts(28, 10)
    ([0, 1, 2, 3, 4, 5], [0, 2, 3, 5, 7, 8, 10, 11, 13, 15, 16, 18])
    """
    count = min(PARTS, side - size + 1)
    return [round(float(start)) for start in np.linspace(0, side - size, count)]
