"""Momentum: Kramers' kinetic law, its limits, and its relaxation inside a quadratic well."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdscope.theory.escape import (
    discrete_temperature_factor,
    friction,
    growth_rate,
    in_iterations,
    in_well_relaxation_rate,
    kinetic_escape_time,
    momentum_escape_time,
    momentum_temperature,
    sgd_exponent,
    sgd_momentum_exponent,
    time_ratio,
    white_noise_escape_time,
)

WELL = (0.25, 2, -1)


@pytest.mark.parametrize(("momentum", "iterations"), [(0.9, 29001), (0.5, 93071)])
def test_reference_iterations(momentum, iterations):
    found = in_iterations(momentum_escape_time(*WELL, 1 / 24, 0.01, momentum), 0.01)
    assert found.value == pytest.approx(iterations, rel=1e-4)
    assert found.unit == "iterations"
    assert found.valid


@pytest.mark.parametrize(
    ("temperature", "rates", "ratios"),
    [
        (1 / 16, (5.82469e-3, 4.84442e-3, 2.29709e-3, 7.38799e-4), (0.820, 0.951, 0.920, 0.905)),
        (1 / 24, (8.64102e-4, 6.60541e-4, 3.17225e-4, 1.02658e-4), (0.899, 0.958, 0.939, 0.929)),
        (1 / 32, (1.22930e-4, 9.03583e-5, 4.36550e-5, 1.41711e-5), (0.945, 0.968, 0.955, 0.948)),
    ],
)
def test_gap_of_the_kinetic_operator_against_the_law(temperature, rates, ratios):
    # exact slowest rates of the kinetic Fokker-Planck operator of the double well, computed elsewhere: both wells leave
    for gamma, rate, ratio in zip((0.3, 1, 3, 10), rates, ratios, strict=True):
        law = kinetic_escape_time(*WELL, temperature, gamma)
        assert rate * law.value / 2 == pytest.approx(ratio, abs=6e-4)
        assert law.valid == (gamma > 0.3)


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_growth_rate_solves_its_equation(gamma, curvature):
    rate = growth_rate(gamma, -curvature)
    assert rate * rate + gamma * rate == pytest.approx(curvature, rel=1e-12)


def test_overdamped_limit_and_the_factor_before_it():
    lr, momentum = 1e-8, 0.5
    kinetic = momentum_escape_time(*WELL, 0.03, lr, momentum)
    plain = white_noise_escape_time(*WELL, 0.03)  # time of the overdamped motion: lr / (1 − μ) · iterations
    assert kinetic.value == pytest.approx((1 - momentum) * plain.value, rel=1e-6)
    # at Γ = 1 the overdamped formula is low by |H_b| / (λ₊ Γ) = 1.62
    at_one = momentum_escape_time(*WELL, 0.03, 0.01, 0.9)
    assert at_one.value / ((1 - 0.9) * plain.value) == pytest.approx(1 / growth_rate(1, -1), rel=1e-9)
    assert 1 / growth_rate(1, -1) == pytest.approx(1.618, abs=1e-3)
    wide = momentum_escape_time(*WELL, 0.03, 0.01, 0.9, transverse_ratio=4.0)
    assert time_ratio(wide, at_one) == pytest.approx(2)


def test_mapping_of_heavy_ball():
    assert friction(0.01, 0.9) == pytest.approx(1)
    assert momentum_temperature(0.01, 0.9, 10.0, 4) == pytest.approx(0.125)
    # exact stationary variance of the discrete recursion on ½ h θ²
    lr, momentum, h, noise = 0.3, 0.8, 2.0, 1.7
    step = np.array([[1 - lr * h, momentum], [-lr * h, momentum]])
    kick = np.array([-lr, -lr])
    covariance = np.zeros((2, 2))
    for _ in range(2000):
        covariance = step @ covariance @ step.T + noise * np.outer(kick, kick)
    expected = momentum_temperature(lr, momentum, noise, 1) * discrete_temperature_factor(lr, momentum, h) / h
    assert covariance[0, 0] == pytest.approx(expected, rel=1e-9)


def test_relaxation_inside_a_quadratic_well():
    assert in_well_relaxation_rate([3, 0.5, 8]).value == 0.5
    assert in_well_relaxation_rate(np.diag([3, 0.5])).unit == "1 / (learning rate · iterations)"
    assert in_well_relaxation_rate(1.0, friction=1.0).value == pytest.approx(0.5)
    assert in_well_relaxation_rate(1.0, friction=3.0).value == pytest.approx(0.381966, abs=1e-6)
    for gamma in (0.2, 1.9, 2.1, 40.0):
        matrix = np.array([[0, -1.0], [1.0, gamma]])
        slowest = np.linalg.eigvals(matrix).real.min()
        assert in_well_relaxation_rate(1.0, friction=gamma).value == pytest.approx(slowest, rel=1e-10)
        assert slowest <= in_well_relaxation_rate(1.0, friction=2.0).value
    with pytest.raises(ValueError, match="expected smallest_eigenvalue > 0"):
        in_well_relaxation_rate([1.0, -1.0])


def test_noise_that_follows_the_curvature():
    plain = sgd_exponent(0.25, 2, -1, 0.1, 16, fraction=0.4)
    assert sgd_momentum_exponent(0.25, 2, -1, 0.1, 16, [0, 0.9], fraction=0.4) == pytest.approx([plain, 0.1 * plain])
    assert isinstance(sgd_momentum_exponent(0.25, 2, -1, 0.1, 16, 0.9, fraction=0.4), float)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: momentum_escape_time(*WELL, 0.1, 0.01, 1.0), r"expected momentum in \[0, 1\), got 1.0"),
        (lambda: momentum_temperature(0.1, -0.1, 1, 1), r"expected momentum in \[0, 1\)"),
        (lambda: kinetic_escape_time(*WELL, 0.1, 0), "expected friction > 0"),
        (lambda: kinetic_escape_time(0.25, 2, 1, 0.1, 1), "expected curvature_saddle < 0"),
        (lambda: discrete_temperature_factor(2, 0.0, 1), "unstable"),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_flags():
    assert "escape is rarer" in momentum_escape_time(*WELL, 0.03, 0.01, 0.98).warnings[0]
    assert "above 0.1" in momentum_escape_time(*WELL, 0.03, 0.1, 0.5).warnings[0]
    assert math.isfinite(kinetic_escape_time(*WELL, 1e-5, 1, logarithm=True).value)
