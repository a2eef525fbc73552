"""Image files decoded, and images brought to one size.

There is one way to do both, the same for all images:

- PNG, JPEG, BMP and GIF (its first frame). Transparency is dropped, 16 bits become 8, and the
  orientation that a camera notes in EXIF is not applied: so does TensorFlow's decoder, which
  exported models use.
- The largest box of the target's aspect is cut from the centre, and resized by bilinear
  interpolation with antialiasing.
"""

import io
import math
import os
import struct
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median_low

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from app.errors import HandgradError, UsageError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif"}
LARGEST_DEFAULT = 128
LIMIT = 4 * 2**30
FORMATS = ("PNG", "JPEG", "BMP", "GIF")
_GREY = {"1", "L", "LA", "I", "I;16", "I;16B", "I;16L"}
# What Pillow raises for broken files, apart from OSError, is not documented: these were seen.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
_BROKEN += (IndexError, Image.DecompressionBombError)


def probe(file):
    """(height, width, whether it is grey) of an image file, from its header."""
    with Image.open(file, formats=FORMATS) as image:
        grey = image.mode in _GREY
        if image.mode == "P":
            colours = np.reshape(image.getpalette("RGB"), (-1, 3))
            grey = bool((colours == colours[:, :1]).all())
        return image.height, image.width, grey


def size_of(file):
    """(height, width) of an image file, from its header."""
    return probe(file)[:2]


def decode(file, size, channels):
    """The image in `file` (a path, or bytes), as uint8 (height, width, channels).

    `size` is (height, width), or None for the image's own.
    """
    image = _opened(file, channels)
    size = size or (image.height, image.width)
    return _fit(image, size).reshape(*size, channels)


def decode_whole(file, size, channels):
    """(the image in `file`, stretched so that nothing of it is cut off, its own (height, width)).

    The arguments are those of `decode`.
    """
    image = _opened(file, channels)
    own = image.height, image.width
    size = size or own
    pixels = image.resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(pixels).reshape(*size, channels), own


def _opened(file, channels):
    """The image in `file` as Pillow's, grey or of three colours, one byte each."""
    file = io.BytesIO(file) if isinstance(file, bytes) else file
    with Image.open(file, formats=FORMATS) as image:
        if image.mode.startswith("I"):
            # Pillow would clip 16-bit values at 255.
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        return image.convert("L" if channels == 1 else "RGB")


def decode_mask(file, size):
    """The mask in `file` as uint8 (height, width): a class a pixel, by index or grey value.

    It is cut and resized as an image is, but takes the class of the nearest pixel: there is no
    class between two others. This is the only place where labels are resized.
    """
    with Image.open(file, formats=("PNG", "BMP", "GIF")) as image:
        if image.mode not in ("L", "P", "1"):
            raise ValueError("a mask must hold one byte a pixel, its class. "
                             f"Received: {image.mode}")
        if image.mode == "1":  # which Pillow would make 0 and 255
            image = Image.fromarray(np.asarray(image, np.uint8))
        return _fit(image, size, Image.Resampling.NEAREST)


def attempt(function, items, description):
    """[function(item) for each item], in threads; the reason as a str where a file is broken."""

    def one(item):
        try:
            return function(item)
        except Image.UnidentifiedImageError:
            return "no PNG, JPEG, BMP or GIF image"
        except _BROKEN as error:
            return error.strerror if getattr(error, "strerror", None) else str(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(progress(pool.map(one, items), len(items), description))


def progress(items, total, description):
    """`items`, with a bar on stderr where that is a terminal."""
    hidden = not sys.stderr.isatty()
    return track(items, description, total, console=Console(stderr=True), disable=hidden)


def resize(images, size):
    """`images` (N, H, W, C) at `size`, themselves where they have it."""
    if images.shape[1:3] == size:
        return images
    check_memory(len(images), size, images.shape[3])
    resized = np.empty((len(images), *size, images.shape[3]), np.uint8)
    for target, image in zip(resized, images):
        pixels = image[..., 0] if images.shape[3] == 1 else image
        target[...] = _fit(Image.fromarray(pixels), size).reshape(target.shape)
    return resized


def default_size(sizes):
    """The size for images of these `sizes`, where none is asked for.

    The size that all of them have, if no side is longer than 128 pixels; else a square, its
    side the median of the images' shorter sides, at most 128.
    """
    height, width = sizes[0]
    if len(set(sizes)) == 1 and max(height, width) <= LARGEST_DEFAULT:
        return height, width
    side = min(LARGEST_DEFAULT, median_low(min(size) for size in sizes))
    return side, side


def parse_size(image_size):
    """(height, width) of a side or a pair; None stays None."""
    if image_size is None:
        return None
    sides = (image_size,) * 2 if isinstance(image_size, int) else tuple(image_size)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise UsageError(
            "The image size must be a positive whole number of pixels, or (height, width). "
            f"Received: {image_size}"
        )
    return sides


def check_memory(count, size, channels):
    """An error where the decoded images would not fit in `LIMIT` bytes."""
    total = count * math.prod(size) * channels
    if total > LIMIT:
        raise HandgradError(
            f"The images do not fit in memory: {count} x {size[0]} x {size[1]} x {channels} bytes "
            f"= {total / 2**30:.1f} GiB, more than {LIMIT / 2**30:g} GiB. "
            "Take a smaller --image-size."
        )


def is_image(path):
    """Whether the name of a file is that of an image that can be decoded."""
    return Path(path).suffix.lower() in SUFFIXES


def _fit(image, size, resampling=Image.Resampling.BILINEAR):
    """The Pillow `image` as an array of `size`."""
    height, width = size
    # Whole pixels, so that the same box can be cut in an exported graph.
    crop_width = min(image.width, max(1, image.height * width // height))
    crop_height = min(image.height, max(1, image.width * height // width))
    left, top = (image.width - crop_width) // 2, (image.height - crop_height) // 2
    # Not resize(box=...): it takes pixels from beyond the box at its edges.
    image = image.crop((left, top, left + crop_width, top + crop_height))
    return np.asarray(image.resize((width, height), resampling))
