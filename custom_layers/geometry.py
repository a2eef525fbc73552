"""Layers that move, frame or scale pixels: ZeroPadding2D, Cropping2D, Reshape, Rescaling."""

import math

import keras
import numpy as np
import tensorflow as tf

from custom_layers.checks import REAL, Checked, check_broadcast, check_kind
from custom_layers.gradient import differentiable
from custom_layers.merging import broadcast_adjoint
from custom_layers.registration import register
from custom_layers.windows import dimensions


@differentiable
def zero_pad(x, *, padding=((1, 1), (1, 1)), data_format="channels_last"):
    """Rows and columns of zeros around an image: the adjoint of `crop`.

    Forward:   y = x with (top, bottom), (left, right) zeros around it
    Backward:  dx = the part of dy inside the frame
    Shapes:    x (N, H, W, C) -> y (N, top + H + bottom, left + W + right, C);
               channels_first: x (N, C, H, W)
    Source:    Goodfellow, Bengio, Courville, Deep Learning, 2016, section 9.5.
    """
    pads = _of_all_axes(padding, data_format)
    return tf.pad(x, pads), lambda dy: _inside(dy, pads)


@differentiable
def crop(x, *, cropping=((0, 0), (0, 0)), data_format="channels_last"):
    """An image without its outer rows and columns: the adjoint of `zero_pad`.

    Forward:   y = x without (top, bottom) rows, (left, right) columns
    Backward:  dx = dy with zeros in their place
    Shapes:    x (N, H, W, C) -> y (N, H - top - bottom, W - left - right, C);
               channels_first: x (N, C, H, W)
    Raises:    ValueError where nothing of a side of known size is left
    Source:    Ronneberger, Fischer, Brox, U-Net, MICCAI 2015, section 2.
    """
    pads = _of_all_axes(cropping, data_format)
    if any(size is not None and sum(p) >= size for size, p in zip(x.shape[1:], pads[1:]) if sum(p)):
        raise ValueError(
            "Values in `cropping` argument should be smaller than the corresponding spatial "
            f"dimension of the input. Received: inputs.shape={x.shape}, cropping={cropping}"
        )
    return _inside(x, pads), lambda dy: tf.pad(dy, pads)


def _of_all_axes(pads, data_format):
    rows, columns = pads
    if data_format == "channels_first":
        return (0, 0), (0, 0), rows, columns
    return (0, 0), rows, columns, (0, 0)


def _inside(t, pads):
    return t[tuple(slice(before, -after or None) for before, after in pads)]


@differentiable
def reshape(x, *, target_shape):
    """The elements of each sample in another shape.

    Forward:   y = x, reshaped; one -1 in target_shape stands for what is left over
    Backward:  dx = dy, reshaped
    Shapes:    x (N, ...) -> y (N, *target_shape)
    Source:    none: elements keep their order, and so do their gradients.
    """
    shape = dimensions(x)
    known = math.prod(size for size in target_shape if size != -1)
    # Not TensorFlow's -1, which cannot be resolved for an empty batch.
    target = [math.prod(shape[1:]) // known if size == -1 else size for size in target_shape]
    return tf.reshape(x, [shape[0], *target]), lambda dy: tf.reshape(dy, shape)


@differentiable
def rescale(x, *, scale, offset=0.0):
    """Scale and offset, of all elements or, as vectors, of each channel.

    Forward:   y = x * scale + offset
    Backward:  dx = dy * scale
    Shapes:    x (...), scale and offset numbers or arrays that broadcast against x -> y (...)
    Source:    LeCun, Bottou, Orr, Mueller, Efficient BackProp, 1998, section 4.3.
    """
    scalar = np.ndim(scale) == np.ndim(offset) == 0
    adjoint = tf.identity if scalar else broadcast_adjoint(x)
    scale, offset = tf.constant(scale, x.dtype), tf.constant(offset, x.dtype)
    return x * scale + offset, lambda dy: adjoint(dy * scale)


def _check_not_negative(name, value):
    if any(n < 0 for side in value for n in side):
        raise ValueError(f"`{name}` cannot be negative. Received: {name}={value}")


@register
class ZeroPadding2D(keras.layers.ZeroPadding2D):
    """`keras.layers.ZeroPadding2D` on the op `zero_pad`.

    Raises:
        ValueError: for a padding of another form, and (here Keras says nothing) a negative one.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        _check_not_negative("padding", self.padding)

    def call(self, inputs):
        return zero_pad(inputs, padding=self.padding, data_format=self.data_format)


@register
class Cropping2D(keras.layers.Cropping2D):
    """`keras.layers.Cropping2D` on the op `crop`."""

    def call(self, inputs):
        return crop(inputs, cropping=self.cropping, data_format=self.data_format)


@register
class Reshape(keras.layers.Reshape):
    """`keras.layers.Reshape` on the op `reshape`. Sparse inputs go Keras's own way."""

    def call(self, inputs):
        if isinstance(inputs, tf.SparseTensor):
            return super().call(inputs)
        self.compute_output_shape(tuple(inputs.shape))  # checks that the sizes fit
        return reshape(inputs, target_shape=self.target_shape)


@register
class Rescaling(Checked, keras.layers.Rescaling):
    """`keras.layers.Rescaling` on the op `rescale`. Ragged and sparse inputs go Keras's own way."""

    takes = REAL

    def __call__(self, data, *args, **kwargs):
        if hasattr(data, "dtype"):
            check_kind(self, "inputs", data, self.takes)  # before Keras casts them, in a graph
        return super().__call__(data, *args, **kwargs)

    def check_shape(self, shape):
        for name, value in (("scale", self._scale()), ("offset", np.asarray(self.offset))):
            check_broadcast(self, name, value.shape, shape)

    def _scale(self):
        scale = np.asarray(self.scale)
        if scale.ndim and keras.config.image_data_format() == "channels_first":
            scale = scale.reshape(scale.shape + (1,) * (3 - scale.ndim))
        return scale

    def call(self, inputs):
        if isinstance(inputs, (tf.RaggedTensor, tf.SparseTensor)):
            return super().call(inputs)
        inputs = tf.cast(inputs, self.compute_dtype)
        return rescale(inputs, scale=self._scale(), offset=self.offset)
