"""Mixed precision: layers that compute in 16 bits on weights of 32."""

from contextlib import contextmanager

import keras

from app.errors import unknown

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@contextmanager
def precision(policy):
    """Layers made in here compute by this policy."""
    if policy not in PRECISIONS:
        raise unknown("precision", policy, PRECISIONS)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def widen_outputs(model):
    """Makes the head compute in float32, from its last weights on: bfloat16 has three digits."""
    for output in model.outputs:
        _widen(output._keras_history.operation)


def _widen(layer):
    layer.dtype_policy = "float32"
    if not layer.weights:
        for before in keras.tree.flatten(layer.input):
            _widen(before._keras_history.operation)
