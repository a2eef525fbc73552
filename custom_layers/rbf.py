"""Radial basis functions: the distance to a code for each class, and the loss that goes with it."""

import keras
import numpy as np
import tensorflow as tf

from custom_layers.checks import Checked, check_finite
from custom_layers.gradient import differentiable
from custom_layers.initializers import RandomSigns
from custom_layers.registration import register
from custom_layers.targets import ClassLoss
from custom_layers.tracing import sum_rows

GLYPHS = """\
..###.. ...#... ..###.. .#####. .....#. ####### ...###. ####### ..###.. ..###..
.#...#. ..##... .#...#. #.....# ....##. #...... ..#.... ......# .#...#. .#...#.
##...## .#.#... #.....# ......# ...#.#. #...... .#..... ......# #.....# #.....#
#.....# #..#... #.....# ......# ..#..#. #...... #...... .....#. #.....# #.....#
#.....# ...#... ......# ......# .#...#. #.####. #...... .....#. .#...#. #.....#
#.....# ...#... .....#. ..####. #....#. ##....# #.###.. ....#.. ..###.. .#...##
#.....# ...#... ....#.. ......# #....#. ......# ##...#. ....#.. .#...#. ..###.#
#.....# ...#... ...#... ......# ####### ......# #.....# ...#... #.....# ......#
#.....# ...#... ..#.... ......# .....#. ......# #.....# ...#... #.....# ......#
##...## ...#... .#..... ......# .....#. ......# #.....# ..#.... #.....# .....#.
.#...#. ...#... #...... #.....# .....#. #....#. .#...#. ..#.... .#...#. ....#..
..###.. .#####. ####### .#####. .....#. .####.. ..###.. ..#.... ..###.. .###...
"""


def lenet_codes():
    """The codes of LeNet-5's ten outputs, (10, 84): digits drawn on 7 x 12 pixels, row by row.

    Ink is +1, paper -1. Digits that look alike have codes that are close, so that what is
    confused is confused with its like. The drawings are ours; the paper prints its own small.

    Source: LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998, II B.
    """
    rows = [line.split() for line in GLYPHS.splitlines()]
    ink = [[pixel == "#" for row in rows for pixel in row[digit]] for digit in range(10)]
    return np.where(ink, 1.0, -1.0).astype("float32")


@differentiable
def rbf(x, w):
    """The squared distance of x to each unit's code.

    Forward:   y_i = sum over j of (x_j - w_ij)^2
               computed as sum x^2 - 2 x w_i + sum w_i^2, one matrix product, and at least 0
    Backward:  dx_j  = 2 sum over i of dy_i (x_j - w_ij)
               dw_ij = 2 sum over rows of dy_i (w_ij - x_j)
    Shapes:    x (..., n), w (m, n) -> y (..., m)
    Rounding:  of the size of sum x^2 + sum w^2, not of y. Half precision is computed with in
               float32.
    Source:    LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998,
               equation 7.
    """
    dtype = tf.float32 if x.dtype in (tf.float16, tf.bfloat16) else x.dtype
    units, inputs = w.shape
    rows, wide = tf.cast(tf.reshape(x, (-1, inputs)), dtype), tf.cast(w, dtype)
    y = tf.reduce_sum(rows * rows, 1, keepdims=True) + tf.reduce_sum(wide * wide, 1)
    y = tf.maximum(y - 2 * tf.matmul(rows, wide, transpose_b=True), 0)

    def like_x(t, last):
        t = tf.cast(t, x.dtype)
        if x.shape.rank == 2:
            return t
        return tf.ensure_shape(
            tf.reshape(t, tf.concat([tf.shape(x)[:-1], [last]], 0)), x.shape[:-1] + [last]
        )

    def backward(dy):
        dy = 2 * tf.cast(tf.reshape(dy, (-1, units)), dtype)
        dx = rows * tf.reduce_sum(dy, 1, keepdims=True) - tf.matmul(dy, wide)
        dw = wide * sum_rows(dy)[:, None] - tf.matmul(dy, rows, transpose_a=True)
        return like_x(dx, inputs), tf.cast(dw, w.dtype)

    return like_x(y, units), backward


@differentiable
def maximum_a_posteriori(y, t, *, j=30.0):
    """The penalty of the right class, and a competing term that keeps the others' up, in nats.

    Forward:   L = sum over i of t_i y_i + log(exp(-j) + sum over i of exp(-y_i))
               labels: L = y_t + log(...)
    Backward:  dy_i = dL * (t_i - exp(-y_i) / (exp(-j) + sum over k of exp(-y_k))),  dt = dL * y
    Shapes:    penalties y (..., C), targets t (..., C) or integer labels t (...) -> L (...)
    It is the negative log of the posterior of the right class, next to a rubbish class of
    penalty j, which ends the push on classes that are far beyond it. Computed by the largest
    exponent: finite for any y.
    Source:    LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998,
               equation 9.
    Raises:    InvalidArgumentError for a label outside 0 .. C-1 (CPU, outside XLA)
    """
    rubbish = tf.fill(tf.shape(y[..., :1]), tf.constant(-j, y.dtype))
    competing = tf.reduce_logsumexp(tf.concat([-y, rubbish], -1), -1)
    labels = t.dtype.is_integer
    if labels:
        penalty = tf.gather(y, t, batch_dims=t.shape.rank)
    else:
        penalty = tf.reduce_sum(t * y, -1)

    def backward(dloss):
        dloss = dloss[..., None]
        target = tf.one_hot(t, y.shape[-1], dtype=y.dtype) if labels else t
        dy = dloss * (target - tf.exp(-y - competing[..., None]))
        return dy, None if labels else dloss * y

    return penalty + competing, backward


@register
class RBF(Checked, keras.layers.Layer):
    """Distances to codes: the op `rbf` as a layer, (..., n) -> (..., units).

    The smallest output is the class. LeNet-5's last layer is `RBF(10, codes=lenet_codes())`.

    Args:
        units: how many codes.
        codes: array (units, n), or None: drawn by `codes_initializer`.
        codes_initializer: where there are no `codes`; None is `RandomSigns()`, -1 and +1.
        fixed: whether the codes stay as they are. If False they are trained.
    """

    def __init__(self, units, codes=None, codes_initializer=None, fixed=True, **kwargs):
        if not isinstance(units, int) or units <= 0:
            raise ValueError(f"`units` must be a positive integer. Received: units={units}")
        shape = np.shape(codes)
        if codes is not None and (len(shape) != 2 or shape[0] != units):
            raise ValueError(
                f"`codes` must be one row for each of the {units} units. "
                f"Received: codes of shape {shape}"
            )
        if codes is not None and not np.isfinite(np.asarray(codes, "float64")).all():
            raise ValueError(f"`codes` must be finite numbers. Received: codes={codes}")
        super().__init__(**kwargs)
        self.units = units
        self.codes = None if codes is None else np.asarray(codes, "float64").tolist()
        self.codes_initializer = keras.initializers.get(codes_initializer)
        self.fixed = fixed
        self.input_spec = keras.layers.InputSpec(min_ndim=2)
        self.supports_masking = True

    def build(self, input_shape):
        inputs = input_shape[-1]
        if inputs is None or self.codes and len(self.codes[0]) != inputs:
            raise ValueError(
                "The last axis of the inputs must have the size of a code"
                + (f", {len(self.codes[0])}. " if self.codes else ". ")
                + f"Received: input_shape={tuple(input_shape)}"
            )
        initializer = self.codes_initializer or RandomSigns()
        if self.codes:
            initializer = _copied(self.codes)
        self.weight = self.add_weight(
            name="codes", shape=(self.units, inputs), initializer=initializer,
            trainable=not self.fixed,
        )
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: inputs})

    def call(self, inputs):
        return rbf(inputs, self.weight)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "codes": self.codes,
            "codes_initializer": keras.initializers.serialize(self.codes_initializer),
            "fixed": self.fixed,
        }


def _copied(codes):
    return lambda shape, dtype=None: keras.ops.convert_to_tensor(codes, dtype)


@register
class MaximumAPosteriori(ClassLoss):
    """The op `maximum_a_posteriori` as a loss on the penalties that `RBF` returns.

    Args:
        j: the penalty of the rubbish class, greater than 0. The paper does not say its own. Well
            below the distances between codes (56 and more in `lenet_codes`) no other class ever
            competes, and only the distance to the right code is learned.
        from_logits: whether the outputs are -y, so that the largest, not the smallest, is the
            class, as accuracy and softmax expect.
        All other arguments are those of `SoftmaxCrossEntropy`.
    """

    def __init__(self, j=30.0, from_logits=False, **kwargs):
        if not j > 0:
            raise ValueError(f"`j` must be greater than 0. Received: j={j}")
        check_finite(j=j)
        super().__init__(**kwargs)
        self.j = j
        self.from_logits = from_logits

    def sample_loss(self, y_pred, targets):
        penalties = -y_pred if self.from_logits else y_pred
        return maximum_a_posteriori(penalties, targets, j=self.j)

    def get_config(self):
        return {**super().get_config(), "j": self.j, "from_logits": self.from_logits}
