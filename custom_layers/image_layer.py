"""What layers over images of either data format share."""

import keras

from custom_layers.checks import Checked


class ImageLayer(Checked, keras.layers.Layer):
    """A layer over images in one of Keras's two data formats."""

    def __init__(self, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = data_format or keras.config.image_data_format()
        if self.data_format not in ("channels_last", "channels_first"):
            raise ValueError(
                "`data_format` must be 'channels_last' or 'channels_first'. "
                f"Received: data_format={data_format}"
            )

    def get_config(self):
        return {**super().get_config(), "data_format": self.data_format}

    def image_shape(self, shape):
        """(N, H, W, C) of a shape in the layer's format."""
        if len(shape) != 4 or 0 in tuple(shape)[1:]:
            raise ValueError(
                f"Layer {self.name} takes images, four axes of which only the first may be "
                f"empty. Received: inputs.shape={tuple(shape)}"
            )
        n, *image = shape
        return (n, *image) if self.data_format == "channels_last" else (n, *image[1:], image[0])
