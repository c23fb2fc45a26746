"""Noise proportional to the loss: the power law against exact times."""

import math

import numpy as np
import pytest

from sgdscope.theory.escape import (
    first_passage,
    log_mass_ratio,
    loss_proportional_density_exponent,
    loss_proportional_escape_time,
)

from .landscapes import DOUBLE_WELL

FLOOR = 0.05
LOSS = DOUBLE_WELL + FLOOR


def law(lr, batch_size, **rest):
    return loss_proportional_escape_time(FLOOR, FLOOR + 0.25, 2, -1, lr, batch_size, logarithm=True, **rest)


def test_low_noise_limit_on_a_line():
    # C = 2 L h / B with h = 2: D = lr h L / B
    def excess(lr):
        diffusion = lr * 2 * LOSS
        return first_passage(DOUBLE_WELL.deriv(), diffusion, -1, 1).log_mean - law(lr, 1.0).value

    assert abs(excess(0.005)) < 0.02
    assert excess(0.01) / excess(0.005) == pytest.approx(2, rel=0.1)


def test_only_the_ratio_of_losses_counts():
    found = law(0.05, 1.0)
    power = 1.0 / (0.05 * 2) + 0.5
    assert found.value == pytest.approx(math.log(2 * math.pi / math.sqrt(2)) + power * math.log(6))
    more = law(0.05, 1.0, dimension=3, transverse_ratio=0.25)
    assert found.value - more.value == pytest.approx(math.log(6) + math.log(2))
    assert law(0.05, 1.0, noise_curvature=4.0).value < found.value
    assert "below 4" in law(2.0, 1.0, noise_curvature=0.3).warnings[0]


def test_n_equal_curvatures_by_a_radial_well():
    # mass of n-dimensional P ∝ L^−φ: equilibrium rate = flux over mass; here the mass integral alone
    n, steps = 3, 12.0  # steps = B / (lr h)
    phi = loss_proportional_density_exponent(1.0, steps, 1.0)
    assert phi == 13
    r = np.linspace(0, 60, 200001)
    mass = np.trapezoid(4 * np.pi * r**2 * (1 + r * r / 2) ** -phi, r)
    exact = (2 * np.pi) ** (n / 2) * math.gamma(phi - n / 2) / math.gamma(phi)
    assert mass == pytest.approx(exact, rel=1e-6)
    # stationary law on a line: masses beyond |x| = 1 by the quadrature of the process against P ∝ L^−φ
    found = log_mass_ratio(lambda x: x, lambda x: (1 + x * x / 2) / steps, 1.0)
    x = np.linspace(-200, 200, 4_000_001)
    density = (1 + x * x / 2) ** -phi
    assert math.exp(found) == pytest.approx(density[x < 1].sum() / density[x > 1].sum(), rel=1e-3)


def test_density_exponent_over_arrays():
    assert loss_proportional_density_exponent(0.1, np.array([1, 2]), 5.0) == pytest.approx([3, 5])


@pytest.mark.parametrize(
    ("arguments", "rest", "message"),
    [
        ((0, 1, 2, -1, 0.1, 1), {}, "a minimum of loss 0 has no noise and is never left"),
        ((1, 1, 2, -1, 0.1, 1), {}, "loss at the minimum < loss at the saddle"),
        ((1, 2, 2, -1, 0.1, 1), {"dimension": 0}, "whole number ≥ 1"),
        ((1, 2, 2, -1, 10, 1), {"dimension": 4}, "lower lr or raise batch_size"),
        ((1, 2, 2, -1, 0.1, 1), {"noise_curvature": -1}, "expected noise_curvature > 0"),
        ((1, 2, 2, 1, 0.1, 1), {}, "expected curvature_saddle < 0"),
    ],
)
def test_bad_input_is_told(arguments, rest, message):
    with pytest.raises(ValueError, match=message):
        loss_proportional_escape_time(*arguments, **rest)
