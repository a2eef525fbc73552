"""The lean benchmark measures what it says, in fresh processes, and its page says what it found."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from benchmarks import lean, lean_networks, lean_step, peak
from benchmarks.lean_cases import BARS, CASES, MODES, TORCH, stock_of
from benchmarks.lean_page import page, ratio
from benchmarks.lean_worker import ENVIRONMENT, Worker, WorkerError

MB = 10**6
WAYS = [False, True] if peak.kernel_peaks() else [False]
TINY = ["--batch", "64", "--processes", "1", "--seconds", "0"]


def growths(script, count=2):
    """What `script` prints in a fresh process, as the benchmark measures: another's other threads
    allocate too, and it has gaps that small pieces fit in."""
    script = "import time\nfrom benchmarks.peak import growth\n" + script
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                           check=True, cwd=Path(peak.__file__).parent.parent,
                           env=os.environ | ENVIRONMENT).stdout.split()
    assert len(found) == count
    return [int(grown) / MB for grown in found]


@pytest.mark.parametrize("kernel", WAYS)
@pytest.mark.parametrize("size", [16, 100])
def test_a_known_allocation_is_the_growth(kernel, size):
    for grown in growths(f"""
def once():
    held = bytearray(b"\1") * {size * MB}
    time.sleep(0.02)  # as a step does, it leaves Python to the thread that looks
    del held

def one_after_the_other():
    once()
    once()

print(growth(once, kernel={kernel}), growth(one_after_the_other, kernel={kernel}))
"""):
        assert grown == pytest.approx(size, abs=2)


@pytest.mark.parametrize("kernel", WAYS)
def test_memory_that_was_free_counts_again(kernel):
    for grown in growths(f"""
def pieces():  # too large for Python's own pools, too small to be mapped one by one
    held = [bytes(4000) for _ in range(10_000)]
    time.sleep(0.02)
    return len(held)

for _ in range(2):
    print(growth(pieces, kernel={kernel}))
"""):
        assert grown == pytest.approx(40, abs=3)


def test_what_tensorflow_holds_free_is_given_back():
    kept, *given_back = growths(f"""
import tensorflow as tf
from benchmarks import lean_step

def two():
    return 2 * tf.ones((25, {MB}))

two()
print(growth(two))
for _ in range(2):
    lean_step.drain(2 * lean_step.memory()["peak"])
    print(growth(two))
""", count=3)
    assert kept < 2
    assert given_back == pytest.approx([200, 200], abs=3)


def test_every_network_is_there_in_both_frameworks():
    tree = ast.parse(Path(lean.__file__).with_name("lean_torch.py").read_text())
    twins = next(node.value for node in tree.body if isinstance(node, ast.Assign)
                 and node.targets[0].id == "NETWORKS")
    assert [key.value for key in twins.keys] == list(CASES) == list(lean_networks.NETWORKS)
    assert {name for bar in BARS.values() for name in bar} == set(CASES)
    assert {mode for first, _, second in BARS for mode in (first, second)} <= set(MODES)


@pytest.mark.parametrize("name, weights", [
    # Counted by hand: convolutions, then two a channel for each batch normalisation, then the end.
    ("vgg_bn", 9 * (3 * 32 + 4 * 32 * 32 + 32 * 64 + 3 * 64 * 64 + 64 * 128 + 3 * 128 * 128)
     + 2 * (5 * 32 + 4 * 64 + 3 * 128) + 129 * 10),
    ("resnet20", 9 * (3 * 16 + 6 * 16**2 + 16 * 32 + 5 * 32**2 + 32 * 64 + 5 * 64**2)
     + 16 * 32 + 32 * 64 + 2 * (7 * 16 + 7 * 32 + 7 * 64) + 65 * 10),
    ("segnet_basic", 49 * (3 * 64 + 7 * 64**2) + 2 * 8 * 64 + 65 * 11),
])
def test_networks_built_here_have_their_sizes(name, weights):
    shape, _, classes = CASES[name]
    model = lean_networks.NETWORKS[name](shape, classes)
    assert sum(tf.size(w.value).numpy() for w in model.trainable_variables) == weights
    pixels = shape[:2] if name == "segnet_basic" else ()
    assert model.output_shape == (None, *pixels, classes)


@pytest.mark.parametrize("name", ["lenet5", "segnet_basic"])
def test_a_step_moves_every_weight(name):
    shape, _, classes = CASES[name]
    model = lean_networks.NETWORKS[name]((32, 32, shape[2]), classes)
    before = [w.numpy() for w in model.trainable_variables]
    step = lean_step.training_step(model, model.trainable_variables, jit=False)
    images, labels = lean_step.data((32, 32, shape[2]), 4, classes, model.output_shape)
    losses = [float(step(images, labels)) for _ in range(5)]
    assert losses[-1] < losses[0]
    assert all((w.numpy() != b).any() for w, b in zip(model.trainable_variables, before))


def test_the_whole_path(tmp_path, capsys):
    file = tmp_path / "figures.json"
    assert lean.main(["lenet5", "--modes", "lean-budget-0.5", *TINY, "--json", str(file)]) == 0
    entry = json.loads(file.read_text())["lenet5"]
    assert list(entry["modes"]) == ["stock-graph", "lean-budget-0.5"] and entry["batch"] == 64
    for found in entry["modes"].values():
        assert found["ms"] > 0 and found["parameters"] == 61_706
        assert 1 * MB < found["resident"][0] < 100 * MB and found["allocated"][0] > MB
    assert ratio(entry["modes"], "lean-budget-0.5", "kept") < 0.6
    assert "| lenet5 64x28x28x1 | lean-budget-0.5 |" in capsys.readouterr().out


def spec(**settings):
    return {"network": "lenet5", "shape": (28, 28, 1), "batch": 8, "classes": 10, "limit": 60,
            "kept": False, **MODES["stock-graph"], **settings}


@pytest.mark.parametrize("module, settings, said", [
    ("benchmarks.nowhere", {}, "No module named benchmarks.nowhere"),
    ("benchmarks.lean_cases", {}, "exit code 0"),
    ("benchmarks.lean_step", {"shape": (8, 8, 3), "network": "simpleconvnet", "batch": -1}, "-1"),
    ("benchmarks.lean_step", {"shape": (64, 64, 3), "network": "densenet121", "limit": 1}, "time"),
])
def test_a_child_that_gives_up_says_why(module, settings, said):
    with pytest.raises(WorkerError, match=said):
        Worker(sys.executable, module, spec(**settings))


def test_a_child_that_dies_is_noticed():
    with Worker(sys.executable, "benchmarks.lean_step", spec()) as worker:
        worker()
        worker.process.kill()
        for _ in range(2):
            with pytest.raises(WorkerError, match="killed"):
                worker()


def test_a_failing_mode_leaves_the_others(monkeypatch, capsys):
    def broken(python, module, settings):
        raise WorkerError("it was killed (memory?)")

    monkeypatch.setattr(lean, "Worker", broken)
    assert lean.main(["lenet5", "--modes", "stock-graph", "lean-graph"]) == 1
    assert capsys.readouterr().out.count("failed: it was killed (memory?)") == 2


def test_wrong_usage_is_said_and_torch_may_be_absent(capsys, monkeypatch):
    with pytest.raises(SystemExit):
        lean.arguments(["lenet6"])
    assert "Received: lenet6" in capsys.readouterr().err
    monkeypatch.setattr(lean, "find_spec", lambda name: None)
    assert not set(lean.arguments([]).modes) & set(TORCH)
    assert set(lean.arguments(["--torch-python", "p"]).modes) == set(MODES)
    assert [stock_of(m) for m in ("lean-int8", "lean-xla", "torch-eager")] == [
        "stock-graph", "stock-xla", "stock-graph"]


def entry(**modes):
    return {"shape": [64, 64, 3], "batch": 64, "classes": 10, "machine": "M", "modes": modes}


def figures(ms, resident, kept, **more):
    return {"ms": ms, "ratio": ms / 100, "resident": resident, "kept": kept, **more}


def test_a_part_takes_its_place_among_what_there_was(tmp_path):
    file = tmp_path / "figures.json"
    stock, better = figures(100, [100 * MB], MB), figures(80, [60 * MB], MB)
    lean.merge(file, {"vgg_bn": entry(**{"stock-graph": stock, "lean-graph": stock})})
    lean.merge(file, {"lenet5": entry(**{"stock-graph": stock})})
    merged = lean.merge(file, {"vgg_bn": entry(**{"stock-graph": stock, "lean-int8": better})})
    assert list(merged) == ["lenet5", "vgg_bn"]
    assert list(merged["vgg_bn"]["modes"]) == ["stock-graph", "lean-graph", "lean-int8"]
    assert json.loads(file.read_text()) == merged
    other = {**entry(**{"stock-graph": stock}), "machine": "another"}
    assert list(lean.merge(file, {"vgg_bn": other})["vgg_bn"]["modes"]) == ["stock-graph"]


def test_the_page_says_what_is_missed_and_where_it_does_not_help():
    text = page({"vgg_bn": entry(**{
        "stock-graph": figures(100, [100 * MB, 120 * MB, 90 * MB], 10 * MB),
        "lean-graph": figures(70, [60 * MB], 5 * MB),
        "lean-bfloat16": figures(107, [40 * MB], 4 * MB),
        "lean-int8": {"error": "no | memory"},
        "torch-compiled": figures(140, [50 * MB], None, version="torch 9"),
    })})
    bars = next(line for line in text.splitlines() if line.startswith("| vgg_bn | "))
    assert bars == ("| vgg_bn | **0.60** <= 0.55 | 0.70 <= 0.80 | 0.40 <= 0.45 | - <= 0.20 | - | - "
                    "| 0.50 <= 0.85 | **1.20** <= 0.75 |")
    assert "| 100.0 (90-120) | 1.00 |" in text and "failed: no / memory" in text
    assert "| vgg_bn | lean-bfloat16 | 0.40 | 1.07 |" in text.split("does not help")[1]
    assert "lean-graph" not in text.split("does not help")[1]
    assert "Machine: M, torch 9" in text
