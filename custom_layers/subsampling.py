"""Subsampling as in LeNet: the sum of each window, one trainable factor and bias a feature map."""

import functools
import math

import keras
import tensorflow as tf

from custom_layers.activations import activate
from custom_layers.gradient import differentiable
from custom_layers.registration import register
from custom_layers.smooth_pooling import PoolingLayer, widened, window_sum
from custom_layers.tracing import sum_rows
from custom_layers.windows import channels_last


@differentiable
def subsample(x, beta, b, *, pool_size=(2, 2), strides=(2, 2), padding="valid",
              data_format="channels_last"):
    """The sum of each window, times a factor and plus a bias for each channel.

    Forward:   s[n,p,q,c] = sum over i,j of x[n, p*S + i, q*S + j, c];  y = beta[c] * s + b[c]
    Backward:  dbeta[c] = sum over n,p,q of dy * s,  db[c] = sum over n,p,q of dy,
               ds = beta * dy,  dx = ds, upsampled: each x gets the ds of its windows
    Shapes:    x (N, H, W, C), beta (C,), b (C,) -> y (N, OH, OW, C);
               channels_first: x (N, C, H, W) -> y (N, C, OH, OW)
    Keeps s, of y's size, not x. Sums of half precision are taken in float32.
    Source:    LeCun, Bottou, Bengio, Haffner, Gradient-Based Learning Applied to Document
               Recognition, 1998, section II.B (layers S2 and S4).
    """
    settings = dict(pool_size=pool_size, strides=strides, padding=padding)
    s, sum_backward = sum_windows(x, **settings, data_format=data_format)
    y, weigh_backward = weigh(s, beta, b, dtype=x.dtype, data_format=data_format)

    def backward(dy):
        ds, dbeta, db = weigh_backward(dy)
        return sum_backward(ds), dbeta, db

    return y, backward


def sum_windows(x, *, pool_size, strides, padding, data_format):
    """s of `subsample`, as (s, backward); of half-precision x in float32."""
    def sums(x):
        (rows, columns), dtype = ([1.0] * k for k in pool_size), x.dtype
        s, backward = window_sum(widened(x), rows, columns, strides, padding)
        return s, lambda ds: tf.cast(backward(ds), dtype)

    return channels_last(sums, x, data_format)


def weigh(s, beta, b, *, dtype, data_format):
    """y of `subsample` in `dtype`, as (y, backward)."""
    def weighed(s):
        def backward(dy):
            dy = tf.cast(dy, s.dtype)
            dbeta, db = sum_rows(dy * s), sum_rows(dy)
            return dy * widened(beta), tf.cast(dbeta, beta.dtype), tf.cast(db, b.dtype)

        return tf.cast(s * widened(beta) + widened(b), dtype), backward

    return channels_last(weighed, s, data_format)


@register
class Subsampling2D(PoolingLayer):
    """The op `subsample` as a layer: f(beta * sum of the window + b), LeNet's S2 and S4.

    Args:
        pool_size, strides, padding, data_format: as `keras.layers.AveragePooling2D`; with
            "same", padding counts as zeros.
        activation: f. None, the default, is the identity; the paper's is the scaled tanh.
        beta_initializer: of the factor of each channel. None, the default: one over the
            window's size, so that the layer starts as average pooling. (The paper draws it
            from a uniform distribution.)
        bias_initializer, beta_regularizer, bias_regularizer: as Keras's.
    """

    def __init__(self, pool_size=(2, 2), strides=None, padding="valid", activation=None,
                 beta_initializer=None, bias_initializer="zeros", beta_regularizer=None,
                 bias_regularizer=None, **kwargs):
        super().__init__(pool_size, strides, padding, **kwargs)
        self.activation = keras.activations.get(activation)
        self.beta_initializer = keras.initializers.get(
            beta_initializer or keras.initializers.Constant(1 / math.prod(self.pool_size))
        )
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.beta_regularizer = keras.regularizers.get(beta_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)

    def build(self, input_shape):
        channels = input_shape[-1 if self.data_format == "channels_last" else 1]
        if channels is None:
            raise ValueError(
                f"Layer {self.name} has a weight for each channel: their number must be known. "
                f"Received: inputs.shape={tuple(input_shape)}, data_format={self.data_format}"
            )
        axis = -1 if self.data_format == "channels_last" else 1
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={axis: channels})
        for name in ("beta", "bias"):
            weight = self.add_weight(
                name=name, shape=(channels,), initializer=getattr(self, f"{name}_initializer"),
                regularizer=getattr(self, f"{name}_regularizer"),
            )
            setattr(self, name, weight)

    def call(self, inputs):
        self.compute_output_shape(inputs.shape)  # its checks
        op = functools.partial(subsample.pair, **self.settings)
        return activate(op, (inputs, self.beta, self.bias), self.activation)

    def get_config(self):
        config = {**super().get_config(),
                  "activation": keras.activations.serialize(self.activation)}
        for name in ("beta", "bias"):
            for module, kind in ((keras.initializers, "initializer"),
                                 (keras.regularizers, "regularizer")):
                key = f"{name}_{kind}"
                config[key] = module.serialize(getattr(self, key))
        return config
