"""The multi-layer perceptron."""

import keras

from app.models.common import decay, start
from custom_layers import Dense, Dropout, Flatten


def mlp(image_shape, classes, *, hidden=(50, 100), dropout=0.0, weight_decay=0.0, statistics=None):
    """Dense layers with ReLU between them: 784-50-100-10 on 28x28x1, 45,360 parameters."""
    layers = [*start(image_shape, statistics), Flatten(name="flatten")]
    for i, units in enumerate(hidden, 1):
        layers.append(
            Dense(units, "relu", kernel_initializer="he_normal",
                  kernel_regularizer=decay(weight_decay), name=f"hidden{i}")
        )
        if dropout:
            layers.append(Dropout(dropout, name=f"dropout{i}"))
    layers.append(Dense(classes, kernel_regularizer=decay(weight_decay), name="logits"))
    return keras.Sequential(layers, name="mlp")
