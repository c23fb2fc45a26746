"""Gradient noise against the Hessian on two losses whose optimum is known."""

import numpy as np
import pytest

from sgdscope.theory.escape import (
    covariance_agreement,
    diffusion_matrix,
    log_likelihood_covariance,
    magnitude,
    squared_loss_covariance,
)


def logistic_regression(seed, count=20_000, features=6):
    """Per-sample gradients and Hessian at the optimum of a well-specified logistic regression."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((count, features)) * np.linspace(0.5, 2, features)
    truth = generator.standard_normal(features) / 2
    y = generator.random(count) < 1 / (1 + np.exp(-x @ truth))
    theta = truth.copy()
    for _ in range(12):
        p = 1 / (1 + np.exp(-x @ theta))
        hessian = (x * (p * (1 - p))[:, None]).T @ x / count
        theta -= np.linalg.solve(hessian, x.T @ (p - y) / count)
    return x * (p - y)[:, None], hessian


def test_log_likelihood_that_fits():
    gradients, hessian = logistic_regression(0)
    batch = 16
    covariance = np.cov(gradients.T) / batch
    found = covariance_agreement(covariance, hessian, batch)
    assert found.slope == pytest.approx(1, abs=0.04)
    assert found.correlation > 0.998
    assert found.trace_ratio == pytest.approx(1, abs=0.04)
    assert covariance == pytest.approx(log_likelihood_covariance(hessian, batch), abs=0.05 * np.abs(covariance).max())


@pytest.mark.parametrize("spread", [0.1, 0.5, 1.0])
def test_squared_loss(spread):
    generator = np.random.default_rng(2)
    x = generator.standard_normal((20_000, 5)) * np.linspace(0.5, 2, 5)
    residual = spread * generator.standard_normal(len(x))
    hessian, loss = x.T @ x / len(x), float(np.mean(residual**2)) / 2
    covariance = np.cov((x * residual[:, None]).T) / 8
    found = covariance_agreement(covariance, hessian, 8)
    assert found.slope == pytest.approx(spread**2, rel=0.06)
    assert found.correlation > 0.998
    predicted = squared_loss_covariance(hessian, loss, 8)
    assert covariance == pytest.approx(predicted, abs=0.05 * np.abs(predicted).max())
    # only unit residual variance gives H / B
    assert (abs(found.slope - 1) < 0.1) == (spread == 1.0)


def test_small_functions():
    assert diffusion_matrix(log_likelihood_covariance([4.0, 1.0], 8), 0.5) == pytest.approx([0.125, 0.03125])
    indefinite = np.array([[0.0, 2.0], [2.0, 0.0]])
    assert magnitude(indefinite) == pytest.approx(2 * np.eye(2))
    assert magnitude([-3.0, 1.0]) == pytest.approx([3.0, 1.0])
    exact = covariance_agreement(3 * indefinite + 3 * np.eye(2), indefinite + np.eye(2))
    assert (exact.slope, exact.correlation, exact.trace_ratio) == pytest.approx((3, 1, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: log_likelihood_covariance([[1, 2], [0, 1]], 1), "expected a symmetric hessian"),
        (lambda: log_likelihood_covariance([1.0], 0), "expected batch_size > 0"),
        (lambda: squared_loss_covariance([1.0], -1, 1), "expected a loss ≥ 0"),
        (lambda: diffusion_matrix([1.0], -1), "expected lr > 0"),
        (lambda: covariance_agreement(np.eye(2), np.eye(3)), "two matrices of one size"),
        (lambda: covariance_agreement(np.ones((2, 2)), np.eye(2)), "whose elements differ"),
        (lambda: covariance_agreement(np.eye(2), np.diag([1.0, 0.0])), "without zero eigenvalues"),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()
