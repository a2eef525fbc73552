"""Local response normalisation: neighbouring channels compete."""

import keras
import numpy as np
import tensorflow as tf

from custom_layers.checks import Checked, check_finite
from custom_layers.gradient import differentiable
from custom_layers.registration import register
from custom_layers.windows import channels_last, dimensions


@differentiable
def local_response_normalization(a, *, k=2.0, n=5, alpha=1e-4, beta=0.75,
                                 data_format="channels_last"):
    """Divides each activity by a power of those of its neighbours at the same place.

    Forward:   d[c] = k + alpha * sum of a[j]^2,  j from c - (n-1)/2 to c + (n-1)/2, as far as
               there are such channels;  b = a * d^-beta
    Backward:  da[c] = db[c] d[c]^-beta
                       - 2 alpha beta a[c] * sum over the same j of db[j] b[j] / d[j]
    Shapes:    a (..., C) -> b like a;  channels_first: a (N, C, H, W)
    Departs from others, not from the paper: alpha is not divided by n. PyTorch and Caffe divide
               it: their alpha is n times as large (5e-4 for the paper's 1e-4).
    Keeps a and d. The sums over neighbours are a product with a C x C matrix of bands, which is
               its own transpose. Half-precision a is computed with in float32.
    Source:    Krizhevsky, Sutskever, Hinton, ImageNet Classification with Deep Convolutional
               Neural Networks, 2012, section 3.3.
    """
    dtype = tf.float32 if a.dtype in (tf.float16, tf.bfloat16) else a.dtype

    def normalize(a):
        shape, channels = dimensions(a), a.shape[-1]
        near = np.abs(np.subtract.outer(range(channels), range(channels))) <= n // 2
        bands = tf.constant(near, dtype)

        def of_neighbours(t):
            return tf.reshape(tf.matmul(tf.reshape(t, (-1, channels)), bands), shape)

        wide = tf.cast(a, dtype)
        d = k + alpha * of_neighbours(wide * wide)

        def backward(db):
            db, wide = tf.cast(db, dtype), tf.cast(a, dtype)
            direct = db * _power(d, -beta)
            crossed = wide * of_neighbours(direct * wide / d)  # db b / d, for b = a d^-beta
            return tf.cast(direct - (2 * alpha * beta) * crossed, a.dtype)

        return tf.cast(wide * _power(d, -beta), a.dtype), backward

    return channels_last(normalize, a, data_format)


def _power(d, exponent):
    """d ** exponent. The paper's by two square roots, several times faster than the power."""
    if exponent == -0.75:
        root = tf.math.rsqrt(d)
        return root * tf.sqrt(root)
    return d ** exponent


@register
class LocalResponseNormalization(Checked, keras.layers.Layer):
    """The op `local_response_normalization` as a layer, by default AlexNet's. Keeps the shape.

    Args:
        k, n, alpha, beta: of b = a / (k + alpha * sum of a^2 over n channels)^beta. alpha is
            not divided by n, as in the paper (PyTorch and Caffe divide it).
        data_format: `"channels_last"`, `"channels_first"` (images only) or None for Keras's
            default.

    Raises:
        ValueError: where n is not an odd number > 0, k not > 0, alpha < 0, the data format
            unknown, or the input has no known number of channels.
    """

    def __init__(self, k=2.0, n=5, alpha=1e-4, beta=0.75, data_format=None, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(n, int) or n < 1 or n % 2 == 0:
            raise ValueError(f"`n` must be an odd number of channels >= 1. Received: n={n}")
        if not k > 0:
            raise ValueError(f"`k` must be > 0, or silence is divided by 0. Received: k={k}")
        if not alpha >= 0:
            raise ValueError(f"`alpha` must be >= 0. Received: alpha={alpha}")
        check_finite(k=k, alpha=alpha, beta=beta)
        if data_format not in (None, "channels_last", "channels_first"):
            raise ValueError(
                "`data_format` must be 'channels_last', 'channels_first' or None. "
                f"Received: data_format={data_format}"
            )
        self.k, self.n, self.alpha, self.beta = k, n, alpha, beta
        self.data_format = data_format or keras.config.image_data_format()

    def check_shape(self, input_shape):
        last = self.data_format == "channels_last"
        if len(input_shape) < 2 or (not last and len(input_shape) != 4):
            raise ValueError(
                f"`{self.name}` with data_format={self.data_format} needs an input of shape "
                f"{'(N, ..., C)' if last else '(N, C, H, W)'}. Received: shape={input_shape}"
            )
        if input_shape[-1 if last else 1] is None:
            raise ValueError(
                f"`{self.name}` needs a known number of channels. Received: shape={input_shape}"
            )

    def build(self, input_shape):
        self.check_shape(input_shape)
        self.built = True

    def call(self, inputs):
        return local_response_normalization(
            inputs, k=self.k, n=self.n, alpha=self.alpha, beta=self.beta,
            data_format=self.data_format,
        )

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "k": self.k, "n": self.n, "alpha": self.alpha,
                "beta": self.beta, "data_format": self.data_format}
