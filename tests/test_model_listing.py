"""`handgrad models`, and the memory report as a picture."""

import json

import numpy as np
import pytest
from memory_cases import report_of

from app import drawing, memory_figure
from app.cli import app
from app.console import execute
from app.models import MODELS
from app.tasks import TASKS, find_task
from custom_layers.byte_sizes import shown
from custom_layers.lean_report import LayerMemory


# As a picture


def test_bars_are_the_rows():
    rows = [LayerMemory("a", "Conv2D", {"x": 3000}, {"x": 1000}),
            LayerMemory("b", "ReLU", {"y": 2000}, {}), LayerMemory("c", "ReLU", {"z": 9}, {})]
    (axes,) = memory_figure.draw_memory(report_of(rows)).axes
    stock, leaner = axes.containers
    assert [bar.get_width() for bar in stock] == [3, 2]
    assert [bar.get_width() for bar in leaner] == [1, 0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert "left out: 1 layers" in axes.get_xlabel() and axes.get_xlabel().startswith("kB kept")


def test_many_layers_are_sums_over_depth_and_what_is_kept(tmp_path):
    rows = [LayerMemory(f"layer_{i}", "Conv2D", {f"w{i % 3}": 2_000_000}, {"w0": 500_000 + i})
            for i in range(200)]
    report = report_of(rows)
    figure = memory_figure.draw_memory(report)
    above, below = figure.axes
    stock, leaner = above.lines
    assert list(stock.get_ydata()) == list(np.arange(201) * 2.0)
    assert leaner.get_ydata()[-1] == report.lean / 1e6
    assert [label.get_text() for label in below.get_yticklabels()] == ["w0", "w1", "w2"]
    title = figure.get_suptitle()
    assert "stock Keras 400.0 MB" in title and f"lean (float32) {shown(report.lean)}" in title
    drawing.save(figure, tmp_path / "memory.png")
    assert (tmp_path / "memory.png").stat().st_size > 10_000


def test_nothing_kept_is_drawn_too():
    assert memory_figure.draw_memory(report_of()).get_suptitle().endswith(
        "stock Keras -, lean (float32) -, 100%")


# The command


@pytest.fixture
def handgrad(tmp_path, monkeypatch, capsys):
    """Runs `handgrad models ...`; returns its exit code and the two outputs."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        capsys.readouterr()
        return execute(app, ["models", *arguments]), *capsys.readouterr()

    return call


def test_the_command_prints_the_table(handgrad):
    code, out, err = handgrad("deepconvnet", "--memory")
    assert code == 0 and err == ""
    assert out.startswith("Kept for the backward pass by deepconvnet, batch 32 of (28, 28, 1)")
    code, out, _ = handgrad("deepconvnet", "--memory", "--batch-size", "8", "--image-size", "32",
                            "--json")
    data = json.loads(out)
    assert code == 0 and data["batch_size"] == 8 and data["input_shape"] == [32, 32, 1]
    assert data["lean"] < data["stock"] == sum(
        sum(row["stock"].values()) for row in data["rows"])


def test_all_models_are_listed_with_their_counts(handgrad):
    code, out, _ = handgrad("--json")
    rows = {row["name"]: row for row in json.loads(out)["models"]}
    tasks = {name: task for task in TASKS for name in find_task(task).networks}
    assert code == 0 and {name: row["task"] for name, row in rows.items()} == tasks
    assert list(MODELS) == [name for name in rows if tasks[name] == "classify"]
    assert rows["segnet-basic"]["parameters"] == 1_416_587
    assert rows["vgg-d"] == {
        "name": "vgg-d", "task": "classify", "parameters": 138_357_544, "input": [224, 224, 3],
        "classes": 1000, "what": MODELS["vgg-d"].what}


def test_one_model_is_shown_layer_by_layer(handgrad):
    code, out, _ = handgrad("lenet5-1998", "--json")
    (row,) = json.loads(out)["models"]
    layers = {layer["layer"]: layer for layer in row["layers"]}
    assert code == 0 and row["multiply_adds"] == sum(
        layer["multiply_adds"] for layer in row["layers"])
    assert layers["C3"] == {
        "layer": "C3", "type": "SparseConv2D", "output": [10, 10, 16], "parameters": 1_516,
        "multiply_adds": 150_000, "connections": 151_600, "receptive_field": 14,
        "stock_bytes": 6_400, "lean_bytes": 6_400}
    code, out, _ = handgrad("resnet20", "--image-size", "64")
    assert code == 0 and "for one image of 64x64x3, 10 classes" in " ".join(out.split())
    assert "269,722" in out


@pytest.mark.parametrize("name", ["segnet-basic", "faster-rcnn", "nic", "dcgan"])
def test_networks_of_several_tensors_or_parts_are_shown(handgrad, name):
    code, out, err = handgrad(name, "--json")
    (row,) = json.loads(out)["models"]
    assert code == 0 and err == "" and row["multiply_adds"] > 0
    assert row["parameters"] == sum(layer["parameters"] for layer in row["layers"])


def test_memory_of_two_networks(handgrad):
    code, out, _ = handgrad("dcgan", "--memory", "--json")
    assert code == 0 and [part["lean"] < part["stock"]
                          for part in json.loads(out)["networks"]] == [True, True]


@pytest.mark.parametrize("arguments, message", [
    (["--memory"], "--memory needs the name of a network"),
    (["lenet", "--memory"], "Unknown model 'lenet'. Did you mean 'lenet5'?"),
    (["lenet"], "Unknown model 'lenet'. Did you mean 'lenet5'?"),
    (["lenet5", "--memory", "--batch-size", "0"], "--batch-size must be at least 1. Received: 0"),
    (["vgg-a", "--image-size", "16"], "VGG A needs images of at least 32x32 pixels"),
    (["lenet5", "--memory", "--image-size", "0"], "--image-size must be at least 1. Received: 0"),
])
def test_wrong_requests_are_one_line(handgrad, arguments, message):
    code, out, err = handgrad(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
