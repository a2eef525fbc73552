"""An export's answers as pictures over the images: masks, boxes, sentences."""

import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from app import images
from app.answers import CERTAIN
from app.errors import UsageError
from app.pictures.boxes import LONGEST, drawn
from app.pictures.masks import overlay, side_by_side

LEAST = 256  # pixels; smaller pictures are enlarged


class ImageError(UsageError):
    """An image that cannot be drawn on."""


def draw(served, file, answer):
    """The picture, at least 256 pixels high and wide, of a model's answer about an image.

    A mask lies over what the network saw of the image, boxes over all of it.

    Args:
        served: the `app.serving.ServedTask`.
        file: the image's path, or its contents.
        answer: the arrays that it gave, as in `ServedTask.predict_files`.
    """
    if served.task not in _DRAWN:
        raise UsageError(f"There is nothing to draw of a model of --task {served.task}: --to is "
                         f"for {', '.join(_DRAWN)}.")
    height, width, channels = served.image_shape
    size = None if served.task == "detect" else (height, width)
    image = images.attempt(lambda one: images.decode(one, size, channels), [file], "")[0]
    if isinstance(image, str):
        raise ImageError(f"the image cannot be decoded: {image}")
    if served.task == "detect":
        image, answer = _shrunk(image, answer)
    picture = Image.fromarray(_DRAWN[served.task](image, answer, served.class_names))
    factor = max(1, min(-(-LEAST // min(picture.size)), LONGEST // max(picture.size)))
    return picture.resize((picture.width * factor, picture.height * factor),
                          Image.Resampling.NEAREST)


def _shrunk(image, answer):
    """A large image so small that lines and names on it are seen, and its boxes."""
    height, width = image.shape[:2]
    scale = min(1.0, LONGEST / max(height, width))
    size = [max(1, round(scale * side)) for side in (width, height)]
    small = Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).resize(size)
    factors = np.array(size) / (width, height)
    return (np.asarray(small).reshape(size[1], size[0], -1),
            {**answer, "boxes": answer["boxes"] * np.tile(factors, 2)})


def _mask(image, answer, class_names):
    return side_by_side(image, overlay(image, answer["mask"].astype(np.uint8), len(class_names)))


def _sentence(image, answer, class_names):
    """The image, and the sentence in a strip below it."""
    factor = max(1, LEAST // min(image.shape[:2]))
    picture = Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).convert("RGB")
    picture = picture.resize((picture.width * factor, picture.height * factor),
                             Image.Resampling.NEAREST)
    font = ImageFont.load_default(14)
    lines = textwrap.wrap(str(answer["sentence"]) or "(nothing)", max(20, picture.width // 8))
    sheet = Image.new("RGB", (picture.width, picture.height + 20 * len(lines) + 6), "white")
    sheet.paste(picture)
    for i, line in enumerate(lines):
        ImageDraw.Draw(sheet).text((6, picture.height + 3 + 20 * i), line, "black", font)
    return np.asarray(sheet)


def _boxes(image, answer, class_names):
    sure = answer["scores"] >= CERTAIN
    return np.asarray(drawn(image, answer["boxes"][sure], answer["classes"][sure], class_names,
                            answer["scores"][sure]))


_DRAWN = {"segment": _mask, "detect": _boxes, "describe": _sentence}
