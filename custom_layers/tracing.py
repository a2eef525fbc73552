"""What an op may know of the graph it is traced into, and reductions that run fast in it."""

import tensorflow as tf
from tensorflow.python.ops import control_flow_util


def compiled_by_xla():
    """Whether the code being traced is inside a `tf.function(jit_compile=True)`.

    Only a choice between equal results may depend on it: XLA and the kernels of a plain graph
    are fast at different things.
    """
    graph = tf.compat.v1.get_default_graph()
    return not tf.executing_eagerly() and control_flow_util.GraphOrParentsInXlaContext(graph)


def sum_rows(t):
    """The sum of `t` (..., C) over all axes but the last, half precision summed in float32.

    As a product with a row of ones: on a CPU up to twice as fast as the reduction.
    """
    wide = tf.cast(t, tf.float32) if t.dtype in (tf.float16, tf.bfloat16) else t
    if compiled_by_xla():
        total = tf.reduce_sum(wide, list(range(t.shape.rank - 1)))
    else:
        rows = tf.reshape(wide, (-1, tf.shape(t)[-1] if t.shape[-1] is None else t.shape[-1]))
        total = tf.matmul(tf.ones((1, tf.shape(rows)[0]), rows.dtype), rows)[0]
    return tf.cast(total, t.dtype)
