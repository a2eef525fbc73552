"""Bugs that show only somewhere: in one mode, in half a batch, in float32, in second order, ..."""

import tensorflow as tf
from planted_layers import normal

from custom_layers.gradient import differentiable


def somewhere(bug=None):
    """A dense layer whose gradient is wrong in one mode, or for a part of the batch."""
    seed = [3, 4]
    drawn = tf.random.stateless_uniform([4, 3], seed).numpy()  # XLA draws other numbers

    @differentiable
    def op(x, w):
        def backward(dy):
            dx, dw = dy @ tf.transpose(w), tf.transpose(x) @ dy
            if bug == "eager alone" and tf.executing_eagerly():
                dx = -dx
            if bug == "graphs alone" and not tf.executing_eagerly():
                dw = 2 * dw
            if bug == "XLA alone":
                same = tf.random.stateless_uniform([4, 3], seed) == drawn
                dx = tf.where(same, dx, 0)
            if bug == "second half of the batch":
                dx = tf.concat([dx[:2], 0 * dx[2:]], 0)
            if bug == "first half of the batch summed":
                dw = tf.transpose(x[:2]) @ dy[:2]
            if bug == "first image's":
                dx = tf.repeat(dx[:1], 4, axis=0)
            return dx, dw

        return x @ w, backward

    return op, [normal(4, 3), normal(3, 3)]


def float32_alone(bug=None):
    """Standard deviations; the gradients are right in float64."""
    @differentiable
    def op(x):
        mean = tf.reduce_mean(x, -1, keepdims=True)
        y = tf.sqrt(tf.reduce_mean((x - mean)**2, -1, keepdims=True))

        def backward(dy):
            slope = (x - mean) / (x.shape[-1] * y)
            if bug == "cancels":
                square = tf.reduce_mean(x**2, -1, keepdims=True) - mean**2
                slope = (x - mean) / (x.shape[-1] * tf.sqrt(square))
            if bug == "overflows":
                slope = slope * tf.exp(y * 100) / tf.exp(y * 100)
            if bug == "doubled" and x.dtype == tf.float32:
                slope = 2 * slope
            if bug == "in half precision" and x.dtype == tf.float32:
                slope = tf.cast(tf.cast(slope, "bfloat16"), "float32")
            return dy * slope

        return y, backward

    return op, 300 + normal(4, 5)


def second_order(bug=None):
    """y = x^3: right once, wrong where it is differentiated again."""
    @tf.custom_gradient
    def wrong_square(x):
        return x * x, lambda dy: dy * x

    @differentiable
    def op(x):
        def backward(dy):
            if bug == "stopped":
                return dy * 3 * tf.stop_gradient(x * x)
            if bug == "second derivative wrong":
                return dy * 3 * wrong_square(x)
            if bug == "upstream stopped":
                return tf.stop_gradient(dy) * 3 * x * x
            if bug == "half of it stopped":
                return dy * 3 * x * tf.stop_gradient(x)
            if bug == "converted to a constant":
                return 3 * tf.stop_gradient(dy * x * x)
            return dy * 3 * x * x

        return x**3, backward

    return op, normal(4, 3)


def several_upstreams(bug=None):
    """Right for one upstream gradient at a time, not for several at once."""
    kept = tf.Variable(tf.zeros([4, 3], tf.float64), trainable=False)

    @differentiable
    def op(x):
        def backward(dy):
            if bug == "leaves TensorFlow":
                return tf.ensure_shape(tf.numpy_function(lambda d: 2 * d, [dy], dy.dtype), x.shape)
            if bug == "kept in a variable" and dy.dtype == kept.dtype:
                kept.assign(tf.zeros_like(kept))
                kept.assign_add(dy)
                return 2 * kept.read_value()
            return 2 * dy

        return 2 * x, backward

    return op, normal(4, 3)


# What must be asked of a check, beyond the default, to see the bugs of a builder.
OPTIONS = {
    somewhere: {"modes": ("eager", "graph", "xla")},
    second_order: {"second_order": True},
    several_upstreams: {"modes": ("eager",), "batched_upstream": True},
}
BUGS = {
    somewhere: {
        "eager alone": ("gradient", "x"),
        "graphs alone": ("gradient", "w"),
        "XLA alone": ("gradient", "x"),
        "second half of the batch": ("gradient", "x"),
        "first half of the batch summed": ("gradient", "w"),
        "first image's": ("gradient", "x"),
    },
    float32_alone: {
        "cancels": ("precision", "x"),
        "overflows": ("nan", "x"),
        "doubled": ("precision", "x"),
        "in half precision": ("precision", "x"),
    },
    second_order: {
        "stopped": ("missing", "second order, x"),
        "second derivative wrong": ("gradient", "second order, x"),
        "upstream stopped": ("missing", "second order, upstream 0"),
        "half of it stopped": ("gradient", "second order, x"),
        "converted to a constant": ("missing", "second order, x"),
    },
    several_upstreams: {
        "leaves TensorFlow": ("unvectorised", "all"),
        "kept in a variable": ("batched", "x"),
    },
}
