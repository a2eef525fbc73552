"""`handgrad layers` and `handgrad check`: what is listed is what runs, the examples are right."""

import inspect
import io
import json
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console
from test_architecture import reached

import custom_layers
from app import check_records, layer_docs, layer_listing, number_grid
from app.cli import app
from app.console import execute
from app.worked_example import CASES, worked_example
from custom_layers.examples import LAYERS, LOSSES, Example
from custom_layers.gradient_report import Failure, Report, Row

NAMES = layer_docs.names()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def handgrad(folder, capsys):
    """Runs a command in it; returns its exit code and the two outputs. No run is needed here."""
    def call(*arguments):
        capsys.readouterr()
        return execute(app, arguments), *capsys.readouterr()

    return call


@pytest.fixture
def ask(handgrad):
    """The rows of `handgrad layers ... --json`."""
    def call(*names):
        code, out, err = handgrad("layers", *names, "--json")
        assert code == 0, err
        return {row["name"]: row for row in json.loads(out)["layers"]}

    return call


def calls_of(op, function):
    """What an op's tensors were in each of its calls, while `function` runs eagerly."""
    calls = []

    def look(frame, event, _):
        # By name: a decorator may stand between the op and the function that it is made of.
        if event == "call" and frame.f_code.co_name == op.__name__ and (
                frame.f_globals["__name__"] == op.__module__):
            calls.append(dict(frame.f_locals))

    sys.setprofile(look)
    try:
        function()
    finally:
        sys.setprofile(None)
    return calls


# What the docstrings say


def test_all_layers_and_losses_are_listed():
    assert set(NAMES) == {e.name for e in LAYERS + LOSSES}
    assert set(CASES) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_op_says_what_it_computes_and_who_says_so(name):
    row = layer_listing.row(name, {})
    for part in ("summary", "forward", "backward", "shapes", "source"):
        assert row[part] and row[part].strip(), part
    stock = getattr(keras.layers, name, None)
    assert row["replaces"] == (f"keras.layers.{name}" if stock else None)
    assert stock is None or issubclass(getattr(custom_layers, name), stock)


@pytest.mark.parametrize("name", NAMES)
def test_no_word_of_the_docstring_is_lost(name):
    op = layer_docs.op_of(name)
    parts = layer_docs.sections(op)
    said = sorted(inspect.cleandoc(op.__doc__).split())
    labels = [f"{part.capitalize()}:" for part in parts if part not in ("summary", "notes")]
    assert said == sorted([*" ".join(parts.values()).split(), *labels])


@pytest.mark.parametrize("name", NAMES)
def test_the_op_listed_is_the_op_that_runs_on_these_tensors(name):
    op = layer_docs.op_of(name)
    example = {}
    calls = calls_of(op, lambda: example.update(worked_example(name)))
    assert calls
    shown = {**example["inputs"], **example["weights"]}
    tensors, _ = layer_docs.symbols(op)
    if tensors[0] == "x_1":
        received = dict(zip(tensors, calls[-1]["xs"]))
    else:
        received = {t: calls[-1][t] for t in shown}
    # The values of the last call are those of a difference: one element is off by the step.
    for symbol, values in shown.items():
        assert np.shape(values) == received[symbol].shape, symbol
        np.testing.assert_allclose(received[symbol], values, atol=1e-4)


# The examples


@pytest.mark.parametrize("name", NAMES)
def test_examples_show_every_gradient_and_it_is_that_of_the_differences(name):
    example = worked_example(name)
    assert set(example["gradients"]) == set(example["differences"])
    assert example["largest_difference"] <= 1e-6
    (upstream,) = example["upstream"].values()
    assert np.any(np.abs(upstream) != 1) and np.all(np.round(upstream) == upstream)
    weights = {f"d{symbol}" for symbol in example["weights"]}
    assert weights < set(example["gradients"]) or name == "Embedding"  # whose input is integers
    for arrays in (example["outputs"], example["gradients"], example["differences"]):
        for symbol, values in arrays.items():
            assert np.all(np.isfinite(values)), symbol
    if name != "Step":
        assert all(np.any(np.abs(g) > 1e-3) for g in example["gradients"].values())


def test_the_example_of_conv2d_by_hand():
    example = worked_example("Conv2D")
    x, w, b, y, dy, dx, dw, db = (
        np.squeeze(example[part][symbol]) for part, symbol in (
            ("inputs", "x"), ("weights", "w"), ("weights", "b"), ("outputs", "y"),
            ("upstream", "dy"), ("gradients", "dx"), ("gradients", "dw"), ("gradients", "db"))
    )
    assert x.shape == (3, 3) and w.shape == (2, 2)
    expected = np.zeros((3, 3))
    for p, q in np.ndindex(2, 2):
        assert y[p, q] == b + np.sum(x[p:p + 2, q:q + 2] * w)
        assert dw[p, q] == np.sum(x[p:p + 2, q:q + 2] * dy)
        expected[p:p + 2, q:q + 2] += dy[p, q] * w
    np.testing.assert_array_equal(dx, expected)
    assert db == np.sum(dy) != 0


def test_the_differences_show_a_wrong_gradient(monkeypatch):
    @custom_layers.differentiable
    def tanh(x):
        y = tf.tanh(x)
        return y, lambda dy: dy * (1 - y)

    tanh.__doc__ = custom_layers.activations.tanh.__doc__
    monkeypatch.setattr("custom_layers.activations.tanh", tanh)
    assert worked_example("Tanh")["largest_difference"] > 0.1


# How it looks


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_wider_than_the_terminal_or_lost_in_it(name, width):
    row = {**layer_listing.row(name, {}), "example": worked_example(name)}
    file = io.StringIO()
    Console(width=width, file=file).print(layer_listing._InFull(row), markup=False)
    text = file.getvalue()
    Console(width=width, file=file).print(layer_listing._in_short(row), markup=False)
    assert all(len(line) <= width for line in file.getvalue().splitlines())
    for part in ("summary", "forward", "backward", "shapes", "source"):
        assert "".join(row[part].split()) in "".join(text.replace(f"  {part} ", "").split())
    assert text.count("[ ") >= sum(len(row["example"][part]) for part in (
        "inputs", "weights", "outputs", "upstream", "gradients", "differences"))


def test_a_terminal_may_be_of_any_width():
    row = {**layer_listing.row("Conv2D", {}), "example": worked_example("Conv2D")}
    for width in (1, 20):
        file = io.StringIO()
        Console(width=width, file=file).print(layer_listing._InFull(row), markup=False)
        assert len(file.getvalue()) > 1000


def test_grids():
    a = np.array([[[1.0], [-20]], [[3], [4]]])[None]
    lines = number_grid.beside(number_grid.grids({"a": a, "vector": [0.5, -1e-12]}), 80)
    assert lines == ["a             vector",
                     "[   1 -20 ]   [ 0.5 0.0 ]",
                     "[   3   4 ]"]
    assert number_grid.beside(number_grid.grids({"a": a, "vector": [0.5, 0]}), 20) == [
        "a", "[   1 -20 ]", "[   3   4 ]", "vector", "[ 0.5 0.0 ]"]
    maps = number_grid.beside(number_grid.grids({"m": np.arange(8).reshape(2, 2, 2)}), 80)
    assert maps == ["m[...,0]   m[...,1]", "[ 0 2 ]    [ 1 3 ]", "[ 4 6 ]    [ 5 7 ]"]


# The commands


def test_the_list(ask, handgrad):
    rows = ask()
    assert list(rows) == NAMES
    assert all("example" not in row and row["checked"] is None for row in rows.values())
    code, out, _ = handgrad("layers")
    assert code == 0 and out.count("\n  checked   -\n") == len(NAMES)
    assert out.splitlines()[-2].startswith(f"{len(NAMES)} layers and losses: ")


def test_layers_are_found_in_any_case(ask, handgrad):
    rows = ask("conv2d", "LSTM", "CONV2D")
    assert list(rows) == ["Conv2D", "LSTM"]
    assert rows["Conv2D"]["example"]["call"] == "Conv2D(filters=1, kernel_size=2)"
    code, out, err = handgrad("layers", "relu")
    assert code == 0 and "ReLU()" in out and "by central differences, the same" in out


@pytest.mark.parametrize("command", ["layers", "check"])
def test_unknown_layers_are_one_line(handgrad, command):
    code, out, err = handgrad(command, "dense", "conv2")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "Unknown layer 'conv2'. Did you mean 'Conv2D'?" in err


def test_the_last_check_is_listed(ask, handgrad, monkeypatch):
    code, out, _ = handgrad("check", "flatten", "Tanh", "--json")
    first, second = json.loads(out)["layers"]
    assert code == 0 and (first["layer"], second["layer"]) == ("Flatten", "Tanh")
    rows = ask()
    checked = rows["Flatten"]["checked"]
    assert checked["ok"] and checked["changed"] == []
    assert checked["error"] == first["error"] and set(checked["error"]) == {"eager", "graph", "xla"}
    assert checked["versions"] == {"tensorflow": tf.__version__, "keras": keras.__version__}
    assert rows["Dense"]["checked"] is None
    code, out, _ = handgrad("layers")
    assert out.count("checked   ok, largest error ") == 2 and "2 ok." in out.replace("\n", " ")

    source = check_records._source
    monkeypatch.setattr(check_records, "_source", lambda module: source(module) + (
        "# changed" if module == "custom_layers.reshaping" else ""))
    rows = ask("flatten", "tanh")
    assert rows["Flatten"]["checked"]["changed"] == ["code"]
    assert rows["Tanh"]["checked"]["changed"] == []
    monkeypatch.setattr(tf, "__version__", "9.9")
    assert ask("flatten")["Flatten"]["checked"]["changed"] == ["code", "tensorflow"]
    _, out, _ = handgrad("layers", "Flatten")
    assert "checked   code and tensorflow changed since (was ok on " in out


def test_a_failed_check_is_listed_and_its_numbers_are_json(ask, handgrad, monkeypatch):
    report = Report("Tanh", 1e-6, rows=[Row("x", (2,), "eager", float("nan"), 1, 0)],
                    failures=[Failure("x", "nan", "eager", "the gradient is nan")])
    monkeypatch.setattr(Example, "check", lambda self: report)
    code, out, err = handgrad("check", "tanh", "--json")
    (row,) = json.loads(out, parse_constant=pytest.fail)["layers"]
    assert code == 1 and row["error"] == {"eager": None} and not row["ok"]
    assert "the gradient is nan" in err
    assert not ask()["Tanh"]["checked"]["ok"]
    assert "checked   FAILED on " in handgrad("layers", "tanh")[1]
    assert "1 FAILED" in handgrad("layers")[1]
    assert handgrad("check", "tanh")[1].count("FAILED") == 1


def test_every_layer_keeps_its_own_result(folder):
    result = {"ok": True, "error": {"eager": 1e-9}}
    check_records.keep("Tanh", result, "a")
    check_records.keep("Dense", {**result, "ok": False}, "b")
    check_records.keep("Tanh", result, "c")
    assert check_records.last_check("Tanh", check_records.records())["fingerprint"] == "c"
    assert list(check_records.records()) == ["Tanh", "Dense"]
    assert [path.name for path in (folder / "runs").iterdir()] == ["checks.json"]


@pytest.mark.parametrize("text", ["{", "[]", '{"Tanh": {"ok": true}}', '{"Tanh": 1}'])
def test_unreadable_results_are_one_line(folder, handgrad, text):
    (folder / "runs").mkdir()
    (folder / "runs" / "checks.json").write_text(text)
    for command in ("layers", "check"):
        code, out, err = handgrad(command, "tanh")
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert "runs/checks.json" in err and "Traceback" not in err


def test_a_folder_that_cannot_be_written_to_does_not_fail_a_check(folder, handgrad):
    (folder / "runs").write_text("a file")
    code, out, err = handgrad("check", "flatten")
    assert code == 0 and "Flatten" in out
    assert "The result is not kept: " in err and "runs" in err


@pytest.mark.parametrize("name", NAMES)
def test_the_fingerprint_is_of_all_that_a_layer_imports(name):
    module = getattr(custom_layers, name).__module__
    needed = {m for m in reached(module) if m.startswith("custom_layers.")} | {module}
    assert check_records._reached(module) == needed
