"""DCGAN's two networks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from app.generation.dcgan import discriminator, generator


def trainable(model):
    return sum(weight.shape.num_elements() for weight in model.trainable_variables)


def test_the_published_counts():
    assert trainable(generator((64, 64, 3))) == 3_576_704
    assert trainable(discriminator((64, 64, 3))) == 2_765_568


@pytest.mark.parametrize("shape", [(64, 64, 3), (32, 32, 1), (28, 28, 1), (16, 16, 1), (8, 8, 1),
                                   (32, 48, 3), (40, 40, 1)])
def test_images_of_these_shapes_are_drawn_and_judged(shape):
    images = generator(shape, noise=7, width=1 / 16)(tf.random.normal((3, 7)))
    assert images.shape == (3, *shape) and images.dtype == tf.float32
    assert 0 <= tf.reduce_min(images) < tf.reduce_max(images) <= 1
    assert discriminator(shape, width=1 / 16)(images).shape == (3, 1)


@pytest.mark.parametrize("make", [generator, discriminator])
@pytest.mark.parametrize("shape, received", [
    ((30, 30, 1), "30x30"), ((7, 7, 1), "7x7"), ((16, 64, 1), "16x64"), ((3, 3, 1), "3x3")])
def test_other_sizes_are_refused(make, shape, received):
    with pytest.raises(ValueError, match=f"doubled one or more times.*Received: {received}. "):
        make(shape)


def test_weights_start_with_a_deviation_of_2_percent():
    for model in (generator((32, 32, 1)), discriminator((32, 32, 1))):
        for layer in model.layers:
            if hasattr(layer, "kernel"):
                values = layer.kernel.numpy()
                assert values.std() == pytest.approx(0.02, rel=0.1), layer.name
                assert abs(values.mean()) < 0.003 and layer.bias is None


def test_every_weight_gets_a_gradient():
    draws, judges = generator((16, 16, 1), width=0.125), discriminator((16, 16, 1), width=0.125)
    weights = draws.trainable_variables + judges.trainable_variables
    with tf.GradientTape() as tape:
        logits = judges(draws(tf.random.normal((4, 100)), training=True), training=True)
        loss = tf.reduce_sum(logits * [[1.0], [-2.0], [3.0], [1.0]])
    for weight, gradient in zip(weights, tape.gradient(loss, weights)):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0, weight.path


def test_a_generator_alone_is_saved_and_loaded(tmp_path):
    model = generator((8, 8, 1), noise=5, width=0.125)
    model.save(tmp_path / "generator.keras")
    noise = tf.random.normal((3, 5))
    np.testing.assert_array_equal(
        keras.models.load_model(tmp_path / "generator.keras")(noise), model(noise))
