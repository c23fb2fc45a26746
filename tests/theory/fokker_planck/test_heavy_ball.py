"""Heavy ball: the map to kinetic motion, and its rates."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdscope.theory.fokker_planck.heavy_ball import HeavyBall, best_friction
from sgdscope.theory.fokker_planck.line import Line
from tests.theory.fokker_planck.potentials import Quartic

positive = st.floats(1e-3, 1e3)

# Slowest rates of the kinetic operator on (x² − 1)² / 4, and their ratio to the formula; frictions 0.3, 1, 3, 10
KINETIC = {
    1 / 16: ((5.82469e-3, 4.84442e-3, 2.29709e-3, 7.38799e-4), (0.820, 0.951, 0.920, 0.905)),
    1 / 24: ((8.64102e-4, 6.60541e-4, 3.17225e-4, 1.02658e-4), (0.899, 0.958, 0.939, 0.929)),
    1 / 32: ((1.22930e-4, 9.03583e-5, 4.36550e-5, 1.41711e-5), (0.945, 0.968, 0.955, 0.948)),
}
QUARTIC = ((2, 2), -1, (0.25, 0.25))


def kinetic(friction, temperature):
    return HeavyBall.of_kinetic(0.01, friction, temperature)


@pytest.mark.parametrize("temperature", KINETIC)
def test_between_wells_rate_against_the_kinetic_operator(temperature):
    exact, ratios = KINETIC[temperature]
    for friction, rate, ratio in zip((0.3, 1, 3, 10), exact, ratios, strict=True):
        formula = kinetic(friction, temperature).between_wells_rate(*QUARTIC)
        assert rate / formula.value == pytest.approx(ratio, abs=6e-4)


def test_in_well_rate():
    assert kinetic(1, 0.1).in_well_rate(1).value == pytest.approx(0.5)
    assert kinetic(3, 0.1).in_well_rate(1).value == pytest.approx(0.381966, abs=1e-6)
    assert kinetic(3, 7.0).in_well_rate(1).value == pytest.approx(0.381966, abs=1e-6)
    assert kinetic(best_friction(4), 0.1).in_well_rate(4).value == pytest.approx(2, rel=1e-6)


@given(positive, st.floats(1e-3, 99))
def test_in_well_rate_is_the_slowest_eigenvalue_of_the_drift_and_has_a_best_friction(curvature, friction):
    eigenvalues = np.linalg.eigvals([[0, 1], [-curvature, -friction]])
    found = kinetic(friction, 1.0).in_well_rate(curvature).value
    assert found == pytest.approx(-eigenvalues.real.max(), rel=1e-4)
    assert found <= best_friction(curvature) / 2 * (1 + 1e-9)


def test_overdamped_limit():
    ball = HeavyBall(1e-8, 0.0, 2.0, 0.05 * 4e8)
    assert ball.friction == pytest.approx(1e4)
    gap = Line.of_potential(Quartic, ball.temperature).spectral_gap()
    kramers = math.sqrt(2) / math.pi * math.exp(-0.25 / ball.temperature)
    rate = ball.between_wells_rate(*QUARTIC).value
    assert rate * ball.friction == pytest.approx(kramers, rel=1e-6)
    assert gap / (rate * ball.friction) == pytest.approx(1 - 0.085, abs=1e-3)
    assert ball.slowdown(-1.0) == pytest.approx(1, rel=1e-6)
    # In time lr_eff · iterations the overdamped rate is what Γ · kinetic rate is per √lr · iterations
    assert ball.per_iteration(rate) == pytest.approx(kramers * ball.effective_lr, rel=1e-6)


def test_slowdown_of_an_escape():
    ball = HeavyBall.of_kinetic(0.1, 1.0, 1 / 24)
    assert (ball.lr, ball.momentum) == pytest.approx((0.01, 0.9))
    assert ball.slowdown(-1.0) == pytest.approx((1 + math.sqrt(5)) / 2)
    # Simulated: 31150 ± 800 iterations to the other well, which the formula undercuts by 5 to 8 %
    assert 2 / ball.per_iteration(ball.between_wells_rate(*QUARTIC)) == pytest.approx(29001, rel=1e-4)
    slower = HeavyBall(0.01, 0.5, 1.0, ball.noise_variance * 5)
    assert slower.temperature == pytest.approx(1 / 24)
    assert 2 / slower.per_iteration(slower.between_wells_rate(*QUARTIC)) == pytest.approx(93071, rel=1e-4)


@given(positive, positive, st.floats(1e-3, 1), st.floats(1, 1e4))
def test_map_there_and_back(temperature, time_step, damping, batch_size):
    ball = HeavyBall.of_kinetic(time_step, damping / time_step, temperature, batch_size)
    assert ball.time_step == pytest.approx(time_step, rel=1e-12)
    assert ball.friction == pytest.approx(damping / time_step, rel=1e-9)
    assert ball.temperature == pytest.approx(temperature, rel=1e-12)
    assert ball.overdamped_temperature == pytest.approx(temperature, rel=1e-9)
    again = HeavyBall.of_kinetic(ball.time_step, ball.friction, ball.temperature, batch_size)
    assert again.noise_variance == pytest.approx(ball.noise_variance, rel=1e-9)


def test_temperature_has_its_half():
    ball = HeavyBall(0.1, 0.9, 4, 8.0)
    assert ball.temperature == pytest.approx(1.0)
    assert ball.effective_lr == pytest.approx(1.0)
    assert HeavyBall(0.1, 0.0, 4, 8.0).temperature == pytest.approx(0.1)


@pytest.mark.parametrize(("lr", "momentum", "curvature"), [(0.3, 0.0, 2.0), (0.5, 0.9, 3.0), (1.9, 0.5, 1.5)])
def test_mode_temperature_is_the_variance_of_the_recursion(lr, momentum, curvature):
    # θ⁺ = θ + v⁺, v⁺ = μ v − lr (h θ + noise of variance s): the stationary covariance solves Σ = A Σ Aᵀ + N
    variance = 0.7
    step = np.array([[1 - lr * curvature, momentum], [-lr * curvature, momentum]])
    noise = lr * lr * variance * np.ones((2, 2))
    covariance = np.linalg.solve(np.eye(4) - np.kron(step, step), noise.ravel()).reshape(2, 2)
    found = HeavyBall(lr, momentum, 1, variance).mode_temperature(curvature)
    assert found / curvature == pytest.approx(covariance[0, 0], rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: HeavyBall(0.1, 0.5, 0, 1), "batch_size"),
        (lambda: HeavyBall(0.1, 1.0, 1, 1), r"momentum in \[0, 1\)"),
        (lambda: HeavyBall.of_kinetic(1.0, 2.0, 1.0), "take a shorter step"),
        (lambda: HeavyBall.of_kinetic(1.0, -2.0, 1.0), "expected all > 0"),
        (lambda: HeavyBall(0.1, 0.5, 1, 1).in_well_rate(-1), "eigenvalue"),
        (lambda: HeavyBall(0.1, 0.5, 1, 1).between_wells_rate((1, 1), -1, (0.1, 0.0)), "barrier"),
        (lambda: HeavyBall(1.0, 0.0, 1, 1).mode_temperature(2.0), r"below 2 \(1 \+ momentum\) = 2, got 2"),
        (lambda: best_friction(0.0), "expected a curvature > 0, got 0"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
