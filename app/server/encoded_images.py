"""How many pixels a request has decoded: a small file may hold a very large image."""

import tensorflow as tf

from app.image_header import count_pixels
from app.server.errors import RestError, of_tensorflow
from app.server.signatures import CLASSIFY, REGRESS

MAX_PIXELS = 2**26  # of the images of a request; and of all that share a call
IMAGES = "image_bytes"  # the name of inputs, or of features of examples, that are encoded images


def pixels(signature, inputs):
    """The pixels of all images that `inputs`, {input: array}, hold for a signature.

    Raises:
        RestError: where one is no image, or they have more pixels than may be decoded.
    """
    total = 0
    for i, contents in enumerate(_images(signature, inputs)):
        try:
            total += count_pixels(contents)
        except ValueError as error:
            raise RestError(f"Image {i} of `{IMAGES}` cannot be decoded: {error}. Expected PNG, "
                            "JPEG, BMP or GIF") from error
        if total > MAX_PIXELS:
            raise RestError(f"The images of `{IMAGES}` have more than the {MAX_PIXELS} pixels "
                            "that one request may have decoded")
    return total


def _images(signature, inputs):
    """The encoded images in an input of that name, or in the examples that a signature takes."""
    texts = {name: value.ravel() for name, value in inputs.items() if value.dtype == object}
    if IMAGES in texts:
        return texts[IMAGES]
    if signature.method not in (CLASSIFY, REGRESS):
        return []
    # By TensorFlow, as the model does: another parser might see other images in odd bytes.
    features = {IMAGES: tf.io.VarLenFeature(tf.string)}
    try:
        parsed = [tf.io.parse_example(examples, features) for examples in texts.values()]
    except tf.errors.OpError as error:
        raise of_tensorflow(error) from error
    return [contents for found in parsed for contents in found[IMAGES].values.numpy()]
