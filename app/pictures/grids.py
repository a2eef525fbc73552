"""Pictures of what a generator draws: a grid of samples, and ways from one noise to another."""

import numpy as np

GAP = 1  # pixels between images


def tiled(images, columns=6):
    """Images uint8 (N, H, W, C) in a grid, as one picture (rows * H, columns * W, C)."""
    tiles = _tiles(images.astype(np.float32) / 255, columns)
    return np.rint(255 * _picture(tiles)).astype(np.uint8)


def slerp(first, last, steps):
    """Noises (N, steps, Z) on the way from `first` (N, Z) to `last`, on the sphere.

        z(t) = sin((1 - t) w) / sin w * first + sin(t w) / sin w * last,  w their angle

    A straight way leads past the origin, where hardly any noise of a high dimension is.

    Source: White, Sampling Generative Networks, 2016, section 2.1.
    """
    t = np.linspace(0, 1, steps, dtype=np.float32)[None, :, None]
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(last, axis=1)
    cosine = np.clip((first * last).sum(1) / np.maximum(lengths, 1e-12), -1, 1)
    angle = np.arccos(cosine)[:, None, None]
    # Where both point the same way the formula is 0/0 and the way is straight.
    straight = np.sin(angle) < 1e-4
    sine = np.where(straight, 1, np.sin(angle))
    a = np.where(straight, 1 - t, np.sin((1 - t) * angle) / sine)
    b = np.where(straight, t, np.sin(t * angle) / sine)
    return (a * first[:, None] + b * last[:, None]).astype(np.float32)


def _tiles(images, columns):
    """(rows, columns, H, W, C), those that are missing in the last row white."""
    count, height, width, channels = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    tiles = np.ones((rows * columns, height, width, channels), np.float32)
    tiles[:count] = images
    return tiles.reshape(rows, columns, height, width, channels)


def _picture(tiles):
    """Tiles as one image, white between them."""
    tiles = np.pad(tiles, ((0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=1)
    rows, columns, height, width, channels = tiles.shape
    return tiles.swapaxes(1, 2).reshape(
        rows * height, columns * width, channels)[:-GAP, :-GAP]
