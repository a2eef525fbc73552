"""An export's answers as pictures over the images: masks, boxes, sentences."""

import numpy as np
from PIL import Image

from app import images
from app.detection.pictures import drawn
from app.errors import UsageError
from app.segmentation.pictures import overlay, side_by_side

LEAST = 256  # pixels; smaller pictures are enlarged
CERTAIN = 0.5  # the least score of a box that is drawn


def draw(served, row):
    """The picture of a row of `app.serving.ServedTask.predict_files`."""
    if served.task not in _DRAWN:
        raise UsageError(f"There is nothing to draw of a model of --task {served.task}: --to is "
                         f"for {', '.join(_DRAWN)}.")
    height, width, channels = served.image_shape
    image = images.decode(row["file"], (height, width), channels)
    picture = Image.fromarray(_DRAWN[served.task](image, row["answer"], served.class_names))
    factor = -(-LEAST // min(height, width)) if min(height, width) < LEAST else 1
    return picture.resize((picture.width * factor, picture.height * factor),
                          Image.Resampling.NEAREST)


def _mask(image, answer, class_names):
    return side_by_side(image, overlay(image, answer["mask"].astype(np.uint8), len(class_names)))


def _boxes(image, answer, class_names):
    sure = answer["scores"] >= CERTAIN
    return np.asarray(drawn(image, answer["boxes"][sure], answer["classes"][sure], class_names,
                            answer["scores"][sure]))


_DRAWN = {"segment": _mask, "detect": _boxes}
