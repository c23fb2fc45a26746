"""Matrices that do not commute: rotation to modes against the recursion in parameters, and against simulation."""

import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from sgdscope.theory.averaging import NoisyQuadratic, averages, second_moment_matrices, stationary_covariance
from tests.theory.averaging.cases import COVARIANCE, HESSIAN, MATRICES, START, agrees, losses, simulate

LR = 0.5
STATIONARY = NoisyQuadratic.from_matrices(HESSIAN, COVARIANCE)
FORCE = LR**2 * HESSIAN @ COVARIANCE @ HESSIAN
Q = np.eye(3) - LR * HESSIAN


def half_trace(matrix):
    return 0.5 * np.trace(HESSIAN @ matrix)


def companion(momentum):
    """Transition and noise of (θ, buffer), all in parameters."""
    A = np.block([[Q, -LR * momentum * np.eye(3)], [HESSIAN, momentum * np.eye(3)]])
    kick = np.vstack([LR * HESSIAN, -HESSIAN])
    return A, kick @ COVARIANCE @ kick.T


def test_the_matrices_do_not_commute():
    assert np.abs(HESSIAN @ COVARIANCE - COVARIANCE @ HESSIAN).max() > 0.1


def test_stationary_covariance_solves_its_equation():
    V = stationary_covariance(STATIONARY, LR)
    assert pytest.approx(Q @ V @ Q + FORCE, rel=1e-12) == V
    assert solve_discrete_lyapunov(Q, FORCE) == pytest.approx(V, rel=1e-10)
    A, force = companion(0.8)
    expected = solve_discrete_lyapunov(A, force)[:3, :3]
    assert stationary_covariance(STATIONARY, LR, momentum=0.8) == pytest.approx(expected, rel=1e-9)


def test_expected_losses_are_traces_of_matrices():
    V = stationary_covariance(STATIONARY, LR)
    assert STATIONARY.last(LR).value == pytest.approx(half_trace(V), rel=1e-12)
    two = 0.5 * (V + np.linalg.matrix_power(Q, 7) @ V)
    assert STATIONARY.averaged(averages.two_point(7), LR).value == pytest.approx(half_trace(two), rel=1e-12)
    beta = 0.9
    M = np.linalg.inv(np.eye(3) - beta * Q)
    ema = (1 - beta) / (1 + beta) * (M @ V + V @ M.T - V)
    assert STATIONARY.endless_ema(beta, LR).value == pytest.approx(half_trace(ema), rel=1e-12)
    assert STATIONARY.floor_gap.value == pytest.approx(half_trace(COVARIANCE), rel=1e-12)


def test_moments_along_a_run():
    rates = np.linspace(0.6, 0.1, 25)
    expected = [np.outer(START, START)]
    for rate in rates:
        step = np.eye(3) - rate * HESSIAN
        expected.append(step @ expected[-1] @ step + rate**2 * HESSIAN @ COVARIANCE @ HESSIAN)
    assert second_moment_matrices(MATRICES, rates) == pytest.approx(np.stack(expected), rel=1e-10, abs=1e-12)
    assert MATRICES.last(rates).value == pytest.approx(half_trace(expected[-1]), rel=1e-10)


def test_moments_along_a_run_with_momentum():
    A, force = companion(0.8)
    P = np.zeros((6, 6))
    P[:3, :3] = np.outer(START, START)
    for _ in range(25):
        P = A @ P @ A.T + force
    found = second_moment_matrices(MATRICES, LR, 25, momentum=0.8)
    assert found[-1] == pytest.approx(P[:3, :3], rel=1e-9, abs=1e-12)
    assert MATRICES.last(LR, 25, momentum=0.8).value == pytest.approx(half_trace(P[:3, :3]), rel=1e-9)


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_a_stationary_run_stays(momentum):
    found = second_moment_matrices(STATIONARY, LR, 4, momentum=momentum)
    assert found[-1] == pytest.approx(found[0], rel=1e-10)
    assert found[0] == pytest.approx(stationary_covariance(STATIONARY, LR, momentum=momentum), rel=1e-12)


def test_diagonal_problems_have_diagonal_matrices():
    diagonal = NoisyQuadratic([1.0, 0.3], [2.0, 1.0])
    assert stationary_covariance(diagonal, LR) == pytest.approx(np.diag(diagonal.stationary_variance(LR)), rel=1e-12)


def test_simulation_agrees():
    runs = simulate(HESSIAN, COVARIANCE, START, np.full(60, LR), 8000, 7)
    for average in (averages.last(), averages.two_point(10), averages.ema(0.9, 60), averages.window(20, 2)):
        average = average.over(60)
        mean = np.einsum("t,tcm->cm", average.weights, runs)
        assert agrees(losses(HESSIAN, mean), MATRICES.averaged(average, LR, 60).value), average.name
    samples = runs[-1][:, 0] * runs[-1][:, 1]
    assert agrees(samples, second_moment_matrices(MATRICES, LR, 60)[-1, 0, 1])


@pytest.mark.parametrize(
    ("H", "C", "start", "message"),
    [
        ([[1, 0.5], [0, 1]], np.eye(2), None, "expected a symmetric Hessian"),
        (
            np.eye(2),
            np.eye(3),
            None,
            r"expected a symmetric covariance in the shape of the Hessian, got shape \(3, 3\)",
        ),
        (-np.eye(2), np.eye(2), None, "expected curvatures > 0, got -1.0: leave out flat and negative directions"),
        (np.eye(2), [[1, 2], [2, 1]], None, "expected a covariance without negative eigenvalues, got -1"),
        (np.eye(2), np.eye(2), [1], "expected a start of 2 parameters, got 1"),
        ([1, 2], np.eye(2), None, r"expected Hessian as 2-dimensional array, not empty, got shape \(2,\)"),
    ],
)
def test_bad_matrices_are_refused(H, C, start, message):
    with pytest.raises(ValueError, match=message):
        NoisyQuadratic.from_matrices(H, C, start)
