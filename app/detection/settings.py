"""A detector's settings, kept in its network: what decodes a network's outputs must know them."""

from dataclasses import fields

import keras


@keras.saving.register_keras_serializable("handgrad")
class Settings(keras.layers.Layer):
    """Gives its inputs on, and is saved with the name of a detector and its settings.

    Args:
        detector: a name out of `app.detection.DETECTORS`.
        settings: {field: value}, where not as in the `Detector` of that name.
    """

    def __init__(self, detector, settings, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.detector, self.settings = detector, settings

    def call(self, inputs):
        return keras.tree.map_structure(lambda x: x, inputs)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "detector": self.detector, "settings": self.settings}


def model(detector, images, outputs):
    """The network of a detector, from images to raw predictions, with its settings in it."""
    usual = type(detector)()
    changed = {f.name: getattr(detector, f.name) for f in fields(detector)
               if f.name != "name" and getattr(detector, f.name) != getattr(usual, f.name)}
    kept = Settings(detector.name, changed, name="predictions")(outputs)
    return keras.Model(images, kept, name=detector.name)
