"""`ModelViewer`: a Keras model as the page sees it, with its backward pass."""

import keras
import numpy as np
import tensorflow as tf

from app.layer_view import describe, walk
from app.page.occlusion import occlusion


class ModelViewer:
    """A functional or Sequential model from images (N, H, W, C) in [0, 1] to logits.

    Attributes:
        name, version: what the page calls it; version may be None.
        image_shape: (height, width, channels).
        labels: one a class.
        task: "classify", as the page shows other tasks otherwise.
        has_layers, has_backward: what there is to see.
    """

    task = "classify"
    has_layers = has_backward = True

    def __init__(self, model, *, name, labels, version=None):
        self.name, self.version, self.labels = name, version, tuple(labels)
        self.image_shape = tuple(model.input_shape[1:])
        self._model = model
        self._layers = describe(model, self.image_shape)

    def layers(self):
        """The layers, as `app.layer_view.describe` tells them."""
        return self._layers

    def look(self, image):
        """(probabilities, the output of each layer without the batch) for `image` (H, W, C)."""
        outputs = [step.output for step in walk(self._model, tf.constant(image[None]))]
        logits = tf.cast(outputs[-1], tf.float32)
        return tf.nn.softmax(logits)[0].numpy(), [_first(output) for output in outputs]

    def occlusion(self, image, label):
        """See `app.page.occlusion`; `label` is a class's number."""
        return occlusion(self._predict, image, label)

    def backward(self, image, label):
        """(dz/dx, [dz/dy for the output y of each layer]), z the logit of class number `label`."""
        x = tf.constant(image[None])
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = [step.output for step in walk(self._model, x)]
            logit = outputs[-1][0, label]
        dx, *gradients = tape.gradient(
            logit, [x, *outputs], unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return _first(dx), [_first(gradient) for gradient in gradients]

    def _predict(self, images):
        logits = self._model(tf.constant(images), training=False)
        return tf.nn.softmax(tf.cast(logits, tf.float32)).numpy()


def _first(values):
    return np.asarray(keras.ops.cast(values[0], "float32"))
