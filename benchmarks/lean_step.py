"""One training step of a Keras network, stock or lean: a child of `python -m benchmarks.lean`."""

import ctypes
import mmap

import keras
import numpy as np
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


def memory():
    """What TensorFlow's allocator has given out, now and at most."""
    return tf.config.experimental.get_memory_info(DEVICE)


def drain(size, piece=2**20):
    """Gives up to `size` bytes that TensorFlow's allocator holds free back to the system.

    It never does so itself. So the free memory is taken in pieces, whose pages are given back
    before the allocator gets the pieces again: the next step finds its memory as if it were new.
    """
    held = [tf.raw_ops.Empty(shape=[piece], dtype=tf.uint8) for _ in range(size // piece)]
    for tensor in held:
        begin = np.asarray(memoryview(tensor)).ctypes.data
        first, end = -(-begin // mmap.PAGESIZE), (begin + piece) // mmap.PAGESIZE
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first * mmap.PAGESIZE),
                                  ctypes.c_size_t((end - first) * mmap.PAGESIZE),
                                  mmap.MADV_DONTNEED)


def prepare(spec):
    """What `serve` needs: the step traced and not yet run; under XLA run once, to be compiled.

    TensorFlow keeps memory that it has used, so resident memory grows in a process's first steps
    alone. Under XLA the compiler's own memory hides that: there it is given back after the first.
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
        drain(2 * memory()["peak"])

    def reset():
        tf.config.experimental.reset_memory_stats(DEVICE)
        facts["start"] = memory()["current"]

    def after():
        from benchmarks.__main__ import machine  # loads other benchmarks: after the measurement

        found = {"allocated": memory()["peak"] - facts.pop("start")}
        if spec["kept"]:
            report = memory_report(network, batch_size=spec["batch"])
            found["kept"] = report.stock if settings is None else report.lean
        return {**found, "machine": machine()}

    facts = {"parameters": sum(w.numpy().size for w in model.trainable_variables)}
    return run, facts, reset, after


if __name__ == "__main__":
    serve(prepare)
