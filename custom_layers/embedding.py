"""Embedding: rows of a table, looked up by integer ids."""

import keras
import tensorflow as tf

from custom_layers.checks import REAL, Checked
from custom_layers.gradient import differentiable
from custom_layers.registration import register


@differentiable
def embedding(table, ids, *, dtype=None, sparse=False):
    """The rows of a table that integer ids name.

    Forward:   y[...,:] = table[ids[...],:], cast to `dtype`;  an id below 0 counts from the end
    Backward:  dtable[v,:] = sum of dy over the places where ids = v (scatter-add), in the
               table's dtype
    Shapes:    table (V, D), ids (...) integers -> y (..., D)
    Settings:  dtype of y, the table's where None; with sparse the gradient is not added up but
               stays (rows, ids) as `tf.IndexedSlices`, as that of `tf.gather`: an optimiser
               can then touch the rows that occurred alone. TensorFlow adds it up where it is
               used as a tensor
    Raises:    ValueError where the table is no matrix or the ids are no integers. An id of V
               or more is TensorFlow's InvalidArgumentError on a CPU; a GPU and XLA do not look
    Source:    Bengio, Ducharme, Vincent, Jauvin, A Neural Probabilistic Language Model, 2003,
               section 2.
    """
    if table.shape.rank != 2 or not ids.dtype.is_integer:
        raise ValueError(
            "`embedding` takes a table of shape (V, D) and integer ids. "
            f"Received: table.shape={table.shape}, ids.dtype={ids.dtype.name}"
        )
    size = tf.shape(table)
    ids = tf.where(ids < 0, ids + tf.cast(size[0], ids.dtype), ids)
    y = tf.gather(table, ids)

    def backward(dy):
        rows = tf.reshape(tf.cast(dy, table.dtype), (-1, table.shape[1]))
        flat = tf.reshape(ids, [-1])
        if sparse:
            return tf.IndexedSlices(rows, flat, size), None
        wide = tf.cast(rows, tf.float32) if table.dtype.size == 2 else rows
        total = tf.math.unsorted_segment_sum(wide, flat, size[0])
        return tf.ensure_shape(tf.cast(total, table.dtype), table.shape), None

    return tf.cast(y, dtype or table.dtype), backward


@register
class Embedding(Checked, keras.layers.Embedding):
    """`keras.layers.Embedding` on the op `embedding`.

    The gradient of the table is a `tf.IndexedSlices`, as Keras's is. Sparse and ragged ids and
    LoRA go Keras's own way. As in Keras, an id that the table does not have is only seen as it is
    looked up: an InvalidArgumentError on a CPU, zeros on a GPU, any row under XLA.
    """

    takes = REAL

    def call(self, inputs):
        if self.lora_enabled or not tf.is_tensor(inputs) or isinstance(
            inputs, (tf.SparseTensor, tf.RaggedTensor)
        ):
            return super().call(inputs)
        ids = inputs if inputs.dtype in (tf.int32, tf.int64) else tf.cast(inputs, tf.int32)
        return embedding(self.embeddings, ids, dtype=self.compute_dtype, sparse=True)
