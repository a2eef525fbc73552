"""Finite differences: right near a kink, and none at one."""

import numpy as np
import pytest

from custom_layers.finite_differences import slope


@pytest.mark.parametrize("distance", [0, 1e-15, 1e-9, 1e-6, 5e-5, 1e-3])
def test_slope_near_a_kink_is_right_or_none(distance):
    found = slope(
        lambda t: np.abs(t + distance), np.abs(distance), step=2.0**-13, magnitude=1.0,
        tolerance=1e-6,
    )
    assert (found is None) if distance < 1e-8 else (found.value == pytest.approx(1, rel=1e-6))


def test_slope_at_a_jump_or_beyond_the_domain_is_none():
    options = {"step": 2.0**-13, "magnitude": 1.0, "tolerance": 1e-6}
    assert slope(lambda t: np.array(t >= 0, float), np.array(1.0), **options) is None
    with np.errstate(invalid="ignore"):
        assert slope(lambda t: np.sqrt(np.array(t)), np.array(0.0), **options) is None
