"""`planted`: an op whose gradient is that of another function, so that a bug is one line."""

import inspect

import tensorflow as tf


def planted(right, wrong=None):
    """`right` with its own gradient, or with that of the function `wrong`.

    Both take the same tensors and return results of one shape. The gradient is TensorFlow's own.
    """

    @tf.custom_gradient
    def run(*tensors):
        def backward(dy):
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                y = (wrong or right)(*tensors)
            gradients = tape.gradient(y, tensors, dy)
            return [None if g is None else tf.convert_to_tensor(g) for g in gradients]

        return right(*tensors), backward

    def op(*tensors):
        return run(*map(tf.convert_to_tensor, tensors))

    op.__name__, op.__signature__ = right.__name__, inspect.signature(right)
    return op


def stop(x):
    return tf.stop_gradient(x)


def replaced(x, y):
    """The values of x with the gradient of y."""
    return y + tf.stop_gradient(x - y)
