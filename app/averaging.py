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


def flip(images):
    """As they are, and mirrored left to right."""
    return [images, ops.flip(images, axis=2)]


def shift(images):
    """As they are, and moved by one pixel in each of four directions; black comes in."""
    padded = ops.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = images.shape[1:3]
    places = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
    return [padded[:, y:y + height, x:x + width] for y, x in places]


VIEWS = {"flip": flip, "shift": shift}


def averaged_views(model, views):
    """A model that predicts each view of an image, as in "flip" or "flip,shift", and averages.

    Its logits are the log of the mean of the probabilities. Views multiply: "flip,shift" is ten.
    """
    names = [name.strip() for name in views.split(",") if name.strip()]
    for name in names:
        if name not in VIEWS:
            raise unknown("view", name, list(VIEWS))
    images = keras.Input(model.input_shape[1:], name="images")
    seen = [images]
    for name in names:
        seen = [view for image in seen for view in VIEWS[name](image)]
    return keras.Model(images, _mean([model(view) for view in seen]), name=model.name)


def _mean(logits):
    """log mean softmax: of the logits (N, C) of several predictions."""
    if len(logits) == 1:
        return logits[0]
    logs = ops.stack([ops.log_softmax(ops.cast(x, "float32")) for x in logits])
    return ops.subtract(ops.logsumexp(logs, axis=0), ops.log(float(len(logits))))
