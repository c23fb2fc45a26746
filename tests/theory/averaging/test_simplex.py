"""Best weights on the simplex: optimality conditions, a general solver, and noise in the curvatures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from sgdscope.theory.averaging import NoisyQuadratic, average_loss, averages, best_simplex_weights

seeds = st.integers(0, 10_000)


def convex(seed, points, size):
    """Losses and chord curvatures of random points of a convex quadratic."""
    generator = np.random.default_rng(seed)
    root = generator.standard_normal((size, size))
    H, theta = root @ root.T, generator.standard_normal((points, size)) + 0.5
    far = theta[:, None] - theta[None]
    return 0.5 * np.einsum("pa,ab,pb->p", theta, H, theta), np.einsum("ija,ab,ijb->ij", far, H, far)


@given(seeds, st.integers(1, 25), st.integers(1, 8))
def test_no_vertex_lies_below_the_plane_of_the_solution(seed, points, size):
    # for a convex function on the simplex this certifies the minimum
    losses, D = convex(seed, points, size)
    found = best_simplex_weights(losses, D)
    w = found.average.weights
    assert (w >= 0).all()
    assert abs(w.sum() - 1) < 1e-12
    scale = np.abs(losses).max() + D.max()
    slope = losses - 0.5 * D @ w
    assert w @ slope - slope.min() <= 1e-9 * scale
    assert found.gap <= 1e-9 * scale
    assert found.loss.value == pytest.approx(average_loss(found.average, losses, D).value, abs=1e-9 * scale)
    assert found.loss.value <= losses.min() + 1e-9 * scale
    assert found.loss.valid


@settings(max_examples=15)
@given(seeds)
def test_a_general_solver_finds_the_same(seed):
    losses, D = convex(seed, 7, 4)
    general = minimize(
        lambda w: w @ losses - 0.25 * w @ D @ w,
        np.full(7, 1 / 7),
        jac=lambda w: losses - 0.5 * D @ w,
        bounds=[(0, 1)] * 7,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(7)},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert best_simplex_weights(losses, D).loss.value == pytest.approx(general.fun, abs=1e-7 * np.abs(losses).max())


def test_known_answers():
    # equal losses, equal distances: uniform; ½ D · (1 − 1/n) / 2 below
    D = 1 - np.eye(4)
    found = best_simplex_weights(np.ones(4), D)
    assert found.average.weights == pytest.approx(np.full(4, 0.25), rel=1e-12)
    assert found.loss.value == pytest.approx(1 - 0.25 * 0.75, rel=1e-12)
    # no curvature: the lowest point alone
    found = best_simplex_weights([3.0, 1.0, 2.0], np.zeros((3, 3)))
    assert found.average.weights.tolist() == [0, 1, 0]
    # two points: ½ + (L_s − L_t) / D
    found = best_simplex_weights([1.2, 1.0], [[0, 1.0], [1.0, 0]])
    assert found.average.weights[1] == pytest.approx(0.7, rel=1e-9)
    found = best_simplex_weights([2.0, 1.0], [[0, 1.0], [1.0, 0]])
    assert found.average.weights.tolist() == [0, 1]
    assert best_simplex_weights([5.0], [[0.0]]).loss.value == 5


def test_the_same_point_twice_does_no_harm():
    losses, D = convex(3, 5, 3)
    twice = np.r_[np.arange(5), np.arange(5)]
    single, double = best_simplex_weights(losses, D), best_simplex_weights(losses[twice], D[np.ix_(twice, twice)])
    assert double.loss.value == pytest.approx(single.loss.value, rel=1e-10)


def test_the_model_with_few_points_prefers_their_ends():
    # a slow mode: the ends of a window carry nearly all weight
    problem = NoisyQuadratic([0.002], [1.0])
    kernel = problem.path(1.0, 9).kernel()[0] * 0.002
    own = kernel.diagonal()
    found = best_simplex_weights(own / 2, own[:, None] + own - 2 * kernel)
    assert found.average.weights[[0, -1]].sum() > 0.95
    assert found.loss.value < problem.averaged(averages.window(10), 1.0).value


def test_noise_in_the_curvatures_stays_on_the_simplex_and_is_said():
    losses, D = convex(1, 40, 2)
    noise = np.random.default_rng(4).standard_normal(D.shape) * 0.2 * D.max()
    noisy = D + np.triu(noise, 1) + np.triu(noise, 1).T
    found = best_simplex_weights(losses, noisy)
    assert (found.average.weights >= 0).all()
    assert found.clipped > 0.1
    assert "of the curvature between the points is negative and was left out" in found.loss.warnings[0]
    assert found.gap < 1e-9 * D.max()


@pytest.mark.parametrize(
    ("losses", "D", "message"),
    [
        ([1, 2], np.zeros((3, 3)), "expected chord curvatures of 2 points"),
        ([1, np.inf], np.zeros((2, 2)), "expected finite losses, got 1 that are not"),
        ([1, 2], [[1, 0], [0, 1]], "expected symmetric chord curvatures with zero diagonal"),
    ],
)
def test_bad_input_is_refused(losses, D, message):
    with pytest.raises(ValueError, match=message):
        best_simplex_weights(losses, D)
