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
    """Makes a model's last layers compute in float32: bfloat16's logits have three digits."""
    for output in model.outputs:
        output._keras_history.operation.dtype_policy = "float32"
