"""Weights of classes in the loss, so that rare ones count for more."""

import numpy as np

from app.errors import HandgradError, unknown


def median_frequency(shares):
    """w_c = median(p) / p_c.

    Source: Eigen, Fergus, ICCV 2015, section 5; there p_c is the share in images that show c.
    """
    return np.median(shares) / shares


def log_frequency(shares):
    """w_c = 1 / ln(1.02 + p_c): at most 50, also for the rarest.

    Source: Paszke et al., ENet, 2016, section 5.2.
    """
    return 1 / np.log(1.02 + shares)


def mild_frequency(shares):
    """w_c = 1 / ln(1.1 + p_c): the same, at most 10.5.

    For a mean IoU: weights as far apart as those of `log` make so much of a common class be taken
    for a rare one that both lose.
    """
    return 1 / np.log(1.1 + shares)


BALANCES = {"median": median_frequency, "log": log_frequency, "mild": mild_frequency}


def class_weights(way, counts, class_names):
    """A weight a class, of `counts` of its labels; the mean over all labels is 1."""
    if way not in BALANCES:
        raise unknown("balance", way, list(BALANCES))
    missing = [name for name, count in zip(class_names, counts) if not count]
    if missing:
        raise HandgradError("--balance needs each class among the training labels. "
                            f"Missing: {', '.join(missing)}")
    shares = counts / counts.sum()
    weights = BALANCES[way](shares)
    return tuple((weights / (shares * weights).sum()).tolist())
