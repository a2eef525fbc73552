"""Masks as people look at them: a colour a class, laid over the image."""

import colorsys

import numpy as np

from app.segmentation import VOID

OPACITY = 0.55


def palette(classes):
    """Colours uint8 (256, 3): hues apart by the golden ratio; black is void, and the first class
    dark grey, which is often the ground.
    """
    colours = np.zeros((VOID + 1, 3), np.uint8)
    colours[0] = 70
    for i in range(1, classes):
        hue, light = (0.11 + i * 0.618034) % 1, (0.5, 0.62, 0.4)[i % 3]
        colours[i] = np.rint(255 * np.array(colorsys.hls_to_rgb(hue, light, 0.75)))
    return colours


def overlay(image, mask, classes, opacity=OPACITY):
    """The image uint8 (H, W, C) under its mask uint8 (H, W), as uint8 (H, W, 3)."""
    base = np.broadcast_to(image, (*image.shape[:2], 3)).astype(np.float32)
    shown = (1 - opacity) * base + opacity * palette(classes)[mask]
    return np.where((mask == VOID)[..., None], base, shown).astype(np.uint8)


def side_by_side(*images, gap=4):
    """Pictures of one height beside each other, on white."""
    images = [np.broadcast_to(image, (*image.shape[:2], 3)) for image in images]
    white = np.full((images[0].shape[0], gap, 3), 255, np.uint8)
    return np.hstack([part for image in images for part in (image, white)][:-1])


def legend(class_names, side=28):
    """[(picture of its colour uint8 (side, side, 3), name)] of each class."""
    return [(np.broadcast_to(colour, (side, side, 3)), name)
            for colour, name in zip(palette(len(class_names)), class_names)]
