"""Embedding: the lookup, the scatter-add, and the layer beside Keras's."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers.embedding import Embedding, embedding
from custom_layers.examples import spread

MODES = {"eager": lambda f: f, "graph": tf.function,
         "xla": lambda f: tf.function(f, jit_compile=True)}
IDS = np.array([[3, 0, 3], [1, -1, 3]], "int32")  # 3 three times, and once more from the end


def naive(table, ids, dy):
    y, dtable = np.zeros((*ids.shape, table.shape[1])), np.zeros_like(table)
    for place in np.ndindex(ids.shape):
        y[place] = table[ids[place]]
        dtable[ids[place]] += dy[place]
    return y, dtable


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("mode", MODES)
def test_embedding(mode, sparse):
    table, dy = spread((4, 5)), spread((2, 3, 5), seed=1)

    def run(table, ids):
        with tf.GradientTape() as tape:
            tape.watch(table)
            y = embedding(table, ids, sparse=sparse)
        return y, tape.gradient(y, table, dy)

    y, dtable = MODES[mode](run)(tf.constant(table), IDS)
    assert isinstance(dtable, tf.IndexedSlices) is sparse
    expected_y, expected = naive(table, IDS, dy)
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_allclose(tf.convert_to_tensor(dtable), expected, rtol=1e-12)


def test_embedding_gradients_are_proven(gradient_check):
    def dense(table):
        return embedding(table, IDS)

    def sparse(table):
        return embedding(table, IDS, sparse=True)

    assert gradient_check(dense, [spread((4, 3))], second_order=True).error <= 1e-6
    assert gradient_check(sparse, [spread((4, 3))]).error <= 1e-6


def test_a_half_precision_table_adds_up_in_float32():
    """4096 times 1 + 1/1024: a sum in float16 would stop at 2048."""
    ids = tf.zeros([4096], tf.int32)
    _, backward = embedding.pair(tf.ones((2, 1), tf.float16), ids)
    dtable, none = backward(tf.fill((4096, 1), tf.constant(1 + 1 / 1024, tf.float16)))
    assert dtable.dtype == tf.float16 and none is None
    np.testing.assert_allclose(dtable, [[4100], [0]])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16", "float64"])
@pytest.mark.parametrize("shape", [(2, 3), (0, 3)], ids=["batch", "empty"])
def test_equals_the_layer_of_keras(mode, dtype, shape):
    results = []
    for cls in (Embedding, keras.layers.Embedding):
        layer = cls(4, 5, dtype=dtype)
        layer.build()
        layer.set_weights([spread((4, 5))])

        def run(ids, dy, layer=layer):
            with tf.GradientTape() as tape:
                y = layer(ids)
            return y, tape.gradient(y, layer.trainable_variables[0].value, tf.cast(dy, y.dtype))

        y, dtable = MODES[mode](run)(IDS[:shape[0]], tf.constant(spread((*shape, 5), seed=1)))
        assert isinstance(dtable, tf.IndexedSlices)
        results.append((y, tf.convert_to_tensor(dtable)))
    for ours, stock in zip(*results):
        assert ours.dtype == stock.dtype
        np.testing.assert_array_equal(ours, stock)


def test_float_sparse_and_ragged_ids():
    layer, stock = Embedding(4, 5), keras.layers.Embedding(4, 5)
    layer.build(), stock.build()
    stock.set_weights(layer.get_weights())
    ragged = tf.ragged.constant([[1, 2, 3], [0]])
    for ids in (tf.constant([[1.0, 3.0]]), ragged.to_sparse()):
        np.testing.assert_array_equal(layer(ids), stock(ids))
    np.testing.assert_array_equal(layer(ragged).flat_values, stock(ragged).flat_values)


def test_mask_zero_and_training():
    model = keras.Sequential([
        keras.Input((None,), dtype="int32"), Embedding(6, 3, mask_zero=True),
        keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(1),
    ])
    mask = model.layers[0].compute_mask(tf.constant([[0, 3]]))
    np.testing.assert_array_equal(mask, [[False, True]])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    before = model.layers[0].embeddings.numpy()
    model.fit(np.array([[1, 2, 0], [1, 4, 4]]), np.ones(2), verbose=0)
    moved = np.abs(model.layers[0].embeddings.numpy() - before).max(1) > 0
    np.testing.assert_array_equal(moved, [False, True, True, False, True, False])


@pytest.mark.parametrize(("table", "ids", "received"), [
    (np.ones(3), [1], r"table.shape=\(3,\)"), (np.ones((3, 2)), [1.0], "ids.dtype=float32"),
])
def test_embedding_says_what_is_wrong(table, ids, received):
    with pytest.raises(ValueError, match=f"integer ids. Received: .*{received}"):
        embedding(table, ids)
