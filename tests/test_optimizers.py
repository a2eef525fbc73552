"""Rprop."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_layers.optimizers import Rprop

MODES = pytest.mark.parametrize("mode", ["eager", "graph", "xla"])


def naive_rprop(w, gradient, steps, first=0.1, eta_minus=0.5, eta_plus=1.2, low=1e-6, high=50.0):
    """iRprop- of Igel and Huesken, weight by weight; the weights after each step."""
    d, last, path = [first] * len(w), [0.0] * len(w), []
    w = list(w)
    for _ in range(steps):
        g = list(gradient(np.array(w)))
        for i in range(len(w)):
            if g[i] * last[i] > 0:
                d[i] = min(d[i] * eta_plus, high)
            elif g[i] * last[i] < 0:
                d[i] = max(d[i] * eta_minus, low)
                g[i] = 0.0
            w[i] -= np.sign(g[i]) * d[i]
            last[i] = g[i]
        path.append(list(w))
    return np.array(path)


def path_of(optimizer, w, loss, steps, mode="eager"):
    """The weights after each step."""
    variable = keras.Variable(w, dtype="float64")
    optimizer.build([variable])

    def step():
        with tf.GradientTape() as tape:
            value = loss(variable.value)
        optimizer.apply([tape.gradient(value, variable.value)], [variable])

    run = step if mode == "eager" else tf.function(step, jit_compile=mode == "xla")
    path = []
    for _ in range(steps):
        run()
        path.append(variable.numpy())
    return np.array(path)


def ill_conditioned(w):
    """Curvatures from 1 to 10,000: for the slopes, a long narrow valley."""
    return 0.5 * tf.reduce_sum(tf.constant([1.0, 100.0, 10000.0], w.dtype) * w * w)


@MODES
@pytest.mark.parametrize("settings", [
    {}, {"learning_rate": 1.0, "eta_minus": 0.3, "eta_plus": 1.5},
    {"learning_rate": 0.02, "min_step": 0.01, "max_step": 0.05},
], ids=str)
def test_rprop_is_its_formula(settings, mode):
    w = [3.0, -2.0, 0.7]
    names = {"learning_rate": "first", "min_step": "low", "max_step": "high"}
    expected = naive_rprop(w, lambda w: np.array([1.0, 100.0, 10000.0]) * w, 60,
                           **{names.get(k, k): v for k, v in settings.items()})
    path = path_of(Rprop(**settings), w, ill_conditioned, 60, mode)
    np.testing.assert_allclose(path, expected, rtol=1e-6, atol=1e-9)


def test_only_signs_matter():
    """However small: the product of two gradients of 1e-30 is 0 in float32."""
    paths = [path_of(Rprop(), [3.0, -2.0, 0.7], lambda w, k=k: k * ill_conditioned(w), 20)
             for k in (1.0, 1e-30, 1e30)]
    np.testing.assert_array_equal(paths[0], paths[1])
    np.testing.assert_array_equal(paths[0], paths[2])


def test_it_needs_fewer_steps_than_gradient_descent():
    """SGD at the best of many rates, with and without momentum."""
    start, good = [3.0, -2.0, 0.7], 1e-3

    def steps_of(optimizer):
        path = path_of(optimizer, start, ill_conditioned, 400, "graph")
        reached = [float(ill_conditioned(tf.constant(w))) < good for w in path]
        return 401 if not reached[-1] else 400 - reached[::-1].index(False) + 1

    rprop = steps_of(Rprop())
    sgd = [steps_of(keras.optimizers.SGD(rate, momentum))
           for rate in (1e-3, 3e-4, 1.9e-4, 1e-4, 3e-5) for momentum in (0.0, 0.9)]
    assert rprop < 150 and rprop < min(sgd), (rprop, sgd)


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_a_model_trains_and_a_file_keeps_the_steps(jit, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 5)).astype("float32")
    t = (x @ rng.normal(size=(5, 1))).astype("float32")
    model = keras.Sequential([
        keras.Input((5,)), keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(1),
    ])
    model.compile(Rprop(0.01), "mse", jit_compile=jit)
    losses = model.fit(x, t, batch_size=64, epochs=60, verbose=0).history["loss"]
    assert losses[-1] < 0.02 * losses[0]

    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert type(again.optimizer) is Rprop
    assert again.optimizer.get_config() == model.optimizer.get_config()
    for ours, loaded in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, loaded)
    for m in (model, again):
        m.fit(x, t, batch_size=64, epochs=3, verbose=0)
    for ours, loaded in zip(model.weights, again.weights):
        np.testing.assert_allclose(ours, loaded, rtol=1e-6)


def test_the_slots_are_steps_and_signs():
    optimizer, w = Rprop(0.2), keras.Variable([1.0, -1.0, 2.0])
    optimizer.build([w])
    optimizer.apply([tf.constant([3.0, -0.1, 0.0])], [w])
    np.testing.assert_allclose(w, [0.8, -0.8, 2.0])
    step, sign = optimizer.variables[2:]
    np.testing.assert_allclose(step, [0.2, 0.2, 0.2])
    np.testing.assert_array_equal(sign, [1, -1, 0])
    optimizer.apply([tf.constant([3.0, 0.1, -5.0])], [w])
    np.testing.assert_allclose(w, [0.56, -0.8, 2.2], rtol=1e-6)
    np.testing.assert_allclose(step, [0.24, 0.1, 0.2], rtol=1e-6)
    np.testing.assert_array_equal(sign, [1, 0, -1])


def test_rows_without_a_gradient_stay():
    """Sparse gradients of an embedding."""
    model = keras.Sequential([keras.Input((2,), dtype="int32"), keras.layers.Embedding(4, 3)])
    before = model.weights[0].numpy()
    model.compile(Rprop(), "mse")
    model.fit(np.array([[0, 2]]), np.ones((1, 2, 3)), epochs=2, verbose=0)
    moved = np.abs(model.weights[0].numpy() - before).max(1) > 0
    np.testing.assert_array_equal(moved, [True, False, True, False])


def test_keras_extras_work():
    """Mixed precision's loss scale, accumulated gradients and averaged weights."""
    x, t = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")
    for optimizer in (keras.optimizers.LossScaleOptimizer(Rprop()),
                      Rprop(gradient_accumulation_steps=2), Rprop(use_ema=True)):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile(optimizer, "mse")
        losses = model.fit(x, t, epochs=30, batch_size=8, verbose=0).history["loss"]
        assert losses[-1] < 0.05 * losses[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": 0}, "learning_rate=0"),
        ({"learning_rate": 100.0}, "min_step=1e-06, learning_rate=100.0, max_step=50.0"),
        ({"min_step": 0.0}, "0 < min_step"),
        ({"eta_minus": 1.0}, "Received: eta_minus=1.0, eta_plus=1.2"),
        ({"eta_plus": 0.9}, "Received: eta_minus=0.5, eta_plus=0.9"),
        ({"learning_rate": keras.optimizers.schedules.CosineDecay(0.1, 10)}, "must be a number"),
    ],
)
def test_it_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        Rprop(**arguments)


def test_setting_the_learning_rate_is_refused():
    with pytest.raises(ValueError, match="cannot be set afterwards. Received: learning_rate=0.5"):
        Rprop().learning_rate = 0.5
