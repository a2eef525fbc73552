"""`ServedViewer`: an export as the page sees it. Needs TensorFlow, and nothing that made the model.
"""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from app.page.occlusion import occlusion


class ServedViewer:
    """One version of an export, `saved_models/NAME/VERSION`, loaded by `tf.saved_model.load`.

    It has layers where it was exported with `--with-activations`, and no backward pass.

    Attributes: those of `app.page.model_viewer.ModelViewer`.
    """

    task, has_backward, backward = "classify", False, None

    def __init__(self, model, folder):
        folder = Path(folder)
        self.name, self.version = folder.parent.name, int(folder.name)
        # Held whole, since its signatures do not keep the variables alive.
        self._model = model
        predict = model.signatures["serving_default"]
        self.image_shape = tuple(predict.structured_input_signature[1]["images"].shape[1:])
        labels = (folder / "assets" / "labels.txt").read_text(encoding="utf-8")
        self.labels = tuple(labels.removesuffix("\n").split("\n"))
        told = folder / "assets.extra" / "layers.json"
        self.has_layers = "activations" in model.signatures and told.exists()
        self._layers = json.loads(told.read_text(encoding="utf-8")) if self.has_layers else []

    def layers(self):
        """The layers, as the export tells them; none where it tells nothing of them."""
        return self._layers

    def look(self, image):
        """(probabilities, the output of each layer without the batch) for `image` (H, W, C)."""
        probabilities = self._predict(image[None])[0]
        if not self.has_layers:
            return probabilities, []
        outputs = self._model.signatures["activations"](images=tf.constant(image[None]))
        return probabilities, [outputs[layer["output"]][0].numpy() for layer in self._layers]

    def occlusion(self, image, label):
        """See `app.page.occlusion`; `label` is a class's number."""
        return occlusion(self._predict, image, label)

    def _predict(self, images):
        images = tf.constant(np.asarray(images, np.float32))
        return self._model.signatures["serving_default"](images=images)["probabilities"].numpy()
