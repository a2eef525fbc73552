"""Writes training steps as StableHLO, with what it takes to run and check them elsewhere."""

import json
from importlib.metadata import version
from pathlib import Path

import keras
import tensorflow as tf

from benchmarks.lean_cases import CASES
from benchmarks.lean_networks import NETWORKS
from benchmarks.xla import LEARNING_RATE, STOCK, VARIANTS, changes, file_name, filled
from custom_layers.lean import lean

FEW = 8  # values that are written as they are: the state of a seed generator


def training_step(network):
    """A pure function: forward, loss, gradients, SGD's update, new state.

    `step(images, labels, weights, state)` returns `(loss, weights, state)`: nothing is a variable
    in it, so that all that it reads and writes are arguments and results of the compiled module.
    """
    loss_function = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def step(images, labels, weights, state):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            logits, state = network.stateless_call(weights, state, images, training=True)
            loss = loss_function(labels, logits)
        gradients = tape.gradient(loss, weights)
        return loss, [w - LEARNING_RATE * g for w, g in zip(weights, gradients)], state

    return step


def recipe(variable, seed):
    """How an argument like the variable's value is made anywhere (`filled`)."""
    value = variable.numpy()
    if (value == value.flat[0]).all():
        fill = {"constant": value.flat[0].item()}
    elif value.size <= FEW:
        fill = {"values": value.tolist()}
    else:
        fill = {"normal": [float(value.mean()), float(value.std())]}
    return {"name": variable.path, "seed": seed, "shape": list(value.shape),
            "dtype": value.dtype.name, **fill}


def recipes(model, network, batch, classes):
    """The arguments of a step in order: images, labels, trainable variables, all others.

    `network` is the model or a view over its variables, whose seeds do not depend on which.
    """
    labels = model.output_shape[1:-1]  # one a pixel where the logits are so
    variables = (*network.trainable_variables, *network.non_trainable_variables)
    seeds = {id(v): 2 + i for i, v in enumerate(model.variables)}
    return [
        {"name": "images", "seed": 0, "shape": [batch, *model.input_shape[1:]],
         "dtype": "float32", "uniform": [0, 1]},
        {"name": "labels", "seed": 1, "shape": [batch, *labels],
         "dtype": "int32", "integers": classes},
        *(recipe(v, seeds.setdefault(id(v), 2 + len(seeds))) for v in variables),
    ]


def captured(step, arguments):
    """What a step reads beside its arguments, as more of them: the module has it as parameters.

    A layer may hold a tensor that is no variable (the mean that it normalises with).
    """
    found = step.get_concrete_function(*arguments).captured_inputs
    if any(t.dtype == tf.resource for t in found):
        raise ValueError(f"A step should read its variables from its arguments. Received: {found}")
    return [{"name": f"captured {i}", "seed": 0, "shape": list(t.shape), "dtype": t.dtype.name,
             "values": t.numpy().tolist()} for i, t in enumerate(found)]


def structured(network, flat):
    """Flat arguments as those of a step."""
    tensors = [tf.constant(x) for x in flat]
    split = 2 + len(network.trainable_variables)
    return *tensors[:2], tensors[2:split], tensors[split:]


def modules(step, arguments):
    """A function from a platform (None: this machine's) to a step as serialized StableHLO.

    A GPU need not be there: TensorFlow writes the same module for it as for a CPU.
    """
    generate = step.experimental_get_compiler_ir(*arguments)
    return lambda platform=None: generate(stage="stablehlo_serialized", platform_name=platform)


def write(folder, name, *, variants=(STOCK, "lean"), precision="float32", batch=None):
    """Writes the step of a network: a module a variant, and one JSON file."""
    shape, usual, classes = CASES[name]
    batch, folder = batch or usual, Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        model = NETWORKS[name](shape, classes)
    finally:
        keras.config.set_dtype_policy(before)
    facts = {
        "network": name, "precision": precision, "batch": batch, "shape": list(shape),
        "versions": {package: version(package) for package in ("tensorflow", "keras", "numpy")},
        "variants": {},
    }
    for variant in variants:
        network = model if variant == STOCK else lean(model, **VARIANTS[variant])
        given = recipes(model, network, batch, classes)
        flat = [filled(argument) for argument in given]
        arguments = structured(network, flat)
        step = tf.function(training_step(network), jit_compile=True)
        given += captured(step, arguments)
        file = file_name(facts, variant)
        (folder / file).write_bytes(modules(step, arguments)())
        trainable = len(network.trainable_variables)
        facts["variants"][variant] = {"module": file, "trainable": trainable, "arguments": given}
        if variant == STOCK:  # by XLA: from the same seed a plain graph draws other numbers
            outputs = [x.numpy() for x in tf.nest.flatten(step(*arguments))]
            facts["expected"] = changes(outputs, flat, trainable)
    (folder / file_name(facts)).write_text(json.dumps(facts, indent=1) + "\n")
    return facts
