"""Links of layers without weights that pool, move, join or rescale values."""

import functools

import tensorflow as tf
from keras.src.ops import numpy as keras_numpy

import custom_layers as ours
from custom_layers.global_pooling import global_max_pool
from custom_layers.lean_links import Pair
from custom_layers.lean_makers import MAKERS, kinds
from custom_layers.lean_pooling import MaxPool
from custom_layers.merging import add, concatenate, multiply
from custom_layers.pooling import average_pool, global_average_pool
from custom_layers.regions import roi_align
from custom_layers.reshaping import flatten
from custom_layers.upsampling import upsample2d


@kinds("MaxPooling2D")
def _(layer, training):
    return [MaxPool(layer.pool_size, layer.strides, layer.padding, layer.data_format)]


@kinds("AveragePooling2D")
def _(layer, training):
    return [Pair(functools.partial(
        average_pool.pair, pool_size=layer.pool_size, strides=layer.strides,
        padding=layer.padding, data_format=layer.data_format), reads="")]


@kinds("GlobalAveragePooling2D", "GlobalAveragePooling1D")
def _(layer, training):
    rank = 3 if "1D" in type(layer).__name__ else 4
    last = layer.data_format == "channels_last"
    axes = tuple(range(1, rank - 1)) if last else tuple(range(2, rank))
    return [Pair(functools.partial(
        global_average_pool.pair, axes=axes, keepdims=layer.keepdims), reads="", cheap=False)]


@kinds("GlobalMaxPooling2D")
def _(layer, training):
    axes = (1, 2) if layer.data_format == "channels_last" else (2, 3)
    return [Pair(functools.partial(
        global_max_pool.pair, axes=axes, keepdims=layer.keepdims), cheap=False)]


@kinds("UpSampling2D")
def _(layer, training):
    return [Pair(functools.partial(
        upsample2d.pair, size=layer.size, interpolation=layer.interpolation,
        data_format=layer.data_format), reads="")]


@kinds("ZeroPadding2D")
def _(layer, training):
    sides = _of_image(layer, layer.padding)
    return [Pair(functools.partial(_pad, sides=sides), reads="", stock="")]


def _of_image(layer, sides):
    """(before, after) of every axis of a layer's images, from those of height and width."""
    none = (0, 0)
    last = layer.data_format == "channels_last"
    return (none, *sides, none) if last else (none, none, *sides)


def _pad(x, *, sides):
    """Zeros around x; the adjoint takes them off."""
    shape = tf.shape(x)
    begin = [before for before, _ in sides]
    return tf.pad(x, sides), lambda dy: tf.ensure_shape(tf.slice(dy, begin, shape), x.shape)


@kinds("Cropping2D")
def _(layer, training):
    sides = _of_image(layer, layer.cropping)
    return [Pair(functools.partial(_crop, sides=sides), reads="", stock="")]


def _crop(x, *, sides):
    """x without what lies at its sides; the adjoint puts zeros there."""
    shape = x.shape
    size = [s - before - after for s, (before, after) in zip(tf.unstack(tf.shape(x)), sides)]
    y = tf.slice(x, [before for before, _ in sides], size)
    return y, lambda dy: tf.ensure_shape(tf.pad(dy, sides), shape)


@kinds("RoIAlign")
def _(layer, training):
    """It is linear in the pixels, but dear: 16 of them a result."""
    return [Pair(functools.partial(roi_align.pair, **layer.settings), reads="", stock="",
                 cheap=False)]


@kinds("Flatten")
def _(layer, training):
    kind = Pair(functools.partial(flatten.pair, data_format=layer.data_format), reads="", stock="")
    kind.view = layer.data_format == "channels_last"
    return [kind]


@kinds("Reshape")
def _(layer, training):
    kind = Pair(functools.partial(_reshape, target=layer.target_shape), reads="", stock="")
    kind.view = True
    return [kind]


def _reshape(x, *, target):
    shape, static = tf.shape(x), x.shape
    y = tf.reshape(x, tf.concat([shape[:1], target], 0))
    return y, lambda dy: tf.ensure_shape(tf.reshape(dy, shape), static)


@kinds("Permute")
def _(layer, training):
    return [Pair(functools.partial(_transpose, order=(0, *layer.dims)), reads="", stock="")]


def _transpose(x, *, order):
    back = [order.index(axis) for axis in range(len(order))]
    return tf.transpose(x, order), lambda dy: tf.transpose(dy, back)


@kinds("Concatenate")
def _(layer, training):
    kind = Pair(functools.partial(concatenate.pair, axis=layer.axis), reads="", stock="")
    kind.concatenates = layer.axis
    return [kind]


@kinds("Add")
def _(layer, training):
    return [Pair(add.pair, reads="", stock="")]


@kinds("Subtract")
def _(layer, training):
    def pair(x, z):
        y, backward = add.pair(x, -z)

        def subtract_backward(dy):
            dx, dz = backward(dy)
            return dx, -dz

        return y, subtract_backward

    return [Pair(pair, reads="", stock="")]


@kinds("Average")
def _(layer, training):
    def pair(*xs):
        y, backward = add.pair(*xs)
        return y / len(xs), lambda dy: backward(dy / len(xs))

    return [Pair(pair, reads="", stock="")]


@kinds("Multiply")
def _(layer, training):
    return [Pair(multiply.pair)]


@kinds("Rescaling")
def _(layer, training):
    if not all(isinstance(v, (int, float)) for v in (layer.scale, layer.offset)):
        return None

    def pair(x):
        exact = type(layer) is ours.Rescaling  # Keras rounds them to float32 first
        scale, offset = (tf.constant(v, x.dtype) if exact else tf.cast(v, x.dtype)
                         for v in (layer.scale, layer.offset))
        return x * scale + offset, lambda dy: dy * scale

    return [Pair(pair, reads="", stock="")]


@kinds("Identity")
def _(layer, training):
    return []


def _plus(layer, training):
    return [Pair(add.pair, reads="", stock="")]


MAKERS[keras_numpy.Add] = _plus
