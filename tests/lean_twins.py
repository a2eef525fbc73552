"""A lean view beside its model: outputs, gradients, losses and state of one step of each."""

import contextlib
import functools
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

MODES = {"eager": lambda f: f, "graph": tf.function,
         "xla": functools.partial(tf.function, jit_compile=True)}
# Of the norm of a tensor, and of the whole gradient: the rounding of what is 0 but for it.
TOLERANCE = {"float64": (1e-10, 1e-13), "float32": (1e-5, 5e-6)}


@contextlib.contextmanager
def precision(dtype):
    """Layers made inside compute in this dtype or by this policy."""
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(before[0] if dtype.startswith("mixed") else dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])


def shaken(model, seed=0):
    """The model with all weights, statistics too, moved off their initial values.

    A gamma of 1 and a beta of 0 hide a backward pass that forgets them, and the zeros of a
    dead channel stand at the kink of the ReLU behind a beta of 0.
    """
    rng = np.random.default_rng(seed)
    for v in model.weights:
        value = v.numpy()
        if not np.issubdtype(value.dtype, np.floating) and v.dtype != "bfloat16":
            continue
        name = v.name.split("/")[-1]
        if "variance" in name or "gamma" in name or "scale" in name:
            value = rng.uniform(0.5, 1.5, value.shape)
        elif value.ndim < 2 or "bias" in name:
            value = rng.normal(0, 0.4, value.shape)
        v.assign(value)
    return model


def measured(model, inputs, variables_of=None, mode="graph", training=True):
    """Everything that a step makes, as arrays by name; the state is put back afterwards.

    The variables are those of `variables_of`, the model itself or the one that it is a view of.
    The upstream gradient of each output is random.
    """
    owner = variables_of or model
    weights = owner.trainable_variables
    floats = [i for i, x in enumerate(tf.nest.flatten(inputs)) if x.dtype.is_floating]

    def run(inputs):
        flat = tf.nest.flatten(inputs)
        with tf.GradientTape() as tape:
            tape.watch([flat[i] for i in floats])
            outputs = tf.nest.flatten(model(inputs, training=training))
            losses = [tf.convert_to_tensor(loss) for loss in model.losses]
            wide = tf.float64 if outputs[0].dtype == tf.float64 else tf.float32
            total = sum((tf.cast(loss, wide) for loss in losses), tf.zeros((), wide))
            for i, y in enumerate(outputs):
                dy = tf.random.stateless_normal(  # the same in all dtypes and modes
                    tf.shape(y), [7, i], alg="philox")
                total += tf.reduce_sum(tf.cast(y, wide) * tf.cast(dy, wide))
        gradients = tape.gradient(total, [flat[i] for i in floats] + [v.value for v in weights])
        return total, outputs, losses, gradients

    before = [(v, v.numpy()) for v in owner.variables]
    step = MODES[mode](run)
    if mode == "graph":  # as in `fit`, whose last batch may be smaller
        step = step.get_concrete_function(tf.nest.map_structure(_any_batch, inputs))
    total, outputs, losses, gradients = step(inputs)
    found = {f"output {i}": y for i, y in enumerate(outputs)}
    found |= {f"loss {i}": y for i, y in enumerate(sorted(float(loss) for loss in losses))}
    names = [f"input {i}" for i in floats] + [v.path for v in weights]
    for name, g, source in zip(names, gradients, [*floats, *weights], strict=True):
        # No gradient is not a gradient of 0: an optimizer's weight decay moves the latter.
        if g is not None or isinstance(source, int):
            g = tf.zeros(1, total.dtype) if g is None else tf.convert_to_tensor(g)
            found["gradient of " + name] = g
    found |= {"state " + v.path: v.numpy() for v in owner.non_trainable_variables}
    for v, value in before:
        v.assign(value)
    return {name: np.asarray(value) for name, value in found.items()}


def _any_batch(x):
    return tf.TensorSpec((None, *x.shape[1:]), x.dtype)


def differences(stock, lean, tolerance, rounding):
    """What of `lean` is not that of `stock`: lines with name, error and bound.

    A gradient's error is relative to its own norm. One that is 0 but for rounding (a bias
    before batch normalisation) has no norm to speak of: of it we allow what rounding leaves of
    the whole gradient.
    """
    lines = [f"{name}: only {'stock' if name in stock else 'lean'} has it"
             for name in sorted(stock.keys() ^ lean.keys())]
    gradients = [stock[n].ravel() for n in stock if n.startswith("gradient")]
    whole = _norm(np.concatenate(gradients)) if gradients else 0.0
    for name in sorted(stock.keys() & lean.keys()):
        a, b = stock[name], lean[name]
        floor = rounding * whole if name.startswith("gradient") else 0.0
        if a.dtype != b.dtype or (a.shape != b.shape and np.any(a) | np.any(b)):
            lines.append(f"{name}: {b.dtype}{b.shape} for {a.dtype}{a.shape}")
        elif not np.issubdtype(a.dtype, np.floating):
            lines += [f"{name}: not equal"] if np.any(a != b) else []
        elif a.shape == b.shape and not _norm(b - a) <= tolerance * _norm(a) + floor:
            lines.append(f"{name}: error {_norm(b - a):.1e}, norm {_norm(a):.1e}, whole "
                         f"{whole:.1e}, allowed {tolerance:.0e}")
    return lines


def _norm(x):
    return float(np.linalg.norm(np.asarray(x, "float64").ravel()))


def assert_same(model, view, inputs, mode="graph", *, stock_mode=None, training=True):
    """The view computes what the model computes, to the tolerance of the outputs' dtype."""
    inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
    stock = measured(model, inputs, mode=stock_mode or mode, training=training)
    with mock.patch.object(model, "call", side_effect=AssertionError("the view runs the model")):
        lean = measured(view, inputs, model, mode, training)
    wrong = differences(stock, lean, *TOLERANCE[str(stock["output 0"].dtype)])
    assert not wrong, "\n".join([f"{mode}, training={training}:", *wrong])
    return stock
