"""Fixed batch: reference values, the half-learning-rate law, and a simulation that keeps the batches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdscope.theory.averaging import (
    NoisyQuadratic,
    averages,
    batch_losses_along_gradient,
    best_batch_loss,
    best_batch_step,
    best_full_loss_step,
    full_losses_along_batch_gradient,
    gap_to_batch_minimum,
    gradient_alignment,
    squared_distance_between_runs,
    squared_distance_of_average,
    stationary_covariance,
)
from tests.theory.averaging.cases import COVARIANCE, FROM_START, HESSIAN, LR, STATIONARY, agrees

curvatures = st.lists(st.floats(0.01, 1.9), min_size=1, max_size=4)


def test_own_batch_values():
    assert gap_to_batch_minimum(STATIONARY, LR).value == pytest.approx(0.8345412222112, rel=1e-9)
    assert gap_to_batch_minimum(STATIONARY, LR, 0).value == pytest.approx(0.5100612222112, rel=1e-9)
    assert gap_to_batch_minimum(STATIONARY, LR, 5).value == pytest.approx(0.7660407539073, rel=1e-9)


@given(curvatures)
def test_right_after_its_step_every_mode_has_shrunk_by_its_memory(h):
    problem = NoisyQuadratic(h, np.ones(len(h)))
    q, before = 1 - np.array(h), problem.stationary_variance(1.0) + problem.noise
    expected = float(problem.excess(q**2 * before))
    assert gap_to_batch_minimum(problem, 1.0, 0).value == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert gap_to_batch_minimum(problem, 1.0, 5000).value == pytest.approx(
        gap_to_batch_minimum(problem, 1.0).value, rel=1e-9
    )


@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize("age", [0, 4])
def test_own_batch_by_simulation(age, momentum):
    h, lr, chains = 0.7, 0.5, 20_000
    problem = NoisyQuadratic([h], [2.0])
    generator = np.random.default_rng(1)
    x, buffer, minima = np.zeros(chains), np.zeros(chains), []
    for _ in range(150):
        minima.append(np.sqrt(2) * generator.standard_normal(chains))
        buffer = momentum * buffer + h * (x - minima[-1])
        x = x - lr * buffer
    gap = gap_to_batch_minimum(problem, lr, age, momentum=momentum).value
    assert agrees(0.5 * h * (x - minima[-1 - age]) ** 2, gap)


def test_single_step_reaches_the_bottom_of_the_parabola():
    squared, curvature = 3.0, 4.0
    step = best_batch_step(squared, curvature)
    assert step.value == 0.75
    assert best_batch_loss(2.0, squared, curvature).value == pytest.approx(2 - 9 / 8)
    along = batch_losses_along_gradient(2.0, squared, curvature, [0.0, step.value, 2 * step.value])
    assert along == pytest.approx([2.0, best_batch_loss(2.0, squared, curvature).value, 2.0])
    # H = h I: the factor is (1 − α h)², so α = 1 / h lands on the minimum of the batch
    h, distance = 5.0, 0.3
    gradient = (h * distance) ** 2
    assert best_batch_step(gradient, h * gradient).value == pytest.approx(1 / h)
    assert best_batch_loss(0.5 * h * distance**2, gradient, h * gradient).value == pytest.approx(0, abs=1e-15)


@given(curvatures, st.floats(0.01, 1))
def test_half_learning_rate_law(h, lr):
    problem = NoisyQuadratic(h, 1 + np.arange(len(h)))
    assert best_full_loss_step(problem, lr).value == pytest.approx(lr / 2, rel=1e-12)
    here, there, beyond = full_losses_along_batch_gradient(problem, lr, [0.0, lr, 1.1 * lr])
    assert there == pytest.approx(here, rel=1e-12)
    assert beyond > here
    assert here == pytest.approx(problem.last(lr).value, rel=1e-14)


def test_half_learning_rate_law_where_matrices_do_not_commute():
    problem, lr = NoisyQuadratic.from_matrices(HESSIAN, COVARIANCE), 0.6
    V = stationary_covariance(problem, lr)
    towards, against = np.trace(HESSIAN @ HESSIAN @ V), np.trace(np.linalg.matrix_power(HESSIAN, 3) @ (V + COVARIANCE))
    assert towards / against == pytest.approx(lr / 2, rel=1e-12)
    assert best_full_loss_step(problem, lr).value == pytest.approx(lr / 2, rel=1e-12)
    alpha = 0.2
    expected = problem.last(lr).value - alpha * towards + alpha**2 / 2 * against
    assert full_losses_along_batch_gradient(problem, lr, alpha) == pytest.approx(expected, rel=1e-12)


def test_with_momentum_half_of_the_effective_rate():
    problem = NoisyQuadratic([0.5], [1.0])
    V = problem.stationary_variance(0.01, momentum=0.9)[0]
    found = best_full_loss_step(problem, 0.01, momentum=0.9).value
    assert found == pytest.approx(V / (0.5 * (V + 1)), rel=1e-12)
    slow = best_full_loss_step(problem, 1e-4, momentum=0.9).value
    assert slow == pytest.approx(1e-4 / (2 * 0.1), rel=1e-3)


def test_newton_step_on_a_batch_costs_the_floor_gap():
    problem = NoisyQuadratic([2.0, 2.0], [1.0, 3.0])
    excess = full_losses_along_batch_gradient(problem, LR, 0.5)
    assert excess == pytest.approx(problem.floor_gap.value, rel=1e-12)


def test_alignment_by_simulation():
    h, lr = 1.5, 0.4
    problem = NoisyQuadratic([h], [1.0])
    V = problem.stationary_variance(lr)[0]
    # ratio of mean squares in n dimensions: E (∇L·g)² ≈ (n h² V)², over n h² V · n h² (V + σ²)
    assert gradient_alignment(lr, h).value == pytest.approx(V / (V + 1), rel=1e-12)
    generator = np.random.default_rng(0)
    x, c, d = generator.standard_normal((3, 1_000_000)) * np.array([[np.sqrt(V)], [1], [1]])
    cosine = (x - c) @ (x - d) / np.linalg.norm(x - c) / np.linalg.norm(x - d)
    assert cosine == pytest.approx(gradient_alignment(lr, h).value, abs=0.004)


def test_geometry():
    V, q = STATIONARY.stationary_variance(LR), 1 - LR * STATIONARY.curvatures
    assert squared_distance_between_runs(STATIONARY, LR).value == pytest.approx(2 * V.sum(), rel=1e-14)
    found = squared_distance_of_average(STATIONARY, averages.two_point(11), LR)
    assert found.value == pytest.approx(0.5 * ((1 + q**11) * V).sum(), rel=1e-12)
    found = squared_distance_of_average(FROM_START, averages.last(), LR, 30)
    assert found.value == pytest.approx(FROM_START.path(LR, 30).variances[-1].sum(), rel=1e-14)
    full = NoisyQuadratic.from_matrices(HESSIAN, COVARIANCE)
    trace = np.trace(stationary_covariance(full, LR))
    assert squared_distance_between_runs(full, LR).value == pytest.approx(2 * trace, rel=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gap_to_batch_minimum(STATIONARY, LR, -1), "expected steps since the batch was used of at least 0"),
        (lambda: best_batch_step(1.0, -2.0), "expected curvature gᵀHg > 0 along the gradient, got -2.0: no best step"),
        (lambda: best_batch_loss(1.0, -1.0, 2.0), "expected squared gradient ≥ 0, got -1.0"),
        (lambda: best_full_loss_step(NoisyQuadratic([1.0], [0.0]), LR), "expected noise in some mode, got none"),
        (lambda: gradient_alignment(3.0, 1.0), "expected a stable learning rate"),
        (lambda: gradient_alignment(0.1, -1.0), "expected curvature > 0, got -1.0"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
