"""How lean training stores what it keeps: nothing lost, rounded, or rounded without bias."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers.lean import lean
from custom_layers.lean_storage import SAVES, Bfloat16, Float32, Int8

DRAWS = 2000


def maps(seed=0, shape=(4, 5, 6, 3)):
    """Channels of very different ranges, one of them constant."""
    x = np.random.default_rng(seed).normal(size=shape)
    return tf.constant(x * [1.0, 100.0, 0.0][:shape[-1]] + [0.0, 7.0, 3.0][:shape[-1]], tf.float32)


def stored(save, t, seed):
    return save.decode(save.encode(t, tf.stack(seed)), t.dtype)


def draws(t, count=DRAWS):
    """What int8 gives back of `t`, `count` times."""
    many = tf.function(lambda: tf.map_fn(
        lambda i: stored(Int8(), t, [i, 17]), tf.range(count), fn_output_signature=t.dtype))
    return many().numpy().astype("float64")


def test_float32_is_what_was_given():
    t = maps()
    assert stored(Float32(), t, (1, 2)) is t


def test_bfloat16_rounds_to_eight_bits():
    t = maps()
    np.testing.assert_allclose(stored(Bfloat16(), t, (1, 2)), t, rtol=2.0**-8)


def test_int8_is_within_a_step_of_its_channel():
    t = maps()
    steps = (tf.reduce_max(t, (0, 1, 2)) - tf.reduce_min(t, (0, 1, 2))) / 255
    error = np.abs(stored(Int8(), t, (1, 2)) - t)
    assert (error <= steps.numpy() * 1.0001 + 1e-6).all()
    np.testing.assert_array_equal(stored(Int8(), t, (1, 2))[..., 2], t[..., 2])


def test_int8_is_right_on_average():
    """The mean over many draws is t, to five standard errors of the mean, everywhere."""
    t = maps().numpy().astype("float64")
    found = draws(maps())
    step = (t.max((0, 1, 2)) - t.min((0, 1, 2))) / 255
    fraction = ((t - t.min((0, 1, 2))) / np.where(step == 0, 1, step)) % 1
    error = step * np.sqrt(fraction * (1 - fraction) / DRAWS)
    assert (np.abs(found.mean(0) - t) <= 5 * error + 1e-4 * step + 1e-6).all()
    assert found.std(0)[..., :2].max() > 0


def test_the_errors_of_int8_are_those_of_rounding_at_random():
    """Each has the variance f (1 - f) of its step, and any two of them are uncorrelated."""
    t = maps(1, (3, 4, 4, 2))
    found = draws(t)
    step = ((tf.reduce_max(t, (0, 1, 2)) - tf.reduce_min(t, (0, 1, 2))) / 255).numpy()
    errors = ((found - found.mean(0)) / step).reshape(DRAWS, -1)
    low = tf.reduce_min(t, (0, 1, 2)).numpy()
    fraction = (((t.numpy() - low) / step) % 1).reshape(-1)
    np.testing.assert_allclose(errors.var(0), fraction * (1 - fraction), atol=0.03)
    spread = errors.std(0) > 0.2
    correlation = np.corrcoef(errors[:, spread].T)
    off = correlation[~np.eye(len(correlation), dtype=bool)]
    assert np.abs(off).max() < 6 / np.sqrt(DRAWS)


def test_what_relu_cut_off_stays_cut_off():
    """A zero at the end of the range comes back as zero, so no gradient passes there."""
    t = tf.nn.relu(maps())
    assert (stored(Int8(), t, (3, 4)).numpy()[t.numpy() == 0] == 0).all()


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", SAVES)
def test_what_comes_back_has_the_dtype_it_had(name, dtype):
    t = tf.cast(maps(), dtype)
    assert stored(SAVES[name](), t, (1, 2)).dtype == t.dtype


@pytest.mark.parametrize("name", SAVES)
def test_an_empty_batch_comes_back_empty(name):
    assert stored(SAVES[name](), tf.zeros((0, 4, 4, 3)), (1, 2)).shape == (0, 4, 4, 3)


def products():
    """Two products in a row: the gradient of the second kernel is linear in what is kept."""
    keras.utils.set_random_seed(0)
    x = keras.Input((6,))
    return keras.Model(x, keras.layers.Dense(3)(keras.layers.Dense(8, use_bias=False)(x)))


def gradients(view, model, count):
    x = tf.random.stateless_normal((5, 6), (1, 2))
    dy = tf.random.stateless_normal((5, 3), (3, 4))

    @tf.function
    def once():
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(view(x, training=True) * dy)
        return tape.gradient(total, [w.value for w in model.trainable_variables])

    return [np.stack(g) for g in zip(*([g.numpy() for g in once()] for _ in range(count)))]


def test_the_gradients_of_int8_are_right_on_average():
    model = products()
    exact = gradients(model, model, 1)
    found = gradients(lean(model, save="int8", seed=3), model, 400)
    for a, b in zip(exact, found, strict=True):
        b = b.astype("float64")
        error = b.std(0) / np.sqrt(len(b))
        off = np.abs(b.mean(0) - a[0]) - 5 * error
        assert off.max() < 1e-5, off.max()
    assert found[1].std(0).max() > 0  # the second kernel's: it is rounded


def test_a_seed_makes_int8_repeatable():
    model = products()
    first, again, other = (
        gradients(lean(model, save="int8", seed=seed), model, 3)[1] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first[0] != first[1]).any() and (first != other).any()
