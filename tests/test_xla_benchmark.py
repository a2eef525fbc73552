"""The steps that benchmarks/xla.py writes are those of `fit`; JAX runs them without TensorFlow."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import lean_cases, lean_networks, xla, xla_step
from custom_layers.lean import lean

ROOT = Path(__file__).parent.parent


def tiny(shape, classes):
    """What has weights, statistics, a seed; something to compute again and winners to keep."""
    inputs = keras.Input(shape)
    x = keras.layers.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.1, 0.2, 0.3])(inputs)
    for _ in range(2):
        x = keras.layers.Conv2D(6, 3, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Dropout(0.3)(keras.layers.MaxPooling2D()(x))
    return keras.Model(inputs, keras.layers.Dense(classes)(keras.layers.Flatten()(x)))


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setitem(lean_networks.NETWORKS, "tiny", tiny)
    monkeypatch.setitem(lean_cases.CASES, "tiny", ((8, 8, 3), 4, 5))


@pytest.fixture
def steps(known, tmp_path):
    return tmp_path, xla_step.write(tmp_path, "tiny")


def prepared(view=lambda model: model):
    """A network, and the arguments of its step, flat and as the step takes them."""
    model = tiny((8, 8, 3), 5)
    network = view(model)
    flat = [xla.filled(a) for a in xla_step.recipes(model, network, 4, 5)]
    return model, network, flat, xla_step.structured(network, flat)


@pytest.mark.parametrize("view", [lambda model: model, lean], ids=["stock", "lean"])
def test_the_step_is_that_of_fit(view):
    model, network, flat, arguments = prepared(view)
    step = tf.function(xla_step.training_step(network), jit_compile=True)
    loss, weights, state = step(*arguments)
    variables = (*network.trainable_variables, *network.non_trainable_variables)
    for variable, value in zip(variables, flat[2:], strict=True):
        variable.assign(value)
    model.compile(keras.optimizers.SGD(xla.LEARNING_RATE),
                  keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=True)
    np.testing.assert_allclose(loss, model.train_on_batch(*flat[:2]), rtol=1e-5)
    for variable, new, old in zip(variables, (*weights, *state), flat[2:], strict=True):
        assert not np.array_equal(new, old), variable.path
        np.testing.assert_allclose(new, variable.numpy(), rtol=1e-5, atol=1e-6)


def test_what_is_written_says_how_to_run_it(steps):
    folder, facts = steps
    assert json.loads((folder / "tiny-float32-4.step.json").read_text()) == facts
    expected = {"loss", "weights", "state"}
    assert set(facts["expected"]) == expected and all(facts["expected"][n] > 0 for n in expected)
    model = tiny((8, 8, 3), 5)
    shapes = [v.shape for v in (*model.trainable_variables, *model.non_trainable_variables)]
    for variant in ("stock", "lean"):
        entry = facts["variants"][variant]
        assert entry["module"] == f"tiny-float32-4-{variant}.mlir" and entry["trainable"] == 8
        given = [tuple(a["shape"]) for a in entry["arguments"]]
        constants = given[2 + len(shapes):]  # those of the normalisation
        assert given == [(4, 8, 8, 3), (4,), *shapes, *constants] and constants
        assert len((folder / entry["module"]).read_bytes()) > 1000


def test_variants_share_their_arguments(steps):
    stock, other = ({a["name"]: a for a in entry["arguments"]}
                    for entry in steps[1]["variants"].values())
    assert stock == other


@pytest.mark.parametrize("view", [lambda model: model, lean], ids=["stock", "lean"])
def test_the_module_for_a_gpu_is_that_for_a_cpu(view):
    _, network, _, arguments = prepared(view)
    step = tf.function(xla_step.training_step(network), jit_compile=True)
    module = xla_step.modules(step, arguments)
    assert len(module()) > 1000 and module("CPU") == module("GPU") == module()


@pytest.mark.parametrize("fill, low, high", [
    ({"constant": 1.5}, 1.5, 1.5), ({"values": list(range(6))}, 0, 5), ({"integers": 4}, 0, 3),
    ({"uniform": [2, 3]}, 2, 3), ({"normal": [10, 0.1]}, 9, 11),
])
def test_arguments_are_made_by_rule(fill, low, high):
    argument = {"seed": 7, "shape": [3, 2], "dtype": "float32", **fill}
    value = xla.filled(argument)
    assert value.shape == (3, 2) and value.dtype == "float32"
    assert low <= value.min() and value.max() <= high
    np.testing.assert_array_equal(value, xla.filled(argument))


def test_normal_numbers_are_the_same_everywhere():
    value = xla.filled({"seed": 2, "shape": [2], "dtype": "float32", "normal": [0, 1]})
    np.testing.assert_allclose(value, [-0.41675785, -0.05626683], rtol=1e-6)


FACTS = {"network": "n", "precision": "float32", "batch": 1,
         "expected": {"loss": 2.0, "weights": 1.0, "state": 0.0}}


@pytest.mark.parametrize("variant, wrong, difference, message", [
    ("stock", {"loss": 2.1}, 0.0, "Received: loss=2.1"),
    ("stock", {"loss": float("nan")}, 0.0, "Received: loss=nan"),
    ("stock", {"weights": 0.9}, 0.0, "Received: weights=0.9"),
    ("stock", {"state": 0.1}, 0.0, "Received: state=0.1"),
    ("lean", {}, 0.06, "Received: difference=0.06"),
    ("lean", {}, float("nan"), "Received: difference=nan"),
    ("lean-int8", {"loss": 2.2}, 0.0, "Received: loss=2.2"),
])
def test_another_step_is_refused(variant, wrong, difference, message):
    right = FACTS["expected"]
    xla.check(FACTS, variant, right, 0.04, 1e-2)
    with pytest.raises(ValueError, match=message):
        xla.check(FACTS, variant, {**right, **wrong}, difference, 1e-2)


def test_a_folder_without_steps_is_named(steps):
    folder, facts = steps
    assert xla.stored(folder) == xla.stored(folder, ["tiny"]) == [facts]
    with pytest.raises(FileNotFoundError, match="Received: folder='.*', networks=.'other'."):
        xla.stored(folder, ["other"])


def test_an_unknown_network_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        xla.main(["write", str(tmp_path), "resnet"])
    assert "Received: resnet" in capsys.readouterr().err


def without_tensorflow(*command):
    """Runs the benchmark where TensorFlow and Keras cannot be imported."""
    code = ("import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None\n"
            f"from benchmarks.xla import main; main({list(map(str, command))})")
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_running_needs_no_tensorflow():
    done = without_tensorflow("run", "--help")
    assert done.returncode == 0 and "FOLDER" in done.stdout.upper(), done.stderr


def test_jax_runs_both(steps):
    pytest.importorskip("jax")
    folder, facts = steps
    file = folder / "found.json"
    done = without_tensorflow("run", folder, "tiny", "--seconds", "0", "--json", file)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("| tiny")]
    (found,) = json.loads(file.read_text())["steps"]
    assert found["variant"] == "lean" and f"{found['loss']:.5f}" in line
    for name, value in facts["expected"].items():
        assert found[name] == pytest.approx(value, rel=1e-4)
    assert found["difference"] < 1e-4
    ours, stock = found["memory"], found["stock_memory"]
    assert ours["argument"] == stock["argument"] >= sum(
        4 * np.prod(a["shape"]) for a in facts["variants"]["stock"]["arguments"])
    assert ours["temp"] < stock["temp"] and ours["peak"] < stock["peak"]
    assert found["ms"] > 0 and found["stock_ms"] > 0 and found["time"] > 0


def test_jax_refuses_another_step(steps):
    pytest.importorskip("jax")
    folder, facts = steps
    facts["expected"]["loss"] += 0.1
    (folder / "tiny-float32-4.step.json").write_text(json.dumps(facts))
    file = folder / "found.json"
    done = without_tensorflow("run", folder, "--seconds", "0", "--json", file)
    assert done.returncode == 1 and "Received: loss=" in done.stderr
    found = json.loads(file.read_text())
    assert not found["steps"] and "Received: loss=" in found["errors"][0]


def test_a_page_is_of_one_machine(tmp_path):
    """What `run --json` keeps of several networks, as one table."""
    memory = {"temp": 5e5, "peak": 1e6}
    step = {"network": "tiny", "precision": "float32", "batch": 4, "variant": "lean", "ms": 1.5,
            "stock_ms": 2.0, "time": 0.75, "memory": memory,
            "stock_memory": {"temp": 1e6, "peak": 2e6}, "loss": 0.5, "difference": 1e-6}
    for name, machine in (("a", "one"), ("b", "one"), ("c", "another")):
        kept = {"machine": machine, "steps": [step], "errors": ["no room"] * (name == "b")}
        (tmp_path / name).write_text(json.dumps(kept))
    found = xla.page([tmp_path / "a", tmp_path / "b"])
    assert "Machine: one" in found and "Not measured: no room" in found
    row = ("| tiny float32 | 4 | lean | 1.50 | 2.00 | 0.75 | 0.5 | 1.0 | 0.50 | 1.0 | 2.0 | 0.50 | "
           "0.50000 | 1e-06 |")
    assert found.splitlines().count(row) == 2
    with pytest.raises(ValueError, match=r"one machine. Received: \['another', 'one'\]"):
        xla.page([tmp_path / "a", tmp_path / "c"])
