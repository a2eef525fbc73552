"""Spatial pyramid pooling: a vector of one length from images of any size."""

import tensorflow as tf

from custom_layers.gradient import differentiable
from custom_layers.image_layer import ImageLayer
from custom_layers.regions import scatter_rows
from custom_layers.registration import register
from custom_layers.windows import dimensions


@differentiable
def spatial_pyramid_pool(x, *, levels=(1, 2, 4), data_format="channels_last"):
    """The largest values of an image cut into 1, 4, 16, ... bins, as one vector.

    Forward:   level a has a x a bins, bin (i, j) the rows floor(i H / a) .. ceil((i+1) H / a) - 1
               and the columns likewise (they overlap by one where a does not divide H):
               y[n, k, c] = max of x[n, rows, columns, c], bin k in row-major order, level by level
    Backward:  dx at the winner of each bin += dy
    Shapes:    x (N, H, W, C) -> y (N, C * sum of a^2), the channels of a bin side by side;
               channels_first: x (N, C, H, W) -> the same vector
    Ties:      the first in row-major order takes all of dy
    Keeps the place of each winner, not x.
    Source:    He, Zhang, Ren, Sun, Spatial Pyramid Pooling in Deep Convolutional Networks for
               Visual Recognition, 2014, section 2 and (bins of any image size) appendix A.
    """

    def pool(x):
        n, h, w, c = shape = dimensions(x)
        largest, winners = [], []
        for a in levels:
            for i in range(a):
                for j in range(a):
                    rows = i * h // a, -(-(i + 1) * h // a)
                    columns = j * w // a, -(-(j + 1) * w // a)
                    value, place = _first_largest(x, rows, columns)
                    largest.append(value)
                    winners.append(place)
        winner = tf.stack(winners, 1)
        y = tf.reshape(tf.stack(largest, 1), (n, len(largest) * c))

        def backward(dy):
            images = tf.range(n)[:, None, None] * (h * w)
            dx = scatter_rows(tf.reshape(dy, (n, len(largest), c)), images + winner, n * h * w, c)
            return tf.reshape(dx, shape)

        return y, backward

    if data_format == "channels_last":
        return pool(x)
    y, backward = pool(tf.transpose(x, (0, 2, 3, 1)))
    return y, lambda dy: tf.transpose(backward(dy), (0, 3, 1, 2))


def _first_largest(x, rows, columns):
    """The largest values of a part of each image, (N, C), and their places h * W + w."""
    part = x[:, rows[0]:rows[1], columns[0]:columns[1]]
    n, _, width, c = dimensions(part)
    flat = tf.reshape(part, (n, (rows[1] - rows[0]) * width, c))
    first = tf.argmax(flat, 1, tf.int32)
    place = (rows[0] + first // width) * dimensions(x)[2] + columns[0] + first % width
    return tf.reduce_max(flat, 1), place


@register
class SpatialPyramidPooling2D(ImageLayer):
    """The op `spatial_pyramid_pool` as a layer: a vector of one length from any image.

    Args:
        levels: bins along each side, level by level. (1, 2, 4), the default, gives 21 bins.
        data_format: as Keras's.
    """

    def __init__(self, levels=(1, 2, 4), **kwargs):
        super().__init__(**kwargs)
        self.levels = (levels,) if isinstance(levels, int) else tuple(levels)
        if not self.levels or not all(isinstance(a, int) and a > 0 for a in self.levels):
            raise ValueError(f"`levels` must be integers > 0. Received: levels={levels}")

    def call(self, inputs):
        self.image_shape(inputs.shape)  # its check
        return spatial_pyramid_pool(inputs, levels=self.levels, data_format=self.data_format)

    def compute_output_shape(self, input_shape):
        n, _, _, c = self.image_shape(input_shape)
        return n, None if c is None else c * sum(a * a for a in self.levels)

    def get_config(self):
        return {**super().get_config(), "levels": self.levels}
