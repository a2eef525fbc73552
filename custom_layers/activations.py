"""Activations: element-wise functions, softmax, and the table that finds an op by Keras's name."""

import keras
import tensorflow as tf

from custom_layers.checks import FLOAT, INTEGER, Checked, check_axis
from custom_layers.gradient import chain, differentiable
from custom_layers.registration import register
from custom_layers.smooth_activations import _Elementwise, gelu, scaled_tanh, silu


@differentiable
def relu(x, *, negative_slope=0.0, max_value=None, threshold=0.0):
    """Rectified linear unit, with Keras's three options.

    Forward:   y = max_value                        where x >= max_value
               y = x                                where threshold < x < max_value
               y = negative_slope * (x - threshold) elsewhere
    Backward:  dx = 0, dy, negative_slope * dy in these three regions
    Shapes:    x (...) -> y (...)
    Kinks:     x = threshold (with the slope below it), x = max_value (0)
    Source:    Nair, Hinton, Rectified Linear Units Improve Restricted Boltzmann Machines, 2010.
    """
    if not negative_slope and max_value is None and not threshold:
        y = tf.nn.relu(x)
        return y, lambda dy: tf.raw_ops.ReluGrad(gradients=dy, features=y)

    slope = tf.where(x > threshold, tf.ones((), x.dtype), tf.constant(negative_slope, x.dtype))
    y = tf.where(x > threshold, x, slope * (x - tf.constant(threshold, x.dtype)))
    if max_value is not None:
        slope = tf.where(x >= max_value, tf.zeros((), x.dtype), slope)
        y = tf.minimum(y, tf.constant(max_value, x.dtype))
    return y, lambda dy: slope * dy


@differentiable
def leaky_relu(x, *, negative_slope=0.2):
    """Rectified linear unit with a small slope below zero.

    Forward:   y = x where x > 0, else negative_slope * x  (negative_slope in float32)
    Backward:  dx = dy where x > 0, else negative_slope * dy
    Shapes:    x (...) -> y (...)
    Kinks:     x = 0 (negative_slope)
    Source:    Maas, Hannun, Ng, Rectifier Nonlinearities Improve Acoustic Models, 2013.
    """
    y = tf.nn.leaky_relu(x, negative_slope)

    def backward(dy):
        return tf.raw_ops.LeakyReluGrad(gradients=dy, features=x, alpha=negative_slope)

    return y, backward


@differentiable
def sigmoid(x):
    """Logistic sigmoid.

    Forward:   y = 1 / (1 + exp(-x))
    Backward:  dx = dy * y * (1 - y)
    Shapes:    x (...) -> y (...)
    Source:    Rumelhart, Hinton, Williams, Learning Representations by Back-Propagating
               Errors, Nature 1986, equation 2.
    """
    y = tf.sigmoid(x)
    return y, lambda dy: tf.raw_ops.SigmoidGrad(y=y, dy=dy)


@differentiable
def tanh(x):
    """Hyperbolic tangent.

    Forward:   y = tanh(x)
    Backward:  dx = dy * (1 - y^2)
    Shapes:    x (...) -> y (...)
    Source:    LeCun, Bottou, Orr, Mueller, Efficient BackProp, 1998, section 4.4.
    """
    y = tf.tanh(x)
    return y, lambda dy: tf.raw_ops.TanhGrad(y=y, dy=dy)


@differentiable
def softmax(x, *, axis=-1):
    """Softmax over one axis or several.

    Forward:   y = exp(x - max x) / sum exp(x - max x), maximum and sum over `axis`
    Backward:  dx = y * (dy - sum(y * dy))
    Shapes:    x (...) -> y (...)
    Source:    Goodfellow, Bengio, Courville, Deep Learning, 2016, section 6.2.2.3.
    """
    if isinstance(axis, int):
        y = tf.nn.softmax(x, axis)
    else:
        e = tf.exp(x - tf.reduce_max(x, axis, keepdims=True))
        y = e / tf.reduce_sum(e, axis, keepdims=True)
    return y, lambda dy: y * (dy - tf.reduce_sum(y * dy, axis, keepdims=True))


@differentiable
def step(x, *, straight_through=False):
    """The perceptron's unit.

    Forward:   y = 1 where x > 0, else 0
    Backward:  dx = 0, or dy with straight_through (the identity's)
    Shapes:    x (...) -> y (...)
    Source:    Rosenblatt, The Perceptron, 1958; Bengio, Leonard, Courville, Estimating or
               Propagating Gradients Through Stochastic Neurons, 2013 (straight-through).
    """
    y = tf.cast(x > 0, x.dtype)
    return y, lambda dy: dy if straight_through else tf.zeros_like(dy)


OPS = {"relu": relu, "leaky_relu": leaky_relu, "sigmoid": sigmoid, "tanh": tanh,
       "softmax": softmax, "silu": silu, "gelu": gelu, "scaled_tanh": scaled_tanh}


def op_of(activation):
    """Our op for an activation (as `keras.activations.get` returns it), or None."""
    if activation in OPS.values():
        return activation
    name = getattr(activation, "__name__", None)
    return OPS.get(name) if activation is getattr(keras.activations, name or "", None) else None


def activate(layer_op, tensors, activation):
    """`activation(layer_op(*tensors))`: the last step of Dense and the convolutions.

    `layer_op` is a pair function (`functools.partial(op.pair, setting=...)`). An element-wise
    activation that has an op joins it in one chain, which TensorFlow can fuse. Sigmoid and
    softmax stay apart: Keras's losses look for the logits behind a probability. Another
    callable is applied as it is.
    """
    op = op_of(activation)
    if activation in (None, keras.activations.linear):
        return chain(layer_op)(*tensors)
    if op and op not in (sigmoid, softmax):
        return chain(layer_op, op.pair)(*tensors)
    logits = chain(layer_op)(*tensors)
    return with_logits(op, logits) if op else activation(logits)


def with_logits(op, logits, **settings):
    """`op(logits)`, remembering the logits as Keras's own activations do, for stable losses."""
    y = op(logits, **settings)
    try:
        y._keras_logits = logits
    except AttributeError:  # an eager tensor takes no attributes; nor does Keras's need them there
        pass
    return y


@register
class ReLU(Checked, keras.layers.ReLU):
    """`keras.layers.ReLU` on the op `relu`."""

    takes = FLOAT, INTEGER

    def call(self, inputs):
        return relu(
            inputs,
            negative_slope=self.negative_slope,
            max_value=self.max_value,
            threshold=self.threshold,
        )


@register
class LeakyReLU(Checked, keras.layers.LeakyReLU):
    """`keras.layers.LeakyReLU` on the op `leaky_relu`."""

    takes = FLOAT, INTEGER

    def call(self, inputs):
        return leaky_relu(inputs, negative_slope=self.negative_slope)


@register
class Softmax(Checked, keras.layers.Softmax):
    """`keras.layers.Softmax` on the op `softmax`. With a mask, Keras's own arithmetic runs."""

    def check_shape(self, shape):
        check_axis(self, self.axis, shape)

    def call(self, inputs, mask=None):
        axis = self.axis if isinstance(self.axis, int) else tuple(self.axis)
        if mask is None:
            return with_logits(softmax, inputs, axis=axis)
        return super().call(inputs, mask)


@register
class Sigmoid(_Elementwise):
    """The op `sigmoid` as a layer: y = 1 / (1 + exp(-x)). Keeps the shape."""

    def call(self, inputs):
        return with_logits(sigmoid, inputs)


@register
class Step(_Elementwise):
    """The op `step` as a layer: 1 where x > 0, else 0. Keeps the shape.

    Args:
        straight_through: if True the gradient passes unchanged, otherwise it is 0.
    """

    def __init__(self, straight_through=False, **kwargs):
        super().__init__(**kwargs)
        self.straight_through = straight_through

    def call(self, inputs):
        return step(inputs, straight_through=self.straight_through)

    def get_config(self):
        return {**super().get_config(), "straight_through": self.straight_through}


@register
class Tanh(_Elementwise):
    """The op `tanh` as a layer. Keeps the shape."""

    def call(self, inputs):
        return tanh(inputs)
