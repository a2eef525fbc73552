"""Arrays in JSON: {"shape": [...], "b64": float32, little endian, in C order}."""

import base64
import math

import numpy as np

# What is sent of one layer, in numbers: a megabyte.
LARGEST = 2**18


def pack(values):
    """
    >>> pack(np.ones((1, 2)))
    {'shape': [1, 2], 'b64': 'AACAPwAAgD8='}
    """
    values = np.ascontiguousarray(values, "<f4")
    return {"shape": list(values.shape), "b64": base64.b64encode(values).decode()}


def unpack(packed):
    """The array of a packed one."""
    return np.frombuffer(base64.b64decode(packed["b64"]), "<f4").reshape(packed["shape"])


def pack_maps(values):
    """`values` (..., channels), of which as many channels are kept as `LARGEST` has room for."""
    values = np.asarray(values)
    room = max(1, LARGEST // max(1, math.prod(values.shape[:-1])))
    return pack(values[..., :room])
