"""Small networks to see memory by; run as a script, it prints what steps of them take at most."""

import json
import sys
from pathlib import Path

import keras
import tensorflow as tf
from keras import layers
from lean_cases import image, unit

BATCH, SIZE, WIDTH = 4, 16, 8


def chain(units=5):
    x = image(3, SIZE)
    y = layers.Conv2D(2 * WIDTH, 3, padding="same")(x)
    for _ in range(units):
        y = unit(y, WIDTH)
    return keras.Model(x, y)


def trunk(blocks=6):
    """A stage of a residual network: a narrow convolution and a wide one in each block."""
    x = image(3, SIZE)
    y = layers.Conv2D(4 * WIDTH, 3, padding="same")(x)
    for _ in range(blocks):
        narrow = unit(y, WIDTH)
        wide = layers.BatchNormalization()(layers.Conv2D(4 * WIDTH, 1)(layers.ReLU()(narrow)))
        y = layers.ReLU()(layers.Add()([y, wide]))
    return keras.Model(x, layers.Conv2D(4 * WIDTH, 3, padding="same")(y))


def inputs_of(model):
    return tf.random.stateless_normal((BATCH, *model.input_shape[1:]), [0, 0])


def taken(view, x):
    """The most that TensorFlow's allocator gives out in a step."""
    from benchmarks import lean_step

    weights = [v.value for v in view.trainable_variables]

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(view(x, training=True) ** 2)
        return [tf.reduce_sum(g) for g in tape.gradient(loss, weights)]

    step(x)
    before = lean_step.memory()["current"]
    tf.config.experimental.reset_memory_stats(lean_step.DEVICE)
    step(x)
    return lean_step.memory()["peak"] - before


def peaks():
    """By network and way, in bytes."""
    from custom_layers.lean import lean

    networks = {"chain": chain(10), "trunk": trunk()}
    ways = {"stock": None, "exact": {}, "budget": {"budget": 0.25}, "int8": {"save": "int8"}}
    return {f"{name}, {way}": taken(
        model if settings is None else lean(model, **settings),
        tf.tile(inputs_of(model), [16, 1, 1, 1]))
        for name, model in networks.items() for way, settings in ways.items()}


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parent.parent))
    print(json.dumps(peaks()))
