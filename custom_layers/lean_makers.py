"""The table of which layer is made of which links, and how to enter one."""

import keras

import custom_layers as ours

MAKERS = {}


def kinds(*names):
    """Registers a maker for the layers of these names, Keras's and ours.

    `maker(layer, training)` returns the kinds of the links, in order, or None where the layer
    has to run as stock.
    """
    def register(maker):
        for name in names:
            for module in (keras.layers, ours):
                if hasattr(module, name):
                    MAKERS[getattr(module, name)] = maker
        return maker

    return register
