"""Selective search: boxes around the regions of an image and around what they merge to."""

import itertools

import numpy as np
from skimage.color import rgb2hsv
from skimage.segmentation import felzenszwalb

BINS = 25  # of the histogram of a channel


def proposals(images, count, **settings):
    """The boxes float32 (N, count, 4) of images uint8 (N, H, W, C): zeros where there are fewer."""
    found = np.zeros((len(images), count, 4), np.float32)
    for boxes, image in zip(found, images):
        rows = selective_search(image, **settings)[:count]
        boxes[:len(rows)] = rows
    return found


def selective_search(image, *, scale=50.0, sigma=0.8, smallest=20):
    """Boxes (R, 4) of the regions of an image (H, W, C), the last merged (the largest) first.

    The regions of a segmentation merge, always the two most alike of all neighbours, until one is
    left; each region that ever was gives a box. Colours are taken as they are, and as hue,
    saturation and value.

    Forward:   s(a, b) = sum over bins of min(h_a, h_b) + 1 - (|a| + |b|) / |image|
                         + 1 - (|box around both| - |a| - |b|) / |image|
    Source:    Uijlings et al., Selective Search for Object Recognition, IJCV 2013, sections 3.1 and
               3.2. Departs from it: two colour spaces, one segmentation of each, no texture.

    Args:
        scale, sigma: of scikit-image's `felzenszwalb`: larger regions, smoother images.
        smallest: pixels of a region of the segmentation.
    """
    spaces = [image]
    if image.shape[-1] == 3:
        spaces.append(np.rint(rgb2hsv(image) * 255).astype(np.uint8))
    found = [list(enumerate(_merged_boxes(space, felzenszwalb(
        space, scale=scale, sigma=sigma, min_size=smallest, channel_axis=-1))))
        for space in spaces]
    ranked = [box for _, box in sorted(itertools.chain(*found), key=lambda pair: pair[0])]
    return np.array(list(dict.fromkeys(ranked)), np.float32)


def _merged_boxes(image, regions):
    """The boxes of the regions (H, W) and of all that they merge to, the last first."""
    found = {i: _region(image, regions == i) for i in range(regions.max() + 1)}
    pairs = {pair: _similarity(found[pair[0]], found[pair[1]], regions.size)
             for pair in _neighbours(regions)}
    while pairs:
        a, b = max(pairs, key=pairs.get)
        new = len(found)
        found[new] = _merged(found[a], found[b])
        touching = {i for pair in pairs if a in pair or b in pair for i in pair} - {a, b}
        pairs = {pair: s for pair, s in pairs.items() if a not in pair and b not in pair}
        for i in touching:
            pairs[i, new] = _similarity(found[i], found[new], regions.size)
    return [box for box, *_ in reversed(found.values())]


def _region(image, mask):
    """The box, the size and the histogram, which sums to 1, of the pixels of a mask."""
    rows, columns = np.nonzero(mask)
    counts = [np.histogram(channel, BINS, (0, 256))[0] for channel in image[mask].T]
    histogram = np.concatenate(counts) / (len(rows) * image.shape[-1])
    box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return tuple(map(int, box)), len(rows), histogram


def _merged(a, b):
    (box_a, size_a, histogram_a), (box_b, size_b, histogram_b) = a, b
    box = (min(box_a[0], box_b[0]), min(box_a[1], box_b[1]),
           max(box_a[2], box_b[2]), max(box_a[3], box_b[3]))
    size = size_a + size_b
    return box, size, (size_a * histogram_a + size_b * histogram_b) / size


def _similarity(a, b, pixels):
    (x1, y1, x2, y2), size, _ = _merged(a, b)
    fill = 1 - ((x2 - x1) * (y2 - y1) - size) / pixels
    return np.minimum(a[2], b[2]).sum() + 1 - size / pixels + fill


def _neighbours(regions):
    """The pairs (a, b), a < b, of regions that share an edge of two pixels."""
    pairs = np.concatenate([
        np.stack([regions[:-1].ravel(), regions[1:].ravel()], 1),
        np.stack([regions[:, :-1].ravel(), regions[:, 1:].ravel()], 1)])
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], 1)
    return sorted(set(map(tuple, pairs.tolist())))
