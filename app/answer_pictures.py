"""An export's answers as pictures over the images: masks, boxes, sentences."""

import numpy as np
from PIL import Image

from app import images
from app.segmentation.pictures import overlay, side_by_side
from app.errors import UsageError

LEAST = 256  # pixels; smaller pictures are enlarged


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


_DRAWN = {"segment": _mask}
