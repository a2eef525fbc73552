"""Lean training is lean: what is computed again is not kept, after every compiler's rewriting."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from lean_cases import image, unit
from lean_peaks import BATCH, SIZE, WIDTH, chain, inputs_of
from tensorflow.python.eager import context

from benchmarks.lean_worker import ENVIRONMENT
from benchmarks.memory import kept_bytes
from custom_layers.lean import lean

MAP = 4 * BATCH * SIZE * SIZE * WIDTH  # bytes of one map


def dense_block():
    """Each concatenation holds all maps before it: kept, they grow with the depth squared."""
    x = image(WIDTH, SIZE)
    y = x
    for _ in range(6):
        y = layers.Concatenate()([y, unit(y, WIDTH)])
    return keras.Model(x, y)


def dropouts():
    x = image(WIDTH, SIZE)
    y = x
    for seed in range(4):
        y = layers.Dropout(0.5, seed=seed)(layers.ReLU()(y))
        y = layers.Conv2D(WIDTH, 3, padding="same")(y)
    return keras.Model(x, y)


def pooled(width=24):
    """Convolutions of 216 products a result: to find the winners behind them is worth it."""
    x = image(width, SIZE)
    y = x
    for _ in range(3):
        y = layers.MaxPooling2D()(layers.ReLU()(layers.Conv2D(width, 3, padding="same")(y)))
    return keras.Model(x, y)


def swish():
    """What is kept is there at once: the sigmoid of it has to wait for the upstream gradient."""
    x = image(WIDTH, SIZE)
    y = x
    for _ in range(4):
        y = layers.Conv2D(WIDTH, 3, padding="same", activation="silu")(y)
    return keras.Model(x, y)


# By network: the bytes that may be kept for the bytes that stock keeps, the input aside.
RATIOS = {chain: 0.45, dense_block: 0.2, dropouts: 0.45, pooled: 0.45, swish: 0.6}


def size(t):
    return t.shape.num_elements() * t.dtype.size


@pytest.mark.parametrize("network", RATIOS)
def test_the_backward_reads_less(network):
    """In the concrete function of a step, as it is traced."""
    model = network()
    x = inputs_of(model)
    stock, kept = (kept_bytes(view, (x,)) - size(x) for view in (model, lean(model)))
    assert stock > MAP
    assert kept <= RATIOS[network] * stock, f"{kept:,} of {stock:,} bytes"


def optimised(view, x):
    """The graph of a step, forward and backward, after TensorFlow's optimisation; its names.

    Returns the graph and the name of the upstream gradient in it.
    """
    weights = [v.value for v in view.trainable_variables]

    @tf.function
    def step(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = view(x, training=True)
        return tape.gradient(y, [x, *weights], dy)

    dy = tf.ones(view(x[:1]).shape[1:])
    dy = tf.tile(dy[None], [BATCH] + [1] * dy.shape.rank)
    step.get_concrete_function(x, dy)
    with context.collect_graphs(optimized=True) as graphs:
        step(x, dy)
    (graph_def,) = [g for g in graphs if any(node.name == "dy" for node in g.node)]
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(graph_def, name="")
    return graph


def kept_in(graph):
    """Bytes of the tensors of a graph that are there before the upstream gradient and read after.

    What depends on the upstream gradient, by data or by control, is the backward pass: a link
    that runs again there is of it, one that was merged with its original is not.
    """
    after = set()
    for operation in graph.get_operations():  # imported in the order in which they can run
        before = [t.op for t in operation.inputs] + list(operation.control_inputs)
        if operation.name == "dy" or any(op in after for op in before):
            after.add(operation)
    found = {}
    for operation in after:
        for t in operation.inputs:
            if t.op not in after and t.dtype not in (tf.resource, tf.variant):
                if t.op.type not in ("ReadVariableOp", "Const"):
                    found[t.name] = size(t)
    return sum(found.values())


@pytest.mark.parametrize("network", RATIOS)
def test_grappler_does_not_merge_what_is_computed_again(network):
    model = network()
    x = inputs_of(model)
    stock, kept = (kept_in(optimised(view, x)) - size(x) for view in (model, lean(model)))
    assert stock > MAP
    assert kept <= RATIOS[network] * stock, f"{kept:,} of {stock:,} bytes"


def test_the_measure_sees_a_merged_recomputation():
    """The same links run again without a control dependency are merged, and their results kept."""
    @tf.custom_gradient
    def square_sums(x):
        def link(t):
            return tf.tanh(tf.sqrt(t + 3) + 2)

        return tf.square(link(x)), lambda dy: dy * 2 * link(x)

    class Merged(layers.Layer):
        def call(self, x):
            return square_sums(x)

    x = image(WIDTH, SIZE)
    model = keras.Model(x, Merged()(x))
    y = inputs_of(model)
    assert kept_bytes(model, (y,)) == MAP  # as it is traced, x alone is kept
    graph = optimised(model, y)
    kept = {t.op.type for op in graph.get_operations() for t in op.inputs
            if t.op.type in ("Tanh", "Relu", "Sqrt")}
    assert sum(op.type == "Tanh" for op in graph.get_operations()) == 1 and "Tanh" in kept


STEP = """
import json, sys
sys.path.insert(0, "tests")
import keras, tensorflow as tf
from benchmarks.peak import growth
from custom_layers.lean import lean
from lean_cases import image, layers, unit

kind, jit = sys.argv[1], sys.argv[2] == "xla"
x = image(8, 64)
y = x
for _ in range(8):
    y = unit(y, 8)
model = keras.Model(x, layers.GlobalAveragePooling2D()(y))
view = lean(model) if kind == "lean" else model
weights = [v.value for v in model.trainable_variables]
images = tf.random.stateless_normal((64, 64, 64, 8), [0, 0])

@tf.function(jit_compile=jit)
def step(x):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(view(x, training=True) ** 2)
    return [tf.reduce_sum(g) for g in tape.gradient(loss, weights)]

step.get_concrete_function(images)
print(json.dumps(growth(lambda: [t.numpy() for t in step(images)])))
"""


def child(*arguments, **environment):
    """What a fresh process prints. Its kernels are oneDNN's on every processor: the others take
    memory to work in beside which that of small networks does not show."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=Path(__file__).parent.parent, check=True,
        capture_output=True, text=True, timeout=300,
        env={**os.environ, **ENVIRONMENT, **environment})
    return json.loads(done.stdout)


def run(kind, mode, **environment):
    """What a fresh process grows by in a step."""
    return child("-c", STEP, kind, mode, **environment)


def test_the_process_grows_less():
    """By its resident memory: 8 units, a map of which takes 8 MB."""
    stock, kept = run("stock", "graph"), run("lean", "graph")
    assert stock > 16 * 2**23
    assert kept <= 0.75 * stock, f"{kept / 1e6:.0f} of {stock / 1e6:.0f} MB"


def test_xla_does_not_merge_what_is_computed_again(tmp_path):
    """By what XLA itself reports that the compiled step takes, inputs and results with it."""
    taken = {}
    for kind in ("stock", "lean"):
        folder = tmp_path / kind
        run(kind, "xla", XLA_FLAGS=f"--xla_dump_to={folder} --xla_dump_hlo_as_text")
        reports = [p.read_text() for p in folder.glob("*memory-usage-report.txt")]
        taken[kind] = max(int(re.match(r"Total bytes used: (\d+)", r)[1]) for r in reports)
    assert taken["stock"] > 16 * 2**23
    assert taken["lean"] <= 0.75 * taken["stock"], taken


def test_int8_keeps_a_quarter_and_bfloat16_half():
    model = chain()
    x = inputs_of(model)
    exact, half, quarter = (kept_bytes(lean(model, save=save), (x,)) - size(x)
                            for save in ("float32", "bfloat16", "int8"))
    assert half <= 0.52 * exact, (exact, half)
    assert quarter <= 0.27 * exact, (exact, quarter)


def test_a_smaller_budget_keeps_less_and_computes_the_same():
    model = chain(8)
    x = inputs_of(model)
    stock, *kept = (kept_bytes(view, (x,)) - size(x) for view in (
        model, *(lean(model, budget=budget) for budget in (1.0, 0.3, 0.2))))
    assert kept[0] > kept[1] > kept[2]
    for budget, found in zip((1.0, 0.3, 0.2), kept):
        assert found <= 1.02 * budget * stock, f"{found:,} of {stock:,} bytes"
    expected = np.asarray(model(x))
    np.testing.assert_allclose(lean(model, budget=0.2)(x), expected, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def peaks():
    return child("tests/lean_peaks.py")


def test_int8_makes_the_draws_of_a_map_when_it_is_there(peaks):
    """They hang on a seed alone: all layers' at once would take as much as what is not kept."""
    assert peaks["chain, int8"] <= 0.7 * peaks["chain, exact"]


@pytest.mark.parametrize("way", ["exact", "budget", "int8"])
def test_a_trunk_is_not_held_at_once(peaks, way):
    """What its stage's end needs of every block is handed on, and computed again block by block."""
    assert peaks[f"trunk, {way}"] <= 0.6 * peaks["trunk, stock"]
