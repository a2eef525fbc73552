"""Dense: the affine transformation."""

import keras
import tensorflow as tf

from custom_layers.activations import activate
from custom_layers.checks import COMPLEX, REAL, Checked
from custom_layers.gradient import differentiable
from custom_layers.registration import register
from custom_layers.tracing import sum_rows


@differentiable
def dense(x, w, b=None):
    """Affine transformation of the last axis.

    Forward:   y = xW + b
    Backward:  dx = dy Wt,  dW = xt dy,  db = sum of dy over all rows
    Shapes:    x (..., n), w (n, m), b (m,) or None -> y (..., m)
    Source:    Rumelhart, Hinton, Williams, Learning Representations by Back-Propagating
               Errors, Nature 1986.
    """
    rows = x if x.shape.rank == 2 else tf.reshape(x, (-1, w.shape[0]))
    y = tf.matmul(rows, w)
    if b is not None:
        y = tf.nn.bias_add(y, b)
    if x.shape.rank != 2:
        y = tf.reshape(y, tf.concat([tf.shape(x)[:-1], [w.shape[1]]], 0))
        y = tf.ensure_shape(y, x.shape[:-1] + [w.shape[1]])

    def backward(dy):
        dy_rows = tf.reshape(dy, (-1, w.shape[1])) if x.shape.rank != 2 else dy
        dx = tf.matmul(dy_rows, w, transpose_b=True)
        dw = tf.matmul(rows, dy_rows, transpose_a=True)
        if x.shape.rank != 2:
            dx = tf.reshape(dx, tf.shape(x))
        return dx, dw, None if b is None else sum_rows(dy)

    return y, backward


@register
class Dense(Checked, keras.layers.Dense):
    """`keras.layers.Dense` on the op `dense`.

    Known activations ("relu", "leaky_relu", "sigmoid", "tanh", "softmax") run as our ops, any
    other callable as it is. Sparse inputs go Keras's own way (their gradients are its
    `IndexedSlices`), and so do inputs that are no floats.
    """

    takes = *REAL, COMPLEX

    def call(self, inputs, training=None):
        if isinstance(inputs, tf.SparseTensor) or not inputs.dtype.is_floating:
            return super().call(inputs, training)
        return activate(dense.pair, (inputs, self.kernel, self.bias), self.activation)
