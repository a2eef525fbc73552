"""Convolutions that choose their input maps: by a table (LeNet), by trained weights (Bouvrie)."""

import functools
import operator

import keras
import numpy as np
import tensorflow as tf

from custom_layers.activations import activate, softmax
from custom_layers.checks import CheckedWindows, check_finite
from custom_layers.convolution import Conv2D, conv2d
from custom_layers.depthwise import separable_conv2d, settings_of
from custom_layers.gradient import differentiable
from custom_layers.registration import register

LENET_C3 = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 0), (5, 0, 1),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 0), (4, 5, 0, 1), (5, 0, 1, 2),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)


@differentiable
def sparse_conv2d(x, w, b=None, *, table, data_format="channels_last", **settings):
    """Convolution in which each output map sees only some input maps.

    Forward:   y[n,p,q,o] = b[o] + sum over k,i,j of xp[n, p*S + i*D, q*S + j*D, c] * w[i,j,e]
               over the connections e = (o, c): k counts those of o, c = table[o][k], and e
               counts all of them, map after map.  As conv2d with zeros where there is none
    Backward:  conv2d's; dw takes the connected entries of its dw
    Shapes:    x (N, H, W, C), w (FH, FW, E), b (O,) or None -> y (N, OH, OW, O), with O rows
               and E numbers in the table; channels_first: x (N, C, H, W) -> y (N, O, OH, OW)
    Settings:  table: for each output map the input maps that it sees; those of conv2d but groups
    Second derivatives are right.
    Source:    LeCun, Bottou, Bengio, Haffner, Gradient-Based Learning Applied to Document
               Recognition, 1998, section II.B and table I.
    """
    maps = x.shape[-1 if data_format == "channels_last" else 1]
    kernel, filters = w.shape[:2], len(table)
    connections = [c * filters + o for o, row in enumerate(table) for c in row]
    # For each entry of the dense kernel the connection that fills it, or the zero at the end.
    source = np.full(maps * filters, len(connections), np.int32)
    source[connections] = np.arange(len(connections))
    padded = tf.concat([w, tf.zeros((*kernel, 1), w.dtype)], 2)
    dense = tf.reshape(tf.gather(padded, source, axis=2), (*kernel, maps, filters))
    y, conv2d_backward = conv2d.pair(x, dense, b, data_format=data_format, **settings)

    def backward(dy):
        dx, ddense, db = conv2d_backward(dy)
        ddense = tf.reshape(ddense, (*kernel, maps * filters))
        return dx, tf.gather(ddense, np.int32(connections), axis=2), db

    return y, backward


@differentiable
def learned_combination2d(x, w, v, b=None, **settings):
    """Convolution of each input map, and a trained average of the results for each output map.

    Forward:   a = softmax of v over the input maps,
               y[n,p,q,o] = b[o] + sum over c of a[c,o] * depthwise_conv2d(x, w)[n,p,q,c]
    Backward:  separable_conv2d's dx, dw, da, db;  dv = a * (da - sum over c of a * da)
    Shapes:    x (N, H, W, C), w (FH, FW, C, M), v (1, 1, C*M, O), b (O,) or None
               -> y (N, OH, OW, O); channels_first: x (N, C, H, W) -> y (N, O, OH, OW)
    Settings:  those of separable_conv2d
    Second derivatives are right.
    Source:    Bouvrie, Notes on Convolutional Neural Networks, 2006, "Learning Combinations of
               Feature Maps".
    """
    a, softmax_backward = softmax.pair(v, axis=2)
    y, separable_backward = separable_conv2d.pair(x, w, a, b, **settings)

    def backward(dy):
        dx, dw, da, db = separable_backward(dy)
        return dx, dw, softmax_backward(da), db

    return y, backward


@differentiable
def mixing_entropy(v):
    """How many input maps the combinations use: the entropy of their weights, in nats.

    Forward:   a = softmax of v over the input maps,  H = -sum over c,o of a log a
    Backward:  dv[c,o] = -dH * a[c,o] * (log a[c,o] + H[o]),  H[o] the part of output map o
    Shapes:    v (1, 1, C, O) -> H ()
    Departs from the paper, whose penalty is the sum of |a|: for weights that a softmax makes,
    that is the number of output maps, whatever they are, and its gradient is 0.
    Source:    Bouvrie, Notes on Convolutional Neural Networks, 2006, "Enforcing Sparse
               Combinations"; Grandvalet, Bengio, Semi-Supervised Learning by Entropy
               Minimization, 2004 (the entropy).
    """
    log_a = tf.nn.log_softmax(v, 2)
    a = tf.exp(log_a)
    entropy = -tf.reduce_sum(a * log_a, 2, keepdims=True)
    return tf.reduce_sum(entropy), lambda dy: -dy * a * (log_a + entropy)


@register
class MixingEntropy(keras.regularizers.Regularizer):
    """The penalty `strength * mixing_entropy(v)`: each output map is to use few input maps."""

    def __init__(self, strength=0.01):
        if not strength >= 0:
            raise ValueError(f"`strength` must be >= 0. Received: strength={strength}")
        check_finite(strength=strength)
        self.strength = float(strength)

    def __call__(self, x):
        return self.strength * mixing_entropy(tf.convert_to_tensor(x))

    def get_config(self):
        return {"strength": self.strength}


@register
class SparseConv2D(Conv2D):
    """A `Conv2D` in which each output map sees only the input maps that a table names.

    Weights exist for these connections alone: with `LENET_C3` and 5 x 5 kernels
    60 * 25 + 16 = 1,516 parameters.

    Args:
        table: for each output map the numbers of the input maps that it sees, as `LENET_C3`.
        kernel_size, and all other arguments but `filters` and `groups`: those of `Conv2D`. The
            kernel is (height, width, connections); the initialiser draws each output map's
            part for the number of maps that it sees.

    Raises:
        ValueError: for a table without rows, an empty row, a map named twice in a row; when
            built, for a table that names a map that the input does not have.
    """

    def __init__(self, table, kernel_size, strides=(1, 1), padding="valid", **kwargs):
        if kwargs.get("groups", 1) != 1:
            raise ValueError(
                "`SparseConv2D` has no groups: its table says what is connected. "
                f"Received: groups={kwargs['groups']}"
            )
        self.table = _checked(table)
        super().__init__(len(self.table), kernel_size, strides, padding, **kwargs)

    def build(self, input_shape):
        axis = -1 if self.data_format == "channels_last" else 1
        maps = input_shape[axis]
        missing = sorted({c for row in self.table for c in row if c >= maps})
        if missing:
            raise ValueError(
                f"`table` of `{self.name}` names maps {missing}, but its input has maps 0 to "
                f"{maps - 1}. Received: input_shape={tuple(input_shape)}"
            )
        self.input_spec = keras.layers.InputSpec(min_ndim=4, axes={axis: maps})
        self.compute_output_shape(input_shape)
        self._kernel = self.add_weight(
            name="kernel",
            shape=(*self.kernel_size, sum(map(len, self.table))),
            initializer=self._initial_kernel,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.filters,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self.built = True

    def _initial_kernel(self, shape, dtype=None):
        """For each output map its slice of a kernel with as many input maps as it sees."""
        kernels = {
            n: self.kernel_initializer((*self.kernel_size, n, self.filters), dtype=dtype)
            for n in set(map(len, self.table))
        }
        return tf.concat([kernels[len(row)][..., o] for o, row in enumerate(self.table)], 2)

    @property
    def settings(self):
        settings = {**super().settings, "table": self.table}
        del settings["groups"]
        return settings

    def call(self, inputs):
        op = functools.partial(sparse_conv2d.pair, **self.settings)
        return activate(op, (inputs, self.kernel, self.bias), self.activation)

    def get_config(self):
        config = super().get_config()
        del config["filters"], config["groups"]
        return {**config, "table": self.table}


def _checked(table):
    """The table as tuples of integers."""
    try:
        rows = tuple(tuple(map(operator.index, row)) for row in table)
    except TypeError:
        rows = ()
    if not rows or not all(row and min(row) >= 0 and len(set(row)) == len(row) for row in rows):
        raise ValueError(
            "`table` must have a row for each output map, each with the numbers (0, 1, ...) of "
            f"at least one input map, none twice. Received: table={table}"
        )
    return rows


@register
class LearnedCombination2D(CheckedWindows, keras.layers.SeparableConv2D):
    """Convolves each input map and learns which of the results each output map combines.

    A `SeparableConv2D` whose pointwise weights are a softmax of trained values
    (`pointwise_kernel`): positive, with sum 1 for each output map.

    Args:
        sparsity: weight of the penalty `MixingEntropy` on them, which is added to the loss:
            the larger, the fewer input maps each output map uses.
        pointwise_initializer: by default N(0, 1): output maps that start equal would stay equal.
        All other arguments are those of `SeparableConv2D`, but `pointwise_regularizer`.

    Raises:
        ValueError: for a negative sparsity.
    """

    def __init__(self, filters, kernel_size, strides=(1, 1), padding="valid", *, sparsity=0.01,
                 pointwise_initializer=None, **kwargs):
        if pointwise_initializer is None:
            pointwise_initializer = keras.initializers.RandomNormal(stddev=1.0)
        if not sparsity >= 0:
            raise ValueError(f"`sparsity` must be >= 0. Received: sparsity={sparsity}")
        check_finite(sparsity=sparsity)
        super().__init__(
            filters, kernel_size, strides, padding, pointwise_initializer=pointwise_initializer,
            pointwise_regularizer=MixingEntropy(sparsity) if sparsity else None, **kwargs,
        )
        self.sparsity = sparsity

    @property
    def combination(self):
        """The weights (input maps, output maps): each column is positive and has sum 1."""
        return tf.nn.softmax(self.pointwise_kernel[0, 0], 0)

    def call(self, inputs):
        op = functools.partial(learned_combination2d.pair, **settings_of(self))
        kernels = self.depthwise_kernel, self.pointwise_kernel
        return activate(op, (inputs, *kernels, self.bias), self.activation)

    def get_config(self):
        config = super().get_config()
        del config["pointwise_regularizer"]
        return {**config, "sparsity": self.sparsity}
