"""Images given as JSON numbers, read without making an object of each number.

`json_tensors` reads every form and says what is wrong with a request; this reads the most frequent
one alone, `{"instances": ...}` or `{"inputs": ...}` of one tensor of floats, five times as fast,
and gives up where anything is unlike it.
"""

from functools import lru_cache
from math import prod

import numpy as np
import simdjson
import tensorflow as tf

_FLOATS = tf.float32, tf.float64
_OF_NUMBERS = b"0123456789+-.eE \t\r\n"
_HEADS = {f'{{"{key}":'.encode().translate(None, _OF_NUMBERS): key
          for key in ("instances", "inputs")}


def read(body, inputs):
    """({name: array}, whether in row form) as `json_tensors.tensors` gives them, or None.

    What is left of the text without its numbers shows whether lists are of equal lengths.

    Args:
        body: of a request, bytes.
        inputs: {name: `signatures.Tensor`} of the signature.
    """
    if len(inputs) != 1:
        return None
    ((name, tensor),) = inputs.items()
    if tensor.dtype not in _FLOATS or not tensor.batched or None in tensor.shape[1:]:
        return None
    frame = body.translate(None, _OF_NUMBERS)
    start = frame.find(b":") + 1
    key, rows, row = _HEADS.get(frame[:start]), frame[start:], _lists(tensor.shape[1:])
    count = (len(rows) - 2) // (len(row) + 1)
    if key is None or count < 1 or rows != b"[" + b",".join([row] * count) + b"]}":
        return None
    try:
        numbers = simdjson.Parser().parse(body)[key].as_buffer(of_type="d")
    except (ValueError, TypeError, RuntimeError, KeyError):
        return None
    values = np.frombuffer(numbers)
    if values.size != count * prod(tensor.shape[1:]):
        return None
    with np.errstate(over="ignore"):  # what is too large is infinite
        values = values.astype(tensor.dtype.as_numpy_dtype)
    return {name: values.reshape(-1, *tensor.shape[1:])}, key == "instances"


@lru_cache
def _lists(shape):
    """The brackets and commas of nested lists of a shape."""
    inside = b""
    for size in reversed(shape):
        inside = b"[" + b",".join([inside] * size) + b"]"
    return inside
