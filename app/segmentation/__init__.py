"""Segmentation: a class for each pixel of an image."""

VOID = 255  # in a mask: a pixel that has no class and counts nowhere
