"""What `measure` says of landscapes made of data, against closed forms; and what noise of that covariance leads to."""

import numpy as np
import pytest

from sgdscope import measure
from sgdscope.simulate import ensemble
from sgdscope.simulate.data import SGD, LogisticRegression, Pairs, Quadratics, ScalarNetwork

RANDOM = np.random.default_rng(11)
HESSIANS = np.array([np.diag(d) for d in RANDOM.uniform(0.5, 3, size=(12, 3))])
CENTRES = RANDOM.normal(size=(12, 3))
QUADRATICS, AT = Quadratics(HESSIANS, CENTRES), np.array([1.0, 2.0, -1.0])
GRADIENTS = np.einsum("bij,bj->bi", HESSIANS, AT - CENTRES)


def test_batch_sharpness_of_quadratics():
    along = np.einsum("bi,bij,bj->b", GRADIENTS, HESSIANS, GRADIENTS)
    found = measure.batch_sharpness(QUADRATICS.risk(AT), 1, tolerance=1e-9, max_batches=4000)
    expected = (along / np.square(GRADIENTS).sum(1)).mean()
    assert abs(found.value - expected) < 4 * found.standard_error
    assert found.standard_error < 0.02 * expected


def test_gradient_noise_of_quadratics():
    found = measure.gradient_noise(QUADRATICS.risk(AT))
    assert found.value == pytest.approx(np.trace(np.cov(GRADIENTS.T)), rel=1e-6)


def test_gradient_noise_of_a_network_is_that_of_theory():
    x, y = RANDOM.normal(size=200), RANDOM.normal(size=200)
    data = Pairs(x, y)
    found = measure.gradient_noise(ScalarNetwork(1, data).risk([1.2, -0.5]), samples=200)
    expected = data.noise.gradient_variance(1.2 * -0.5) * (1.2**2 + 0.5**2)
    assert found.value == pytest.approx(expected * 200 / 199, rel=1e-6)


def test_leading_eigenvalue_with_weight_decay():
    found = measure.leading_eigenvalues(ScalarNetwork(1, Pairs([1.0, 2.0], [0.5, 1.0]), 0.3).risk([1.0, 0.5]), 1)
    # v = optimum = 1/2: Hessian 2 E[x²] ∇v ∇vᵀ + 2 γ, E[x²] = 5/2, |∇v|² = 5/4
    assert found.value[0] == pytest.approx(2 * 2.5 * 1.25 + 0.6, rel=1e-6)


def well_specified(samples, features):
    x = RANDOM.normal(size=(samples, features)) * np.linspace(0.8, 1.6, features)
    theta = RANDOM.normal(size=features) / np.sqrt(features)
    return LogisticRegression(x, RANDOM.random(samples) < 1 / (1 + np.exp(-x @ theta)))


def test_noise_covariance_of_logistic_regression_is_its_hessian():
    model = well_specified(4000, 6)
    found = measure.noise_covariance(model.risk(model.optimum), 6, samples=4000)
    chance = 1 / (1 + np.exp(-model.x @ model.optimum))
    gradients = (chance - model.y)[:, None] * model.x
    vectors = np.linalg.eigh(model.hessian(model.optimum))[1][:, ::-1]
    np.testing.assert_allclose(found.value, np.var(gradients @ vectors, axis=0, ddof=1), rtol=1e-3)
    assert found.beside["slope"].value == pytest.approx(1.0, abs=0.03)
    assert found.beside["correlation"].value > 0.97


@pytest.mark.slow
@pytest.mark.parametrize(("lr", "batch_size", "replacement"), [(0.02, 1, True), (0.1, 8, True), (0.1, 8, False)])
def test_sgd_on_logistic_regression_spreads_alike_in_all_directions(lr, batch_size, replacement):
    model = well_specified(500, 3)
    hessian = model.hessian(model.optimum)
    gradients = (1 / (1 + np.exp(-model.x @ model.optimum)) - model.y)[:, None] * model.x
    process = SGD(lr, batch_size, replacement=replacement)
    result = ensemble(model, process, steps=int(60 / lr), start=model.optimum, replicas=10_000)
    found = np.cov(result.positions.T)
    left = 1 if replacement else (500 - batch_size) / 499
    noise = left * lr / batch_size * gradients.T @ gradients / 500
    both = np.kron(hessian, np.eye(3)) + np.kron(np.eye(3), hessian) - lr * np.kron(hessian, hessian)
    expected = np.linalg.solve(both, noise.ravel()).reshape(3, 3)
    np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())
    spread = np.linalg.eigvalsh(found) * 2 * batch_size / lr  # Σ = lr / (2 B), as B · C is the Hessian
    assert 0.75 < spread.min() < spread.max() < 1.3
    assert np.ptp(spread) < 0.5 * np.ptp(1 / np.linalg.eigvalsh(hessian)) / np.mean(1 / np.linalg.eigvalsh(hessian))
