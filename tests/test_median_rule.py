"""The median rule: whom it stops, and when."""

import pytest

from tuning.median_rule import hopeless

OTHERS = [[0.5, 0.6, 0.7], [0.4, 0.8, 0.9], [0.2, 0.3]]  # running means after two: .55, .6, .25


@pytest.mark.parametrize("curve, others, direction, stopped", [
    ([0.3, 0.5], OTHERS, "max", True),
    ([0.3, 0.56], OTHERS, "max", False),
    ([0.56, 0.1], OTHERS, "max", False),  # its best counts
    ([0.1], OTHERS, "max", False),  # the first epoch
    ([0.1, 0.1, 0.1], OTHERS, "max", False),  # two others have come as far
    ([0.1, 0.1], OTHERS[:2], "max", False),
    ([0.7, 0.6], OTHERS, "min", True),
    ([0.7, 0.5], OTHERS, "min", False),
])
def test_worse_than_the_median_of_the_running_means(curve, others, direction, stopped):
    assert hopeless(curve, others, direction) is stopped
