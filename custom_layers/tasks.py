"""Which output goes with which loss, asked for by task."""

from custom_layers.losses import HalfSquares, SigmoidCrossEntropy, SoftmaxCrossEntropy

# The loss on what the last layer returns without an activation, and the activation that makes
# of it what a user reads. In each pair dL/dz is (y - t): output and loss belong together.
TASKS = {
    "binary": (SigmoidCrossEntropy, "sigmoid"),
    "multi-label": (SigmoidCrossEntropy, "sigmoid"),
    "multi-class": (SoftmaxCrossEntropy, "softmax"),
    "regression": (HalfSquares, "linear"),
}


def loss_for(task, **settings):
    """The loss of a task, on the outputs of a last layer that has no activation.

    Args:
        task: "binary" (one of two classes, one output), "multi-label" (any number of the
            classes), "multi-class" (one of several classes) or "regression".
        settings: arguments of the loss (`label_smoothing`, `reduction`, ...).
    """
    return _of(task)[0](**settings)


def activation_for(task):
    """The name of the activation that turns these outputs into probabilities, or values."""
    return _of(task)[1]


def _of(task):
    if task not in TASKS:
        raise ValueError(f"`task` must be one of {', '.join(TASKS)}. Received: task={task!r}")
    return TASKS[task]
