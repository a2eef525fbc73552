"""Weight decay."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers import Dense
from custom_layers.examples import spread
from custom_layers.regularizers import WeightDecay, weight_decay


def test_weight_decay(gradient_check):
    w = spread((3, 4))
    np.testing.assert_allclose(weight_decay(w, decay=0.3), 0.5 * 0.3 * (w**2).sum(), rtol=1e-12)
    _, backward = weight_decay.pair(tf.constant(w), decay=0.3)
    np.testing.assert_allclose(backward(tf.constant(2.0, tf.float64)), 2 * 0.3 * w, rtol=1e-12)
    gradient_check(lambda w: weight_decay(w, decay=0.3), w, second_order=True)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_summed_in_float32(dtype):
    w = tf.ones((300, 300), dtype)
    loss = weight_decay(w, decay=1e-2)
    assert loss.dtype == dtype
    np.testing.assert_allclose(tf.cast(loss, tf.float32), 450, rtol=5e-3)


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_the_gradient_of_a_model_gains_lambda_w(jit):
    x, t = spread((8, 3), dtype="float32"), spread((8, 2), seed=1, dtype="float32")

    def trained(regularizer):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), Dense(2, kernel_regularizer=regularizer)])
        kernel = model.layers[0].kernel.numpy()
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit)
        model.fit(x, t, batch_size=8, epochs=1, verbose=0)
        return kernel, model.layers[0].kernel.numpy()

    kernel, plain = trained(None)
    _, decayed = trained(WeightDecay(0.2))
    _, stock = trained(keras.regularizers.L2(0.1))
    np.testing.assert_allclose(plain - decayed, 0.1 * 0.2 * kernel, atol=1e-6)
    np.testing.assert_allclose(decayed, stock, atol=1e-6)


def test_file_brings_it_back(tmp_path):
    model = keras.Sequential([keras.Input((3,)), Dense(2, kernel_regularizer=WeightDecay(0.5))])
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras").layers[0].kernel_regularizer
    assert type(again) is WeightDecay and again.get_config() == {"decay": 0.5}


@pytest.mark.parametrize("decay", [-1, float("nan"), float("inf")])
def test_it_says_what_is_wrong(decay):
    with pytest.raises(ValueError, match=f"a number >= 0. Received: decay={decay}"):
        WeightDecay(decay)
