"""Several predictions made one: an ensemble, or one model on several views of an image."""

import keras
from keras import ops

from app.errors import UsageError, unknown


def ensemble(models, name="ensemble"):
    """A model whose logits are the log of the mean of the models' probabilities.

    Raises:
        UsageError: where the models differ in their images or classes.
    """
    first = models[0]
    for model in models[1:]:
        for what, of in (("images", model.input_shape), ("classes", model.output_shape)):
            expected = first.input_shape if what == "images" else first.output_shape
            if of[1:] != expected[1:]:
                raise UsageError(
                    f"The models of an ensemble must have the same {what}. Expected: "
                    f"{expected[1:]}, as '{first.name}'. Received: {of[1:]}, of '{model.name}'")
    images = keras.Input(first.input_shape[1:], name="images")
    members = []
    for i, model in enumerate(models, 1):
        member = keras.models.clone_model(model)
        member.set_weights(model.get_weights())
        member.name = f"member{i}_{model.name}"
        members.append(member(images))
    return keras.Model(images, _mean(members), name=name)


def mirrored(images):
    """Left to right."""
    return ops.flip(images, axis=2)


def moved(down, right):
    """A function that moves images by whole pixels; zeros come in."""
    def move(images):
        height, width = images.shape[1:3]
        sides = [(max(by, 0), max(-by, 0)) for by in (down, right)]
        padded = ops.pad(images, ((0, 0), *sides, (0, 0)))
        top, left = max(-down, 0), max(-right, 0)
        return padded[:, top:top + height, left:left + width]

    return move


# What is done to images, and what brings a map of logits back to them.
VIEWS = {
    "flip": ((mirrored, mirrored),),
    "shift": tuple((moved(y, x), moved(-y, -x)) for y, x in ((1, 0), (-1, 0), (0, 1), (0, -1))),
}


def averaged_views(model, views):
    """A model that predicts each view of an image, as in "flip" or "flip,shift", and averages.

    Each kind adds to the image as it is: "flip" its mirror image, "shift" four that are moved by a
    pixel. They multiply: "flip,shift" is ten. The logits are the log of the mean of the
    probabilities, of an image or of each of its pixels.
    """
    names = [name.strip() for name in views.split(",") if name.strip()]
    for name in names:
        if name not in VIEWS:
            raise unknown("view", name, list(VIEWS))
    images = keras.Input(model.input_shape[1:], name="images")
    seen = [(images, ())]
    for name in names:
        seen += [(there(view), (back, *ways)) for view, ways in seen for there, back in VIEWS[name]]
    return keras.Model(images, _mean([_brought_back(model(view), ways) for view, ways in seen]),
                       name=model.name)


def _brought_back(logits, ways):
    for way in ways if len(logits.shape) == 4 else ():
        logits = way(logits)
    return logits


def _mean(logits):
    """log mean softmax: of the logits (..., C) of several predictions."""
    if len(logits) == 1:
        return logits[0]
    logs = ops.stack([ops.log_softmax(ops.cast(x, "float32")) for x in logits])
    return ops.subtract(ops.logsumexp(logs, axis=0), ops.log(float(len(logits))))
