"""Mixed precision: layers that compute in 16 bits on weights of 32."""

from contextlib import contextmanager

import keras

from app.errors import unknown
from app.transfer import last_layers

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
    for layer in last_layers(model):
        layer.dtype_policy = "float32"
