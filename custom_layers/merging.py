"""Several tensors into one: sum, product and concatenation."""

import itertools
import operator

import keras
import tensorflow as tf
from keras.src.backend import get_keras_mask

from custom_layers.checks import BOOL, STRING, check_axis, kind_of, named, rank_is_known
from custom_layers.empty_batch import nothing
from custom_layers.gradient import differentiable
from custom_layers.registration import register


@differentiable
def add(*xs):
    """The sum of tensors: the node of a computational graph that hands its gradient on.

    Forward:   y = x_1 + x_2 + ...
    Backward:  dx_i = dy, summed over the axes along which x_i was broadcast
    Shapes:    x_i that broadcast against each other -> y of their common shape
    Source:    He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, CVPR 2016,
               section 3.2 (the shortcut).
    """
    adjoints = [broadcast_adjoint(x) for x in xs]
    if len({tuple(x.shape) for x in xs}) == 1 and xs[0].shape.is_fully_defined():
        y = tf.add_n(xs)
    else:
        y = sum(xs[1:], xs[0])
    return y, lambda dy: tuple(adjoint(dy) for adjoint in adjoints)


@differentiable
def multiply(*xs):
    """The product of tensors, element by element.

    Forward:   y = x_1 * x_2 * ...
    Backward:  dx_i = dy * the product of all others, summed over the axes along which x_i was
               broadcast. The others are the product of those before i, from the forward pass,
               times those after i, gathered on the way back: right where an x_i is 0 too
    Shapes:    x_i that broadcast against each other -> y of their common shape
    Source:    Hu, Shen, Sun, Squeeze-and-Excitation Networks, CVPR 2018, section 3 (maps that are
               scaled by gates).
    """
    adjoints = [broadcast_adjoint(x) for x in xs]
    products = list(itertools.accumulate(xs, operator.mul))

    def backward(dy):
        if nothing(dy):
            return tuple(tf.zeros_like(x) for x in xs)
        gradients = []
        for i in reversed(range(1, len(xs))):
            gradients.append(adjoints[i](dy * products[i - 1]))
            dy = dy * xs[i]
        gradients.append(adjoints[0](dy))
        return tuple(reversed(gradients))

    return products[-1], backward


@differentiable
def concatenate(*xs, axis=-1):
    """Tensors side by side.

    Forward:   y = x_1, x_2, ... one after the other along `axis`
    Backward:  dx_i = the part of dy that came from x_i
    Shapes:    x_i equal but for the size in `axis` -> y with the sum of these sizes
    Source:    Huang, Liu, van der Maaten, Weinberger, Densely Connected Convolutional Networks,
               CVPR 2017, section 3.
    """
    shapes = [x.shape for x in xs]
    if all(shape[axis] is not None for shape in shapes):
        sizes = [shape[axis] for shape in shapes]
    else:
        sizes = tf.stack([tf.shape(x)[axis] for x in xs])

    def backward(dy):
        parts = tf.split(dy, sizes, axis, num=len(shapes))
        return tuple(tf.ensure_shape(part, shape) for part, shape in zip(parts, shapes))

    return tf.concat(xs, axis), backward


@differentiable
def fill(x, mask, *, value):
    """Puts `value` where the mask is False.

    Forward:   y = x where mask, else value
    Backward:  dx = dy where mask, else 0
    Shapes:    x (...), mask (...) bool -> y (...)
    """
    y = tf.where(mask, x, tf.constant(value, x.dtype))
    return y, lambda dy: (tf.where(mask, dy, tf.zeros((), dy.dtype)), None)


def broadcast_adjoint(x):
    """The adjoint of broadcasting `x` to a larger shape, as a function of the gradient there.

    It sums over the axes along which x was repeated, half precision in float32, and keeps the
    shape of x, not x.
    """
    static, dtype = x.shape, x.dtype
    shape = static.as_list() if static.is_fully_defined() else tf.shape(x)

    def adjoint(dy):
        if static.is_fully_defined() and dy.shape.is_fully_defined():
            if dy.shape == static:
                return dy
            missing = dy.shape.rank - static.rank
            axes = [i for i in range(dy.shape.rank)
                    if i < missing or static[i - missing] != dy.shape[i]]
        else:
            axes = tf.raw_ops.BroadcastGradientArgs(s0=tf.shape(dy), s1=shape)[1]
        wide = tf.cast(dy, tf.float32) if dtype in (tf.float16, tf.bfloat16) else dy
        return tf.cast(tf.reshape(tf.reduce_sum(wide, axes), shape), dtype)

    return adjoint


def _are_ours(inputs):
    """Whether all are dense tensors of one float type; others go Keras's own way."""
    return (all(isinstance(x, tf.Tensor) and x.dtype.is_floating for x in inputs)
            and len({x.dtype for x in inputs}) == 1)


class _Merging:
    """Mixin: the inputs go together on every call. Keras looks only as it builds the layer."""

    forbidden = {BOOL}, {STRING}

    def _assert_input_compatibility(self, inputs):
        super()._assert_input_compatibility(inputs)
        if not isinstance(inputs, (list, tuple)) or not inputs:
            raise ValueError(
                f"{named(self)} should be called on a list of inputs. Received: inputs={inputs}"
            )
        if not all(hasattr(x, "dtype") for x in inputs):
            return
        if {kind_of(x) for x in inputs} in self.forbidden:
            raise ValueError(
                f"{named(self)} takes inputs of numbers. "
                f"Received: inputs.dtype={inputs[0].dtype}"
            )
        if all(map(rank_is_known, inputs)):
            self.check_shapes([tuple(x.shape) for x in inputs])

    def check_shapes(self, shapes):
        if self.built:
            type(self).build(self, shapes)  # it does nothing but check


@register
class Add(_Merging, keras.layers.Add):
    """`keras.layers.Add` on the op `add`. Sparse and integer inputs go Keras's own way."""

    forbidden = {BOOL},  # TensorFlow adds strings

    def _merge_function(self, inputs):
        return add(*inputs) if _are_ours(inputs) else super()._merge_function(inputs)


@register
class Multiply(_Merging, keras.layers.Multiply):
    """`keras.layers.Multiply` on the op `multiply`.

    As in Keras, a masked element of an input counts as 1, and the output is 0 where all inputs
    are masked. Sparse and integer inputs go Keras's own way.
    """

    def _merge_function(self, inputs):
        if not _are_ours(inputs):
            return super()._merge_function(inputs)
        masks = [get_keras_mask(x) for x in inputs]
        masks = [None if m is None else tf.broadcast_to(m[..., None], tf.shape(x))
                 for m, x in zip(masks, inputs)]
        y = multiply(*(x if m is None else fill(x, m, value=1) for x, m in zip(inputs, masks)))
        if any(m is None for m in masks):
            return y
        any_mask = masks[0]
        for mask in masks[1:]:
            any_mask = any_mask | mask
        return fill(y, any_mask, value=0)


@register
class Concatenate(_Merging, keras.layers.Concatenate):
    """`keras.layers.Concatenate` on the op `concatenate`. Sparse and integer inputs go Keras's
    own way."""

    forbidden = ()

    def check_shapes(self, shapes):
        for shape in shapes:
            check_axis(self, self.axis, shape)
        super().check_shapes(shapes)

    def _merge_function(self, inputs):
        if not _are_ours(inputs):
            return super()._merge_function(inputs)
        return concatenate(*inputs, axis=self.axis)
