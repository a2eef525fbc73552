"""In how many bits lean training stores what it keeps."""

import tensorflow as tf


class Float32:
    """As it is: nothing is lost."""

    name, exact = "float32", True

    def encode(self, t, seed):
        return (t,)

    def decode(self, stored, dtype):
        return stored[0]

    def bytes(self, shape, itemsize):
        return elements(shape) * itemsize


class Bfloat16:
    """Rounded to the nearest bfloat16: 8 significant bits, the range of float32."""

    name, exact = "bfloat16", False

    def encode(self, t, seed):
        return (tf.cast(t, tf.bfloat16),)

    def decode(self, stored, dtype):
        return tf.cast(stored[0], dtype)

    def bytes(self, shape, itemsize):
        return elements(shape) * min(itemsize, 2)


class Int8:
    """Eight bits an element, in steps of (max - min) / 255 of its channel, rounded at random.

    Forward:   q = floor((t - min) / step + u),  u uniform in [0, 1):  E[min + q step] = t
    The draws u are frac(a + b), a for each place of a sample, b for each sample: uniform, and any
    two of them independent, so sums of the errors vary as if all were drawn one by one.
    Source:    Chen et al., ActNN: Reducing Training Memory Footprint via 2-Bit Activation
               Compressed Training, ICML 2021, section 3 (stochastic rounding, by group).
    """

    name, exact = "int8", False

    def encode(self, t, seed):
        wide = tf.cast(t, tf.float32) if t.dtype.size < 4 else t
        axes = list(range(t.shape.rank - 1))
        low, high = tf.reduce_min(wide, axes), tf.reduce_max(wide, axes)
        step = (high - low) / 255
        inverse = tf.math.divide_no_nan(tf.ones((), wide.dtype), step)
        shape = tf.shape(t)
        with tf.control_dependencies([step]):  # else all layers' draws are made first, and held
            place = tf.random.stateless_uniform(
                tf.concat([[1], shape[1:]], 0), seed, dtype=wide.dtype)
            sample = tf.random.stateless_uniform(
                tf.concat([shape[:1], tf.ones_like(shape[1:])], 0), seed + 1, dtype=wide.dtype)
        draws = place + sample
        draws = draws - tf.floor(draws)
        q = tf.clip_by_value(tf.floor((wide - low) * inverse + draws), 0, 255)
        return tf.cast(q, tf.uint8), low, step

    def decode(self, stored, dtype):
        q, low, step = stored
        return tf.cast(low + tf.cast(q, low.dtype) * step, dtype)

    def bytes(self, shape, itemsize):
        return elements(shape) + 8 * (shape[-1] or 1) / 32


def elements(shape):
    """Elements of a sample; an unknown size counts as 64."""
    size = 1
    for n in shape[1:]:
        size *= 64 if n is None else n
    return size


def storage(save, dtype):
    """How a result of `dtype` is stored: whole numbers as they are."""
    return save if tf.as_dtype(dtype).is_floating else Float32()


SAVES = {kind.name: kind for kind in (Float32, Bfloat16, Int8)}
