"""The gallery: figures that need no run, by name in `GALLERY`."""

import math

import keras
import numpy as np
from matplotlib.figure import Figure

from app.drawing import BLUE, INK, ORANGE, styled

_erf = np.vectorize(math.erf)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _normal(x):
    """Probability below x, and density at x, of the standard normal distribution."""
    return (1 + _erf(x / math.sqrt(2))) / 2, np.exp(-x**2 / 2) / math.sqrt(2 * math.pi)


# name: (y, dy/dx as a function of x and y)
ACTIVATIONS = {
    "Step": (lambda x: np.where(x > 0, 1.0, 0.0), lambda x, y: np.zeros_like(x)),
    "Sigmoid": (_sigmoid, lambda x, y: y * (1 - y)),
    "Tanh": (np.tanh, lambda x, y: 1 - y**2),
    "ScaledTanh": (lambda x: 1.7159 * np.tanh(2 / 3 * x),
                   lambda x, y: 2 / 3 * (1.7159 - y**2 / 1.7159)),
    "ReLU": (lambda x: np.maximum(x, 0), lambda x, y: np.where(x > 0, 1.0, 0.0)),
    "LeakyReLU (0.3)": (lambda x: np.where(x > 0, x, 0.3 * x),
                        lambda x, y: np.where(x > 0, 1.0, 0.3)),
    "SiLU": (lambda x: x * _sigmoid(x), lambda x, y: _sigmoid(x) + y * (1 - _sigmoid(x))),
    "GELU": (lambda x: x * _normal(x)[0], lambda x, y: _normal(x)[0] + x * _normal(x)[1]),
}
START, STEPS = (-7.0, 2.0), 30


@styled
def activations():
    """Each activation function and its derivative."""
    figure = Figure(figsize=(10, 5))
    x = np.linspace(-4, 4, 401)
    for axes, (name, (function, derivative)) in zip(
        figure.subplots(2, 4, sharex=True, sharey=True).ravel(), ACTIVATIONS.items()
    ):
        y = function(x)
        # A jump is a gap, not a slope.
        drawn = np.where(np.abs(np.diff(y, prepend=y[0])) > 0.5, np.nan, y)
        axes.plot(x, drawn, color=BLUE, linewidth=2.2, label="y")
        axes.plot(x, derivative(x, y), color=ORANGE, linestyle="--", label="dy/dx")
        axes.set(title=name, ylim=(-2, 3))
        axes.grid()
    figure.axes[0].legend(loc="upper left")
    return figure


@styled
def optimisers():
    """Paths of four Keras optimisers on f(x, y) = x^2 / 20 + y^2, down from (-7, 2)."""
    figure = Figure(figsize=(10, 6))
    x, y = np.meshgrid(np.linspace(-10, 10, 201), np.linspace(-4, 4, 161))
    for axes, (name, optimizer) in zip(figure.subplots(2, 2).ravel(), {
        "SGD, rate 0.95": keras.optimizers.SGD(0.95),
        "Momentum 0.9, rate 0.1": keras.optimizers.SGD(0.1, momentum=0.9),
        "AdaGrad, rate 1.5": keras.optimizers.Adagrad(1.5),
        "Adam, rate 0.3": keras.optimizers.Adam(0.3),
    }.items()):
        axes.contour(x, y, x**2 / 20 + y**2, levels=np.array([0.1, 0.5, 1, 2, 4, 7, 11, 16]),
                     colors=INK, alpha=0.25, linewidths=0.8)
        axes.plot(*_path(optimizer).T, "o-", color=BLUE, markersize=3.5, linewidth=1.2)
        axes.plot(0, 0, "+", color=ORANGE, markersize=14, markeredgewidth=2)
        axes.set(title=name, xlabel="x", ylabel="y", xticks=range(-10, 11, 5), ylim=(-4, 4))
    return figure


def _path(optimizer):
    """The points (STEPS + 1, 2) that an optimiser visits."""
    point = keras.Variable(START)
    path = [point.numpy()]
    for _ in range(STEPS):
        slope = path[-1] * [1 / 10, 2]
        optimizer.apply([keras.ops.convert_to_tensor(slope, "float32")], [point])
        path.append(point.numpy())
    return np.array(path)


GALLERY = {"activations": activations, "optimisers": optimisers}
