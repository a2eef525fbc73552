"""Adversarial training: its losses, its step, what a resumed one repeats."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from app.generation.dcgan import discriminator, generator
from app.generation.gan import GAN, OPTIMIZER
from app.precision import precision
from app.state import read_state, write_state


def gan(shape=(8, 8, 1), optimizer=None, jit_compile=False, **settings):
    model = GAN(generator(shape, noise=6, width=0.0625), discriminator(shape, width=0.0625),
                **settings)
    model.compile(optimizer or OPTIMIZER(), jit_compile=jit_compile)
    return model


@pytest.fixture
def images():
    return np.random.default_rng(0).random((48, 8, 8, 1), np.float32)


def weights(model):
    return [variable.numpy() for variable in model.variables]


def test_the_losses_are_those_of_the_paper():
    real, fake = np.array([[0.3], [-1.0]], np.float32), np.array([[2.0], [-0.5]], np.float32)
    losses = gan(label_smoothing=0.1).losses_of(real, fake)
    s_real, s_fake = (1 / (1 + np.exp(-t)) for t in (real, fake))
    np.testing.assert_allclose(losses[0], -np.log(s_fake).mean(), rtol=1e-5)
    np.testing.assert_allclose(losses[1], (
        -0.9 * np.log(s_real) - 0.1 * np.log(1 - s_real) - np.log(1 - s_fake)).mean(), rtol=1e-5)


@pytest.mark.parametrize("shift", [0, 2])
def test_a_step_takes_each_network_down_its_own_loss(images, shift):
    model = gan(optimizer=keras.optimizers.SGD(1.0), shift=shift, seed=3)
    twin = gan(shift=shift)
    twin.set_weights(model.get_weights())
    noise = model.noise(48, 0)

    def move(images):
        if not shift:
            return images
        moves = tf.random.stateless_uniform([2, 48, 1], (3, -2), 0, 5, tf.int32).numpy()[..., 0]
        padded = tf.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
        return tf.stack([one[y:y + 8, x:x + 8] for one, y, x in zip(padded, *moves)])

    for own, loss in ((twin.generator, 0), (twin.discriminator, 1)):
        fresh = [variable.numpy() for variable in twin.variables]
        with tf.GradientTape() as tape:
            drawn = twin.generator(noise, training=True)
            real = twin.discriminator(move(images), training=True)
            fake = twin.discriminator(move(drawn), training=True)
            value = twin.losses_of(real, fake)[loss]
        gradients = tape.gradient(value, own.trainable_variables)
        for variable, kept in zip(twin.variables, fresh):
            variable.assign(kept)
        own.expected = [v - g for v, g in zip(own.trainable_variables, gradients)]
    model.train_on_batch(images)
    for name in ("generator", "discriminator"):
        for found, expected in zip(getattr(model, name).trainable_variables,
                                   getattr(twin, name).expected):
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_lean_step_is_the_step_and_is_saved_as_the_gan(images, tmp_path):
    plain, leaner = gan(shift=1, seed=3), gan(shift=1, seed=3)
    leaner.set_weights(plain.get_weights())
    leaner.train_lean(save="float32")
    for model in (plain, leaner):
        model.fit(images, batch_size=16, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(weights(plain), weights(leaner), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    leaner.save(tmp_path / "gan.keras")
    loaded = keras.models.load_model(tmp_path / "gan.keras")
    noise = leaner.noise(4)
    np.testing.assert_allclose(loaded(noise), leaner(noise), atol=1e-6)


def test_a_resumed_training_repeats(images, tmp_path):
    whole, begun, resumed = (gan(shift=1, seed=5) for _ in range(3))
    begun.set_weights(whole.get_weights())
    settings = {"batch_size": 16, "shuffle": False, "verbose": 0}
    whole.fit(images, epochs=4, **settings)
    begun.fit(images, epochs=2, **settings)
    write_state(begun, tmp_path / "state.npz")
    read_state(resumed, tmp_path / "state.npz")
    resumed.fit(images, epochs=4, initial_epoch=2, **settings)
    for a, b in zip(weights(whole), weights(resumed)):
        np.testing.assert_array_equal(a, b)


def test_noise_follows_from_the_seed_and_the_step():
    model = gan(seed=1)
    draws = [model.noise(4, 0), model.noise(4, 1), model.noise(4), gan(seed=2).noise(4, 0)]
    assert len({draw.numpy().tobytes() for draw in draws}) == 4
    np.testing.assert_array_equal(draws[0], gan(seed=1).noise(4, 0))


def test_it_is_saved_and_loaded_with_its_optimizer(images, tmp_path):
    model = gan(label_smoothing=0.2, shift=1, seed=4)
    model.fit(images, batch_size=16, verbose=0)
    model.save(tmp_path / "gan.keras")
    loaded = keras.models.load_model(tmp_path / "gan.keras")
    assert (loaded.label_smoothing, loaded.shift, loaded.seed) == (0.2, 1, 4)
    # Of two models threads may add in another order. A lost state would be steps of 2e-4 apart.
    np.testing.assert_allclose(loaded.evaluate(images, verbose=0),
                               model.evaluate(images, verbose=0), rtol=1e-6)
    for m in (model, loaded):
        m.fit(images, batch_size=16, shuffle=False, verbose=0)
    for a, b in zip(weights(model), weights(loaded), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_of_the_same_noise_it_learns_the_same_under_xla(images, monkeypatch):
    noise = gan().noise(48)
    monkeypatch.setattr(GAN, "noise", lambda self, count, step: noise)
    plain, compiled = (gan(optimizer=keras.optimizers.SGD(0.1), jit_compile=jit)
                       for jit in (False, True))
    compiled.set_weights(plain.get_weights())
    before = plain.get_weights()
    for model in (plain, compiled):
        model.train_on_batch(images)
    for a, b, start in zip(weights(plain), weights(compiled), before):
        np.testing.assert_allclose(a, b, atol=0.01 * np.abs(a - start).max() + 1e-6)


def test_half_precision_scales_both_losses(images):
    with precision("mixed_float16"):
        model = gan()
        before = model.discriminator.get_weights()
        logs = model.fit(images, batch_size=16, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    assert np.abs(before[0] - model.discriminator.get_weights()[0]).max() > 1e-5


def test_labels_beside_the_images_are_left_aside(images):
    labelled = tf.data.Dataset.from_tensor_slices((images, np.zeros(48))).batch(16)
    plain, given = gan(), gan()
    given.set_weights(plain.get_weights())
    plain.fit(images, batch_size=16, shuffle=False, verbose=0)
    given.fit(labelled, shuffle=False, verbose=0)
    np.testing.assert_array_equal(plain.predict(plain.noise(3), verbose=0),
                                  given.predict(given.noise(3), verbose=0))


@pytest.mark.parametrize("label_smoothing", [-0.1, 0.5])
def test_smoothing_beyond_half(label_smoothing):
    with pytest.raises(ValueError, match=r"in \[0, 0.5\). Received: label_smoothing="):
        gan(label_smoothing=label_smoothing)


@pytest.mark.parametrize("shift", [-1, 0.5])
def test_a_shift_that_is_no_number_of_pixels(shift):
    with pytest.raises(ValueError, match=f"0, 1, 2 ... pixels. Received: shift={shift}"):
        gan(shift=shift)
