"""Random functional graphs of Keras layers, for the tests of lean training."""

import keras
import numpy as np
from keras import layers
from lean_twins import shaken
from random_links import ACTIVATIONS, KINDS

import custom_layers

BATCH = 3


def random_graph(seed, steps=None):
    """(model, inputs) of a seed.

    The kind `seed % len(KINDS)` comes first, so that a run over many seeds has every kind. Fewer
    `steps` than the seed's own give a smaller graph with the same beginning: to find a fault.
    """
    return Graph(seed).model(steps)


class Graph:
    """A model in the making: its random choices and the tensors made so far."""

    def __init__(self, seed, depth=0):
        self.seed, self.depth = seed, depth
        self.rng = np.random.default_rng((seed, depth))
        self.inputs, self.made, self.kinds = [], [], []

    def chance(self, p):
        return bool(self.rng.random() < p)

    def pick(self, *options):
        return options[self.rng.integers(len(options))]

    def size(self, low=1, high=4):
        return int(self.rng.integers(low, high + 1))

    def layer(self, name, **arguments):
        """A layer of keras.layers, or of ours where there is one by the name."""
        ours = hasattr(custom_layers, name) and self.chance(0.15)
        return getattr(custom_layers if ours else layers, name)(**arguments)

    def activation(self, channels):
        name = self.pick(*ACTIVATIONS)
        return "tanh" if channels == 1 and "softmax" in name else name

    def weighty(self, name, **arguments):
        """A layer with a kernel: perhaps activated, regularised, frozen, without a bias."""
        if self.chance(0.4):
            arguments["activation"] = self.activation(arguments.get("filters", 2))
        if self.chance(0.15):
            arguments["activity_regularizer"] = keras.regularizers.L2(0.01)
        if self.chance(0.2):
            kernel = "depthwise_" if "Depthwise" in name or "Separable" in name else "kernel_"
            arguments[kernel + "regularizer"] = keras.regularizers.L1L2(0.01, 0.02)
        layer = self.layer(name, use_bias=self.chance(0.7), **arguments)
        layer.trainable = self.chance(0.9)
        return layer

    def input(self, *shape, dtype=None):
        self.inputs.append(keras.Input(shape, dtype=dtype))
        return self.inputs[-1]

    def step(self, x, kind=None):
        """A random link behind x; x itself where none of those tried fits."""
        for _ in range(20):
            name = kind or self.pick(*KINDS)
            ranks, smallest, make = KINDS[name]
            fits = len(x.shape) in ranks and all(n >= smallest for n in x.shape[1:-1])
            if fits and np.prod(x.shape[1:]) <= 1200:
                y = make(self, x)
                self.kinds.append(name)
                self.made.append(y)
                return y
            if kind:
                break
        return x

    def like(self, x):
        """A link behind x that has x's shape and no value in common with it."""
        y = self.step(x, self.pick("BatchNormalization", "Activation", "LayerNormalization"))
        if len(x.shape) == 4 and self.chance(0.7):
            return self.weighty("Conv2D", filters=x.shape[-1], kernel_size=3, padding="same")(y)
        return layers.Dense(x.shape[-1])(y)

    def start(self, kind):
        ranks = KINDS[kind][0] if kind else (2, 3, 4, 5)
        rank = 4 if 4 in ranks and self.chance(0.75) else self.pick(*ranks)
        if rank == 3 and self.chance(0.3):
            ids = self.input(self.size(5, 7), dtype="int32")
            return layers.Embedding(9, 4)(ids)
        shapes = {2: (self.size(4, 9),), 3: (self.size(5, 9), self.size(2, 4)),
                  4: (self.size(6, 9), self.size(6, 9), self.size(2, 4)), 5: (4, 5, 4, 2)}
        return self.input(*shapes[rank])

    def model(self, steps=None):
        keras.utils.set_random_seed(self.seed)
        kind = list(KINDS)[self.seed % len(KINDS)]
        x = self.step(self.start(kind), kind)
        for _ in range(self.size(3, 8) if steps is None else steps - 1):
            x = self.step(x)
            if self.chance(0.1):
                x = self.pick(*self.made)
        if self.chance(0.15):  # another input, joined late
            x = layers.Dense(3)(layers.Flatten()(x))
            x = layers.Concatenate()([x, self.input(4)])
        outputs = [x]
        if self.chance(0.5):
            outputs = [layers.Dense(3, activation=self.pick(None, "softmax"))(
                x if len(x.shape) == 2 else layers.Flatten()(x))]
        if self.chance(0.4):  # a tensor from the middle is an output too
            outputs.append(self.pick(*self.made))
        if len(outputs) == 1:
            outputs = outputs[0]
        elif self.chance(0.3):
            outputs = {f"output_{i}": y for i, y in enumerate(outputs)}
        model = keras.Model(self.inputs, outputs)
        inputs = [self.values(i) for i in self.inputs]
        return shaken(model, self.seed), inputs if len(inputs) > 1 else inputs[0]

    def values(self, x):
        shape = (BATCH, *x.shape[1:])
        if "int" in x.dtype:
            return self.rng.integers(0, 9, shape, "int32")
        return self.rng.normal(size=shape).astype(x.dtype)
