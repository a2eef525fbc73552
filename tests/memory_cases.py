"""What the tests of the memory report share: small models, bytes, reports of given numbers."""

import math

import keras

from custom_layers.lean_report import MemoryReport, memory_report

B = 4


def floats(*shape):
    """Bytes of a batch of float32."""
    return 4 * B * math.prod(shape)


def model_of(*chain, shape=(16, 16, 3)):
    return keras.Sequential([keras.Input(shape), *chain], name="chain")


def stock_of(model, **arguments):
    """{layer: {what: bytes}} that stock Keras keeps, the model's outputs being a result."""
    report = memory_report(model, batch_size=B, **arguments)
    return {row.layer: row.stock for row in report.rows if row.stock}


def report_of(rows=(), batch_size=10, stock_peak=0, lean_peak=0, weights=0, gradients=0, batch=0):
    return MemoryReport("net", batch_size, (8,), "float32", None, list(rows), stock_peak,
                        lean_peak, batch, weights, gradients, [], 0)
