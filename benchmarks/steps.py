"""A whole training step, as `fit` runs it: our networks beside the same of stock layers."""

import keras
import tensorflow as tf

import custom_layers
from app.models import build
from benchmarks.timing import columns, compare

NETWORKS, BATCH = ("lenet5", "simpleconvnet"), 128
OURS = {getattr(custom_layers, name) for name in custom_layers.__all__}


def stock_layer(layer):
    """The stock layer of the same name and settings."""
    config = layer.get_config()
    if type(layer) not in OURS:
        return type(layer).from_config(config)
    for setting in ("algorithm", "strict", "scale_at"):
        config.pop(setting, None)
    padding = config.get("padding")
    if padding is not None and not isinstance(padding, str):
        inside = all(p == 0 for side in padding for p in side)
        config["padding"] = "valid" if inside else "same"  # LeNet-5 pads 5x5 kernels by two
    return getattr(keras.layers, type(layer).__name__).from_config(config)


def train_step(model, loss, jit):
    """A function that runs one step of `fit` on one batch, again and again."""
    model.compile("sgd", loss, jit_compile=jit)
    images = tf.random.stateless_uniform((BATCH, *model.input_shape[1:]), (1, 2))
    labels = tf.random.stateless_uniform((BATCH,), (3, 4), 0, 10, tf.int32)
    batches = iter(tf.data.Dataset.from_tensors((images, labels)).repeat())
    model.make_train_function()
    return lambda: model.train_function(batches)["loss"].numpy()


def rows():
    """One row a network and mode: names, then milliseconds and the ratio."""
    for name in NETWORKS:
        for mode, jit in (("graph", False), ("XLA", True)):
            model = build(name, (28, 28, 1), 10)
            stock = keras.models.clone_model(model, clone_function=stock_layer)
            stock_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            times = compare({
                "ours": train_step(model, custom_layers.SoftmaxCrossEntropy(), jit),
                "stock": train_step(stock, stock_loss, jit),
            }, rounds=201, seconds=6.0)
            yield name, f"batch {BATCH}", mode, *columns(times)
