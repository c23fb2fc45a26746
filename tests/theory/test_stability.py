"""Thresholds of stability: closed forms against the spectral radius of what they are the threshold of."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from sgdscope.theory import stability

MOMENTA = [0.0, 0.3, 0.9, 0.99]
positive = st.floats(0.05, 20)


def radius(matrix: np.ndarray) -> float:
    return float(np.abs(np.linalg.eigvals(matrix)).max())


def heavy_ball(q: float, beta: float) -> np.ndarray:
    """One full-batch step on (θ, lr · v) for curvature q / lr, in the convention of torch.optim.SGD."""
    return np.array([[1 - q, -beta], [q, beta]])


def nesterov(q: float, beta: float) -> np.ndarray:
    """The same with nesterov=True: the step is g + β v⁺."""
    return np.array([[1 - q - beta * q, -(beta**2)], [q, beta]])


@pytest.mark.parametrize("lr", [1e-3, 0.5, 7.0])
@pytest.mark.parametrize("beta", MOMENTA)
@pytest.mark.parametrize(("matrix", "is_nesterov"), [(heavy_ball, False), (nesterov, True)])
def test_full_batch_threshold_is_where_the_iteration_matrix_stops_contracting(lr, beta, matrix, is_nesterov):
    # Cohen et al. 2103.00065: 2 (1 + β) / lr, and 2 (1 + β) / (lr (1 + 2β)) for Nesterov
    threshold = stability.full_batch_threshold(lr, beta, nesterov=is_nesterov)
    q = lr * threshold.value
    assert min(abs(np.linalg.eigvals(matrix(q, beta)) + 1)) < 1e-12
    assert radius(matrix(q, beta)) == pytest.approx(1, abs=1e-12)
    assert radius(matrix(q * (1 - 1e-6), beta)) < 1 < radius(matrix(q * (1 + 1e-6), beta))
    assert all(radius(matrix(q * share, beta)) < 1 for share in np.linspace(0.02, 0.98, 25))
    assert threshold.quantity == "lambda_max"


def test_closed_forms():
    assert stability.sgd_threshold(0.01).value == 200
    assert stability.sgd_threshold(0.01).quantity == "batch_sharpness"
    assert stability.full_batch_threshold(0.1, 0.9).value == pytest.approx(38)
    assert stability.full_batch_threshold(0.1, 0.9, nesterov=True).value == pytest.approx(38 / 2.8)
    assert stability.small_batch_momentum_threshold(0.1, 0.9).value == pytest.approx(2)
    # 2604.14108 as quoted: lr 0.001 with β = 0.9 and plain SGD with lr 0.01 both settle at 200
    assert stability.small_batch_momentum_threshold(0.001, 0.9).value == pytest.approx(200)


def test_threshold_chooses_by_method_and_batch():
    assert stability.threshold(0.5).formula == "2 / lr"
    assert stability.threshold(0.5, 0.9).formula == "2 (1 − β) / lr"
    assert "small batch" in stability.threshold(0.5, 0.9).scope
    assert stability.threshold(0.5, 0.9, nesterov=True) == stability.threshold(0.5, 0.9)
    assert stability.threshold(0.5, 0.9, full_batch=True) == stability.full_batch_threshold(0.5, 0.9)
    assert stability.threshold(0.5, full_batch=True).value == 4
    assert stability.threshold(0.5, 0.9, nesterov=True, full_batch=True).formula == "2 (1 + β) / (lr (1 + 2β))"
    # without momentum every method is the same
    assert stability.small_batch_momentum_threshold(0.5, 0.0).value == stability.sgd_threshold(0.5).value


@pytest.mark.parametrize(
    ("h", "p", "eor", "roe"),
    [((1.0, 3.0), (0.5, 0.5), 0.80, 1.12), ((2.0, 2.0), (0.5, 0.5), 1.0, 1.0), ((0.5, 8.0), (0.9, 0.1), None, None)],
)
def test_mean_square_boundary_of_a_random_quadratic(h, p, eor, roe):
    values, weights = np.array(h), np.array(p)
    first, second, third = (float(weights @ values**k) for k in (1, 2, 3))
    lr = stability.mean_square_boundary(first, second)
    factor = lambda lr: float(weights @ (1 - lr * values) ** 2)  # noqa: E731  E[x⁺²] / x²
    assert factor(lr) == pytest.approx(1, abs=1e-12)
    assert factor(0.99 * lr) < 1 < factor(1.01 * lr)
    # where the two readings of batch sharpness stand there, in edge units
    assert lr / 2 * first <= 1 + 1e-12
    assert lr / 2 * third / second >= 1 - 1e-12
    if eor is not None:
        assert lr / 2 * first == pytest.approx(eor, abs=1e-12)
        assert lr / 2 * third / second == pytest.approx(roe, abs=1e-12)


def test_mean_square_boundary_against_a_simulation():
    rng = np.random.default_rng(0)
    boundary = stability.mean_square_boundary(2.0, 5.0)
    h = rng.choice([1.0, 3.0], size=(3, 400_000))  # few steps: later means rest on ever fewer replicas
    for share, grows in ((0.9, False), (1.1, True)):
        squares = np.prod((1 - share * boundary * h) ** 2, axis=0)
        error = squares.std() / math.sqrt(len(squares))
        exact = (1 - 2 * share * boundary * 2 + (share * boundary) ** 2 * 5) ** 3
        assert abs(squares.mean() - exact) < 5 * error
        assert (squares.mean() - 1 > 5 * error) if grows else (1 - squares.mean() > 5 * error)


def second_moments(lr: float, h: np.ndarray, p: np.ndarray, beta: float) -> np.ndarray:
    """Carries (E x_t², E x_t x_{t-1}, E x_{t-1}²) one step on: x⁺ = a x − β x⁻ with a = 1 + β − lr h, h drawn anew."""
    a = 1 + beta - lr * h
    first, second = float(p @ a), float(p @ a**2)
    return np.array([[second, -2 * beta * first, beta**2], [first, -beta, 0.0], [1.0, 0.0, 0.0]])


@given(
    h=st.lists(positive, min_size=1, max_size=4),
    beta=st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.99]),
    share=st.floats(0.02, 0.98),
)
@settings(max_examples=60, deadline=None)
def test_momentum_boundary_is_exact_in_one_dimension(h, beta, share):
    # 2604.14108 (second-hand): 1 / lr = a / (2 (1 + β)) + σ² / (2 a (1 − β)), for any law of h
    values, weights = np.array(h), np.full(len(h), 1 / len(h))
    mean, variance = float(weights @ values), float(values.var())
    lr = stability.momentum_mean_square_boundary(mean, variance, beta)
    scale = 1 / (1 - beta)
    assert abs(np.linalg.det(np.eye(3) - second_moments(lr, values, weights, beta))) < 1e-11 * scale
    assert radius(second_moments(share * lr, values, weights, beta)) < 1
    assert radius(second_moments((2 - share) * lr, values, weights, beta)) > 1


@pytest.mark.parametrize("beta", MOMENTA)
def test_momentum_boundary_found_by_search_for_h_in_1_3(beta):
    h, p = np.array([1.0, 3.0]), np.array([0.5, 0.5])
    said = stability.momentum_mean_square_boundary(2.0, 1.0, beta)
    found = brentq(lambda lr: radius(second_moments(lr, h, p, beta)) - 1, 0.5 * said, 2 * said, xtol=1e-14)
    assert said == pytest.approx(found, rel=1e-9)


def test_momentum_boundary_has_the_known_limits():
    assert stability.momentum_mean_square_boundary(2.0, 1.0, 0.0) == pytest.approx(
        stability.mean_square_boundary(2.0, 5.0), rel=1e-14
    )
    full = stability.full_batch_threshold(0.3, 0.9).value
    assert stability.momentum_mean_square_boundary(full, 0.0, 0.9) == pytest.approx(0.3, rel=1e-14)
    # where variance rules, the step size that counts is lr / (1 − β)
    wide = stability.momentum_mean_square_boundary(1.0, 1e9, 0.9)
    assert wide / (1 - 0.9) == pytest.approx(stability.mean_square_boundary(1.0, 1e9), rel=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_gradient_growth_bound_holds_on_batch_quadratics(seed):
    # the one-step part of Theorem 1 of 2412.20553, with batches of different curvature and different minimum
    rng = np.random.default_rng(seed)
    batches, dimension = 7, int(rng.integers(1, 6))
    roots = rng.normal(size=(batches, dimension, dimension))
    hessians = roots + roots.transpose(0, 2, 1)  # indefinite too
    gradients = rng.normal(size=(batches, dimension))
    steps = np.einsum("bij,bj->bi", hessians, gradients)
    norms = (gradients**2).sum(1)
    sharpness = float(((gradients * steps).sum(1) / norms).mean())
    for lr in (0.05, 0.5, 3.0):
        grown = float((((gradients - lr * steps) ** 2).sum(1) / norms).mean())
        bound = stability.gradient_growth_bound(lr, sharpness)
        assert grown >= bound * (1 - 1e-12)


def test_gradient_growth_bound_is_reached_where_it_can_be():
    # one curvature for all batches and directions: no slack, so any other factor fails
    for lr, h in ((0.1, 7.0), (0.5, 7.0), (0.5, -1.0)):
        assert stability.gradient_growth_bound(lr, h) == pytest.approx((1 - lr * h) ** 2, rel=1e-14)
    assert stability.gradient_growth_bound(0.5, 2 / 0.5) == pytest.approx(1)
    assert stability.gradient_growth_bound(0.5, 1.01 * 2 / 0.5) > 1 > stability.gradient_growth_bound(0.5, 0.99 * 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stability.sgd_threshold(0), "expected a learning rate > 0, got 0"),
        (lambda: stability.sgd_threshold(-1.0), "expected a learning rate > 0, got -1.0"),
        (lambda: stability.sgd_threshold(math.nan), "expected a learning rate > 0, got nan"),
        (lambda: stability.sgd_threshold(math.inf), "expected a learning rate > 0, got inf"),
        (lambda: stability.sgd_threshold(5e-324), "expected a learning rate > 0, got 5e-324"),
        (lambda: stability.threshold(0.1, 1.0), r"expected momentum in \[0, 1\), got 1.0"),
        (lambda: stability.full_batch_threshold(0.1, -0.1), r"expected momentum in \[0, 1\), got -0.1"),
        (lambda: stability.small_batch_momentum_threshold(0.1, math.nan), "expected momentum in"),
        (lambda: stability.gradient_growth_bound(0.0, 1.0), "expected a learning rate > 0"),
        (lambda: stability.mean_square_boundary(0, 1), "expected mean > 0 and second moment ≥ mean², got 0 and 1"),
        (lambda: stability.mean_square_boundary(2, 3.9), "second moment ≥ mean²"),
        (lambda: stability.mean_square_boundary(math.inf, math.inf), "second moment ≥ mean²"),
        (lambda: stability.momentum_mean_square_boundary(1, -1, 0.5), "expected mean > 0 and variance ≥ 0"),
        (lambda: stability.momentum_mean_square_boundary(1, math.inf, 0.5), "expected mean > 0 and variance ≥ 0"),
        (lambda: stability.momentum_mean_square_boundary(1, 1, 1.5), r"expected momentum in \[0, 1\)"),
    ],
)
def test_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("beta", MOMENTA)
@pytest.mark.parametrize("r", [0.0, 0.1, 1.0, 30.0])
def test_momentum_threshold_lies_between_and_is_the_boundary_solved_for_curvature(beta, r):
    lr = 0.1
    found = stability.momentum_threshold(lr, beta, r).value
    assert stability.momentum_mean_square_boundary(found, r * found**2, beta) == pytest.approx(lr)
    assert found <= stability.full_batch_threshold(lr, beta).value * (1 + 1e-12)
    if r == 0:
        assert found == pytest.approx(stability.full_batch_threshold(lr, beta).value)
    if r == 30 and beta == 0.99:
        assert found == pytest.approx(stability.small_batch_momentum_threshold(lr, beta).value / r, rel=0.01)


def test_momentum_threshold_wants_a_variance():
    with pytest.raises(ValueError, match="relative variance"):
        stability.momentum_threshold(0.1, 0.9, -1)
