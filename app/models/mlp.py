"""The multi-layer perceptron."""

import keras

from app.models.common import decay, start, weights
from custom_layers import BatchNormalization, Dense, Dropout, Flatten


def mlp(image_shape, classes, *, hidden=(50, 100), activation="relu", initializer="he_normal",
        batch_norm=False, dropout=0.0, weight_decay=0.0, statistics=None):
    """Dense layers with ReLU between them: 784-50-100-10 on 28x28x1, 45,360 parameters.

    With `batch_norm` each hidden layer is normalised before its activation.
    """
    layers = [*start(image_shape, statistics), Flatten(name="flatten")]
    initial = weights(weight_decay, initializer)
    for i, units in enumerate(hidden, 1):
        if batch_norm:
            layers += [Dense(units, use_bias=False, name=f"hidden{i}", **initial),
                       BatchNormalization(name=f"hidden{i}_bn"),
                       keras.layers.Activation(activation, name=f"hidden{i}_{activation}")]
        else:
            layers.append(Dense(units, activation, name=f"hidden{i}", **initial))
        if dropout:
            layers.append(Dropout(dropout, name=f"dropout{i}"))
    layers.append(Dense(classes, kernel_regularizer=decay(weight_decay), name="logits"))
    return keras.Sequential(layers, name="mlp")
