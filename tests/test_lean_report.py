"""The memory report: what it says, as text and as data, and what it refuses."""

import json
import math

import keras
import numpy as np
import pytest
from keras import layers
from memory_cases import B, floats, model_of, report_of

from custom_layers.byte_sizes import memory_bytes, shown
from custom_layers.lean import lean
from custom_layers.lean_report import memory_report


# What it says


def test_the_model_stays_as_it_is():
    model = model_of(layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU(),
                     layers.Dropout(0.5), layers.Flatten(), layers.Dense(2))
    before = [np.array(v) for v in model.variables]
    assert len(before) == 9  # with the dropout's seed
    memory_report(model, B)
    for value, variable in zip(before, model.variables):
        np.testing.assert_array_equal(value, variable)
    model.compile("sgd", "mse")
    model.fit(np.ones((2, 16, 16, 3), "float32"), np.zeros((2, 2)), verbose=0)


def test_a_second_number_is_the_batch_and_bytes_grow_with_it():
    model = model_of(layers.Conv2D(4, 3, activation="tanh"), layers.Flatten(), layers.Dense(2))
    small, large = memory_report(model, B), memory_report(model, 3 * B)
    assert (small.batch_size, large.batch_size) == (B, 3 * B)
    assert (3 * small.stock, 3 * small.lean) == (large.stock, large.lean)
    assert memory_report(model).batch_size == 32


def test_a_lean_model_is_reported_with_its_own_settings():
    model = model_of(layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU(),
                     layers.Conv2D(4, 3))
    view = lean(model, save="int8")
    assert memory_report(view, B) == memory_report(model, B, save="int8")
    assert memory_report(view, B).save == "int8"
    with pytest.raises(ValueError, match="are those of the lean model.*save='bfloat16'"):
        memory_report(view, B, save="bfloat16")


def test_as_data_and_as_a_table():
    report = memory_report(model_of(
        layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="norm"),
        layers.ReLU(name="relu"), layers.Conv2D(4, 3), shape=(16, 16, 5)), batch_size=B)
    data = json.loads(json.dumps(report.as_dict()))
    assert data["stock"] == report.stock and data["ratio"] == report.ratio
    assert [row["layer"] for row in data["rows"]] == ["conv", "norm", "relu"]
    assert data["rows"][0]["stock"] == {"convolution output": floats(14, 14, 4)}
    assert data["largest_batch"]["8 GB"]["lean"] == report.largest_batch("8 GB")
    lines = str(report).splitlines()
    assert lines[0] == "Kept for the backward pass by chain, batch 4 of (16, 16, 5); lean: float32"
    assert lines[1].split() == ("layer type stock lean what stock keeps what lean keeps").split()
    assert lines[2].split() == "conv Conv2D 12.5 kB 12.5 kB convolution output convolution output"\
        .split()
    assert lines[4].split() == "relu ReLU 12.5 kB - output".split()
    assert lines[5].startswith("  total") and lines[5].endswith(f"{report.ratio:.0%} of stock")
    assert "Layers that keep nothing: 1" in lines[6]
    assert lines[7].startswith("Largest batch in 8 GB with Adam: ")
    assert repr(report) == str(report)


def test_the_largest_batch_is_that_of_the_arithmetic():
    report = report_of(stock_peak=900, lean_peak=400, batch=100, weights=500, gradients=300)
    assert report.largest_batch(11_400, lean=False, spare=0) == 100  # 11,400 - 500 - 3 * 300
    assert report.largest_batch(11_399, lean=False, spare=0) == 99
    assert report.largest_batch(11_400, spare=0) == 200
    assert report.largest_batch(11_400, slots=0, spare=0) == 212
    assert report.largest_batch(11_400, spare=0.5) == (5_700 - 1_400) // 50
    assert report.largest_batch("1 kB") == 0


# What it refuses


def test_sizes_in_words():
    assert [memory_bytes(m) for m in ("8 GB", "8gb", "1.5 GiB", " 512 MiB ", "100 B", 7, 1e6)] == [
        8 * 10**9, 8 * 10**9, 3 * 2**29, 2**29, 100, 7, 10**6]
    assert [shown(n) for n in (0, 32, 4_500, 12_345_678, 3e9)] == [
        "-", "32 B", "4.5 kB", "12.3 MB", "3.0 GB"]


@pytest.mark.parametrize("memory", [
    "8", "GB", "8 XB", "-8 GB", "8 GB and more", "", 0, -1, None, True, math.nan, math.inf, [8]])
def test_wrong_memories(memory):
    with pytest.raises(ValueError, match=r"`memory` must be a number of bytes.*Received: memory="):
        report_of(stock_peak=9, lean_peak=9).largest_batch(memory)


@pytest.mark.parametrize("shape", [
    (16, 16), (16, 16, 4), (16, 16, None), [(16, 16, 3)] * 2, "16", (16, 16, 0), (16, 16.0, 3),
    {"image": (16, 16, 3)}, [], [16, (16, 3)]])
def test_wrong_shapes(shape):
    model = keras.Sequential([keras.Input((16, 16, 3), name="x"), layers.Conv2D(2, 3)])
    with pytest.raises(ValueError, match=r"`input_shape` must .*Received: input_shape="):
        memory_report(model, shape)


def test_open_shapes_have_to_be_given():
    model = model_of(layers.Conv2D(4, 3), shape=(None, None, 3))
    with pytest.raises(ValueError, match=r"must fix .* \(None, None, None, 3\).*=None"):
        memory_report(model)


def test_wrong_batches():
    model = model_of(layers.Dense(2), shape=(5,))
    for batch_size in (0, -1, 2.5, True, "8", None):
        with pytest.raises(ValueError, match="`batch_size` must be a whole number, at least 1.*"):
            memory_report(model, batch_size=batch_size)
    with pytest.raises(ValueError, match="The batch's size is given twice.*16, batch_size=8"):
        memory_report(model, 16, 8)
    fixed = keras.Model(x := keras.Input(batch_shape=(8, 5)), layers.Dense(2)(x))
    assert memory_report(fixed, 8).batch_size == 8
    with pytest.raises(ValueError, match=r"\(8, 5\) with the batch.*batch_size=9"):
        memory_report(fixed, 9)


def test_models_that_cannot_be_reported():
    class Own(keras.Model):
        def call(self, x):
            return x

    for model in (keras.Sequential([layers.Dense(2)]), Own(), layers.Dense(2), None):
        with pytest.raises(ValueError, match="`model` must be .*Received: "):
            memory_report(model)
    frozen = model_of(layers.Dense(2), shape=(5,))
    frozen.trainable = False
    with pytest.raises(ValueError, match="has no trainable weights.*chain"):
        memory_report(frozen)
