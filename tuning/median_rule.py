"""The median rule: a trial that does worse than half of the others at its epoch is stopped."""

import numpy as np

EPOCHS, TRIALS = 2, 3  # nothing is stopped earlier, nor before so many others have come as far


def hopeless(curve, others, direction="max"):
    """Whether the best of a curve is worse than the median of the others' running means.

    Args:
        curve: a trial's scores by epoch, so far.
        others: the curves of other trials; those that are shorter do not count.
        direction: "max" or "min", of what is better.

    Source: Golovin et al., Google Vizier: A Service for Black-Box Optimization, 2017, section
    3.1.4 (median stopping rule).
    """
    epochs = len(curve)
    means = [np.mean(other[:epochs]) for other in others if len(other) >= epochs]
    if epochs < EPOCHS or len(means) < TRIALS:
        return False
    if direction == "max":
        return bool(max(curve) < np.median(means))
    return bool(min(curve) > np.median(means))
