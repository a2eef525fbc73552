"""Finite differences: right near a kink, and none at one."""

import numpy as np
import pytest

from custom_layers.finite_differences import Derivatives, noise, slope


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
    assert slope(lambda t: np.sqrt(np.array(t)), np.array(0.0), **options) is None


OPTIONS = {"step": 2.0**-13, "magnitude": 1.0, "tolerance": 1e-6}


def test_noise_is_that_of_the_values():
    def line(t):
        return np.sin(t) + 1e-10 * np.random.default_rng(hash(t) % 2**32).standard_normal()

    assert 2e-11 < noise(line, 1e-5) < 5e-10
    assert noise(np.sin, 1e-5) < 1e-14


@pytest.mark.parametrize("distance", [0, 0.5, -2.2])
def test_a_kink_is_not_taken_for_noise(distance):
    assert noise(lambda t: np.abs(t + distance * 1e-5), 1e-5) < 1e-15


@pytest.mark.parametrize("size", [1e2, 1e5, 1e7])
def test_slope_of_values_that_cancel_knows_its_rounding_error(size):
    """The values are 0.3 t, but for the rounding errors of numbers as large as `size`."""
    for shift in np.linspace(0, 1, 50):
        found = slope(lambda t: (0.3 * (t + shift) + size) - size - 0.3 * shift,
                      np.array(0.0), **OPTIONS)
        assert found is not None
        assert abs(found.value - 0.3) <= found.rounding + 1e-6


def test_points_that_rounding_explains_say_nothing():
    """Values of 1e-9 x computed beside 1: no gradient is wrong or right but for the rounding."""
    derivatives = Derivatives(
        lambda x: (1e-9 * x + 1) - 1, np.linspace(0.5, 1, 5), magnitude=1e-9, tolerance=1e-6,
        elements=5, directions=0, generator=np.random.default_rng(0),
    )
    error, undecided = derivatives.compare(np.full(5, 1e-9))
    assert error <= 1e-6 and derivatives.kinks + undecided == 5
    assert derivatives.compare(np.full(5, 1.0))[0] > 0.5
