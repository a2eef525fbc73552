"""Perceptrons: the logic gates, XOR by two layers, and the one-layer classifier of images."""

import keras
import numpy as np

from app.errors import unknown
from app.models.common import decay, start
from custom_layers import Dense, Flatten, Step

GATES = {"AND": ((0.5, 0.5), -0.7), "NAND": ((-0.5, -0.5), 0.7), "OR": ((0.5, 0.5), -0.2)}


def perceptron(image_shape, classes, *, weight_decay=0.0, statistics=None):
    """One layer of weights: a linear classifier, 784-10 on 28x28x1, 7,850 parameters."""
    logits = Dense(classes, kernel_regularizer=decay(weight_decay), name="logits")
    layers = [*start(image_shape, statistics), Flatten(name="flatten"), logits]
    return keras.Sequential(layers, name="perceptron")


def gate(name):
    """The perceptron of a gate, y = step(w1 x1 + w2 x2 + b), with weights that compute it.

    Source: Saitoh, Deep Learning from Scratch, 2016, chapter 2.
    """
    if name not in GATES:
        raise unknown("gate", name, list(GATES))
    model = _chain([1], name.lower())
    weights, bias = GATES[name]
    model.get_layer("layer1").set_weights([np.transpose([weights]), np.array([bias])])
    return model


def xor():
    """XOR = AND(NAND(x), OR(x)): two layers. One line cannot separate its values."""
    model = _chain([2, 1], "xor")
    weights, biases = zip(GATES["NAND"], GATES["OR"])
    model.get_layer("layer1").set_weights([np.transpose(weights), np.array(biases)])
    weights, bias = GATES["AND"]
    model.get_layer("layer2").set_weights([np.transpose([weights]), np.array([bias])])
    return model


def _chain(units, name):
    layers = [keras.Input((2,), name="bits")]
    for i, n in enumerate(units, 1):
        layers += [Dense(n, name=f"layer{i}"), Step(name=f"step{i}")]
    return keras.Sequential(layers, name=name)
