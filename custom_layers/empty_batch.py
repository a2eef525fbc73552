"""Empty batches, which TensorFlow's kernels on a CPU get wrong."""

import functools

import tensorflow as tf


def right_on_empty_batch(pair):
    """`pair(x, *others, **settings)` -> (y, backward), made right where x is an empty batch.

    There it runs on one sample of zeros, of which nothing is handed on: y and dx are empty, the
    gradients of the others zero. On a CPU, TensorFlow's oneDNN kernels give an empty batch the
    input's shape instead of the output's; that of max pooling's gradient ends the process.

    Where the batch size is only known as the graph runs, to ask costs a small network 2 % of its
    step. So a plain graph does not ask, except between replicas on CPUs: the last batch of a
    data set may leave one of them nothing. (Elsewhere TF_ENABLE_ONEDNN_OPTS=0 helps.)
    """

    @functools.wraps(pair)
    def on_any_batch(x, *others, **settings):
        x = tf.convert_to_tensor(x)
        n = x.shape[0]
        if n is None and _among_replicas_on_cpus():
            n = tf.shape(x)[0]
        if n is None or isinstance(n, int) and n > 0:
            return pair(x, *others, **settings)
        y, backward = pair(_one_if_empty(x, n), *others, **settings)

        def cut_backward(dy):
            gradients = backward(_one_if_empty(dy, n))
            if not isinstance(gradients, tuple):
                return tf.ensure_shape(gradients[:n], x.shape)
            return tf.ensure_shape(gradients[0][:n], x.shape), *gradients[1:]

        return y[:n], cut_backward

    return on_any_batch


def nothing(dy):
    """Whether `dy` is known to have no elements, so that every gradient is zero.

    For backwards that multiply dy by what is broadcast to it: TensorFlow's graph optimiser then
    divides by zero, and ends the process, where dy is a constant of ones (a tape's own upstream).
    """
    return dy.shape.num_elements() == 0


def zero_if_empty(statistic, x):
    """`statistic` of the batch x, which may be NaN where x has no elements: there it is 0."""
    n = x.shape.num_elements()
    if n is None:
        n = tf.size(x)
    elif n > 0:
        return statistic
    return tf.math.multiply_no_nan(statistic, tf.cast(n > 0, statistic.dtype))


def _one_if_empty(t, n):
    """`t`, or where its batch size `n` is 0 one sample of zeros."""
    sample = tf.zeros(tf.concat([[1], tf.shape(t)[1:]], 0), t.dtype)
    if isinstance(n, int):
        return tf.ensure_shape(sample, (1, *t.shape[1:]))
    return tf.ensure_shape(tf.cond(n > 0, lambda: t, lambda: sample), t.shape)


def _among_replicas_on_cpus():
    strategy = tf.distribute.get_strategy()
    return strategy.num_replicas_in_sync > 1 and any(
        "CPU" in device for device in strategy.extended.worker_devices
    )
