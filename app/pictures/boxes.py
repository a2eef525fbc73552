"""Images with boxes, names and scores drawn on them."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from app.drawing import BLUE, GREEN, ORANGE, RED, VIOLET

COLOURS = (BLUE, ORANGE, GREEN, RED, VIOLET)
SIDE = 320  # pixels that a picture's shorter side is enlarged to, by whole factors
LONGEST = 1280  # pixels that its longer side is not enlarged beyond


def drawn(image, boxes, classes, class_names, scores=None, side=SIDE):
    """A Pillow image of `image` (H, W, C), uint8 or in [0, 1], with labelled boxes.

    Args:
        boxes: (K, 4), in pixels of the image.
        classes: (K,), the colour and the name of each; those below 0 are no object.
        scores: (K,) in [0, 1], shown beside the names.
        side: the image is enlarged, by a whole factor, as long as its shorter side stays below.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8:
        image = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    factor = max(1, min(side // min(image.shape[:2]), LONGEST // max(image.shape[:2])))
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert("RGB")
    picture = picture.resize((picture.width * factor, picture.height * factor),
                             Image.Resampling.NEAREST)
    canvas, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    texts = []
    for k, (box, kind) in enumerate(zip(boxes, map(int, classes))):
        if kind < 0:
            continue
        colour = COLOURS[kind % len(COLOURS)]
        x1, y1, x2, y2 = (factor * float(v) for v in box)
        canvas.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour, width=2)
        name = class_names[kind]
        texts.append((x1, y1, colour, name if scores is None else f"{name} {scores[k]:.2f}"))
    for x, y, colour, text in texts:  # over all rectangles
        _, _, width, height = canvas.textbbox((0, 0), text, font=font)
        x, y = min(x, picture.width - width - 3), max(y - height - 2, 0)
        canvas.rectangle((x, y, x + width + 3, y + height + 2), fill=colour)
        canvas.text((x + 2, y), text, fill="white", font=font)
    return picture
