"""One training step of a Keras network, stock or lean: a child of `python -m benchmarks.lean`."""

import keras
import tensorflow as tf

from benchmarks.lean_networks import NETWORKS
from benchmarks.lean_worker import serve
from custom_layers.lean import lean, memory_report

DEVICE = "CPU:0"


def training_step(network, variables, jit):
    """Forward, loss, gradients and the update of SGD in one function."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.SGD(1e-3)
    optimizer.build(variables)

    @tf.function(jit_compile=jit)
    def step(images, labels):
        with tf.GradientTape() as tape:
            value = loss(labels, network(images, training=True))
        optimizer.apply(tape.gradient(value, variables), variables)
        return value

    return step


def data(shape, batch, classes, output_shape):
    """The same random images and labels in every process; a label a pixel where logits are so."""
    images = tf.random.stateless_uniform((batch, *shape), (1, 2))
    labels = tf.random.stateless_uniform((batch, *output_shape[1:-1]), (3, 4), 0, classes, tf.int32)
    return images, labels


def wake(jit):
    """Starts threads and loads kernels with a network of a few hundred bytes, not to be counted."""
    tiny = keras.Sequential([
        keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3, padding="same"),
        keras.layers.BatchNormalization(), keras.layers.ReLU(), keras.layers.MaxPooling2D(),
        keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
    training_step(tiny, tiny.trainable_variables, jit)(*data((4, 4, 1), 2, 2, tiny.output_shape))


def prepare(spec):
    """What `serve` needs: the step traced and not yet run; under XLA run once, to be compiled.

    TensorFlow keeps memory that it has used, so resident memory grows in the first steps alone;
    under XLA the compiler's own memory hides it there, and what TensorFlow's allocator says counts.
    """
    keras.utils.set_random_seed(0)
    jit, settings = spec["jit"], spec["lean"]
    shape = tuple(spec["shape"])
    model = NETWORKS[spec["network"]](shape, spec["classes"])
    network = model if settings is None else lean(model, **settings)
    images, labels = data(shape, spec["batch"], spec["classes"], model.output_shape)
    step = training_step(network, model.trainable_variables, jit)
    step.get_concrete_function(images, labels)
    wake(jit)

    def run():
        return step(images, labels).numpy()

    if jit:
        run()

    def reset():
        tf.config.experimental.reset_memory_stats(DEVICE)
        facts["start"] = memory()["current"]

    def after():
        from benchmarks.__main__ import machine  # loads other benchmarks: after the measurement

        found = {"allocated": memory()["peak"] - facts.pop("start")}
        if jit:
            found["resident"] = None
        elif spec["kept"]:
            report = memory_report(network, batch_size=spec["batch"])
            found["kept"] = report.stock if settings is None else report.lean
        return {**found, "machine": machine()}

    def memory():
        return tf.config.experimental.get_memory_info(DEVICE)

    facts = {"parameters": sum(w.numpy().size for w in model.trainable_variables)}
    return run, facts, reset, after


if __name__ == "__main__":
    serve(prepare)
