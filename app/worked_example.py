"""A layer on numbers small enough to follow: input, weights, output, upstream, gradients.

Nothing is kept: the layer computes them when they are asked for, in float64.
"""

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

import custom_layers
from app.layer_docs import kind_of, op_of, symbols
from custom_layers.gradient_subject import precision

STEP = 2.0**-16  # a power of two: x + STEP is exact


@dataclass
class Case:
    """Inputs of a layer, arrays or shapes to be filled with integers, and its arguments.

    `unit` is the size of the smallest weight: large ones close the gates of an LSTM, and leave
    no gradient to see. `tensors` names inputs and weights where they are not the op's tensors
    in its order; `constants` are the places of float inputs that have no gradient.
    """

    inputs: tuple
    arguments: dict
    unit: float = 1.0
    tensors: tuple = ()
    constants: tuple = ()


def case(*inputs, unit=1.0, tensors=(), constants=(), **arguments):
    return Case(inputs, arguments, unit, tensors, constants)


MATRIX, IMAGE, SMALL, TWO_MAPS = (2, 3), (1, 3, 3, 1), (1, 2, 2, 1), (1, 3, 3, 2)
ONE_HOT = np.array([[0.0, 1, 0], [1, 0, 0]])
PROBABILITIES = np.array([[0.5, 0.25, 0.25], [0.125, 0.625, 0.25]])

# A layer that is not here has no arguments, and takes a matrix: an activation, a loss.
CASES = {
    "Add": case([MATRIX, (2, 1)]),
    "AveragePooling2D": case(IMAGE, pool_size=2, strides=1),
    "BatchNormalization": case((3, 2)),
    "Concatenate": case([MATRIX, (2, 1)]),
    "Conv1D": case((1, 5, 1), filters=1, kernel_size=3),
    "Conv2D": case(IMAGE, filters=1, kernel_size=2),
    "Conv2DTranspose": case(SMALL, filters=1, kernel_size=2),
    "Cropping2D": case(IMAGE, cropping=((1, 0), (0, 1))),
    "CrossEntropy": case(ONE_HOT, PROBABILITIES),
    "Dense": case(MATRIX, units=2),
    "DepthwiseConv2D": case(IMAGE, kernel_size=2),
    "Dropout": case(MATRIX, rate=0.5, seed=1),
    "Embedding": case(np.array([2, 0, 2]), input_dim=3, output_dim=2, tensors=("ids", "table")),
    "Flatten": case((1, 2, 3)),
    "GRU": case((1, 2, 2), units=1, return_sequences=True, unit=0.25),
    "GaussianPooling2D": case(IMAGE, pool_size=2, strides=1),
    "GlobalAveragePooling1D": case((1, 3, 2)),
    "GlobalAveragePooling2D": case(IMAGE),
    "GlobalMaxPooling2D": case(IMAGE),
    "GroupNormalization": case((2, 6), groups=2),
    "L2Pooling2D": case(IMAGE, pool_size=2, strides=1),
    "LSTM": case((1, 2, 2), units=1, return_sequences=True, unit=0.25),
    "LearnedCombination2D": case(TWO_MAPS, filters=1, kernel_size=2),
    "LocalResponseNormalization": case((1, 1, 2, 4), k=1.0, n=3, alpha=0.5),
    "MaxPooling2D": case(IMAGE, pool_size=2, strides=1),
    "MaxPoolingWithIndices2D": case(IMAGE, pool_size=2, strides=1),
    "MaxUnpooling2D": case(SMALL, np.array([5, 2, 8, 15]).reshape(SMALL)),
    "MaximumAPosteriori": case(ONE_HOT, np.array([[1.0, 4, 6], [5, 2, 3]]), j=2.0),
    "Multiply": case([MATRIX, MATRIX]),
    "NegativeLogLikelihood": case(ONE_HOT, np.log(PROBABILITIES), from_logs=True),
    "RBF": case(MATRIX, units=2, fixed=False),
    "Rescaling": case(MATRIX, scale=2, offset=-1),
    "Reshape": case((1, 2, 3), target_shape=(3, 2)),
    "RoIAlign": case((1, 4, 4, 1), np.array([[[0.5, 0.5, 3.5, 2.5]]]), output_size=2,
                     constants=(1,)),
    "RoIPooling": case((1, 4, 4, 1), np.array([[[0.0, 0, 3, 2]]]), output_size=2,
                       constants=(1,)),
    "SeparableConv2D": case(IMAGE, filters=2, kernel_size=2),
    "SmoothL1": case(ONE_HOT, np.array([[0.5, 1.25, -3], [-2, 0.25, 0.5]])),
    "SparseConv2D": case(TWO_MAPS, table=((0,), (0, 1)), kernel_size=2),
    "SpatialDropout2D": case((1, 2, 2, 2), rate=0.5, seed=1),
    "SpatialPyramidPooling2D": case(IMAGE, levels=(1, 2)),
    "Subsampling2D": case(IMAGE, pool_size=2, strides=1),
    "UpSampling2D": case(SMALL),
    "ZeroPadding2D": case(SMALL),
}


def worked_example(name):
    """Every number of a layer's case, by its symbol in the op's formula, as JSON can hold it."""
    small = _Small(name)
    outputs = small.outputs()
    upstream = [integers(y.shape, 21) for y in outputs if y.dtype.is_floating]
    gradients = small.gradients(upstream)
    differences = small.differences(upstream)
    y = small.output_symbol
    return {
        "call": small.call_text,
        "inputs": _listed(small.inputs),
        "weights": _listed(small.weights),
        "outputs": _listed(dict(zip([y, "indices"], outputs))),
        "upstream": _listed({f"d{y}": upstream[0]}),
        "gradients": _listed(gradients),
        "differences": _listed(differences),
        "largest_difference": max(
            float(np.max(np.abs(gradients[d] - differences[d]))) for d in gradients
        ),
    }


class _Small:
    """The case of a layer, built and filled.

    `inputs` and `weights` are arrays by symbol; `variables` hold those of them that have a
    gradient.
    """

    def __init__(self, name):
        is_loss = kind_of(name) == "loss"
        chosen = CASES.get(name) or (case(ONE_HOT, MATRIX) if is_loss else case(MATRIX))
        self._packed = [_filled(x, seed) for seed, x in enumerate(chosen.inputs)]
        self._more = {} if is_loss else {"training": True}
        with precision("float64"):
            self._layer = getattr(custom_layers, name)(
                **chosen.arguments, dtype="float64", **{"reduction": "none"} if is_loss else {}
            )
            self._layer(*self._packed)  # builds it
        values = tf.nest.flatten(self._packed)
        constants = (0,) if is_loss else chosen.constants
        self._arguments = [
            tf.constant(x) if i in constants or x.dtype.kind == "i" else tf.Variable(x)
            for i, x in enumerate(values)
        ]
        weights = [] if is_loss else [w.value for w in self._layer.trainable_variables]
        self._state = [] if is_loss else [
            (v, v.numpy()) for v in self._layer.non_trainable_variables
        ]
        for seed, weight in enumerate(weights, 11):
            weight.assign(integers(weight.shape, seed) * chosen.unit)

        tensors, self.output_symbol = symbols(op_of(name))
        tensors = list(chosen.tensors) or (tensors[1::-1] if is_loss else tensors)
        both = self._arguments + weights
        named = dict(zip(tensors[:len(both)], both, strict=True))
        self.inputs = dict(zip(named, values))
        self.weights = {t: w.numpy() for t, w in list(named.items())[len(values):]}
        self.variables = {t: v for t, v in named.items() if isinstance(v, tf.Variable)}
        arguments = ", ".join(f"{k}={v}" for k, v in chosen.arguments.items())
        self.call_text = f"{name}({arguments})"

    def outputs(self):
        """Every call starts from the same state, so that dropout draws the same mask."""
        for variable, value in self._state:
            variable.assign(value)
        tensors = [tf.convert_to_tensor(x) for x in self._arguments]
        return tf.nest.flatten(
            self._layer(*tf.nest.pack_sequence_as(self._packed, tensors), **self._more)
        )

    def gradients(self, upstream):
        """By the layer's own backward pass."""
        with tf.GradientTape() as tape:
            outputs = self.outputs()[:len(upstream)]
        found = tape.gradient(outputs, self.variables, upstream)
        return {f"d{symbol}": tf.convert_to_tensor(g).numpy() for symbol, g in found.items()}

    def differences(self, upstream):
        """By central differences of sum(dy * y), one element after the other."""
        found = {}
        for symbol, variable in self.variables.items():
            x = variable.numpy()
            found[f"d{symbol}"] = np.zeros(x.shape)
            for index in np.ndindex(x.shape):
                step = np.zeros(x.shape)
                step[index] = STEP
                up, down = (self._sum(variable, x + s, upstream) for s in (step, -step))
                found[f"d{symbol}"][index] = (up - down) / (2 * STEP)
            variable.assign(x)
        return found

    def _sum(self, variable, value, upstream):
        variable.assign(value)
        return sum(np.sum(dy * y.numpy()) for dy, y in zip(upstream, self.outputs()))


def integers(shape, seed):
    """Small integers, no two alike, a third of them negative, in an order drawn by the seed."""
    n = math.prod(shape)
    values = np.array([i for i in range(-(n // 3), n + 1) if i][:n], "float64")
    if n == 1:
        values += 1  # a factor of 1 alone would not be seen
    return np.random.default_rng(seed).permutation(values).reshape(shape)


def _filled(x, seed):
    if isinstance(x, list):
        return [_filled(shape, 5 * i) for i, shape in enumerate(x)]
    return integers(x, seed) if isinstance(x, tuple) else x


def _listed(arrays):
    return {symbol: np.asarray(a).tolist() for symbol, a in arrays.items()}
