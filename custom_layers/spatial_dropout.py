"""Spatial dropout: whole feature maps removed in training."""

import keras

from custom_layers.checks import FLOAT, INTEGER, Checked, check_rate
from custom_layers.dropout import dropout
from custom_layers.registration import register


@register
class SpatialDropout2D(Checked, keras.layers.SpatialDropout2D):
    """`keras.layers.SpatialDropout2D` on the op `dropout`: one draw for each map of each image.

    Source: Tompson et al., Efficient Object Localization Using Convolutional Networks, 2015,
        section 3.2.
    """

    takes = FLOAT, INTEGER

    def __init__(self, rate, *args, **kwargs):
        super().__init__(rate, *args, **kwargs)
        check_rate(rate=rate)  # Keras takes 1 too, which keeps nothing

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        first = self.data_format == "channels_first"
        return dropout(
            inputs,
            self.seed_generator.next(),
            rate=self.rate,
            noise_shape=(None, None, 1, 1) if first else (None, 1, 1, None),
        )
