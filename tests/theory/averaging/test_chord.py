"""Chord identities: exact on quadratics, whatever the curvature; refused where the numbers do not fit together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdscope.theory.averaging import (
    NoisyQuadratic,
    average_loss,
    averages,
    chord_curvatures,
    chord_losses,
    two_point_loss,
)

seeds = st.integers(0, 10_000)


def quadratic(seed, points=5, size=3):
    """Losses, gradients and points of a quadratic of any sign, and the loss itself."""
    generator = np.random.default_rng(seed)
    H = generator.standard_normal((size, size))
    H, g = H + H.T, generator.standard_normal(size)

    def loss(theta):
        return 0.5 * theta @ H @ theta + g @ theta + 1.0

    theta = generator.standard_normal((points, size))
    return loss, theta, np.array([loss(t) for t in theta]), theta @ H + g


@given(seeds, st.floats(-1, 2))
def test_two_gradients_predict_the_chord(seed, a):
    loss, theta, values, gradients = quadratic(seed)
    D = (gradients[1] - gradients[0]) @ (theta[1] - theta[0])
    expected = loss((1 - a) * theta[0] + a * theta[1])
    assert chord_losses(values[0], values[1], D, a) == pytest.approx(expected, abs=1e-10)
    assert two_point_loss(values[0], values[1], D, a).value == pytest.approx(expected, abs=1e-10)


@given(seeds)
def test_many_points(seed):
    loss, theta, values, gradients = quadratic(seed)
    D = chord_curvatures(gradients @ theta.T)
    assert pytest.approx(D.T, abs=1e-12) == D
    w = np.array([0.1, 0.3, 0.2, 0.5, -0.1])
    mean = w @ theta
    found = average_loss(averages.given(w), values, D)
    assert found.value == pytest.approx(loss(mean), abs=1e-10)
    # the same from gradients and distances to the average
    other = w @ values - 0.5 * w @ ((gradients * (theta - mean)).sum(axis=1))
    assert found.value == pytest.approx(other, abs=1e-10)
    assert found.warnings


def test_two_points_are_the_smallest_case_of_many():
    D = np.array([[0.0, 0.8], [0.8, 0.0]])
    many = average_loss(averages.given([0.4, 0.6]), [2.0, 1.0], D)
    assert many.value == pytest.approx(two_point_loss(2.0, 1.0, 0.8, 0.6).value, rel=1e-14)


def test_in_expectation_it_is_the_kernel_of_the_noisy_quadratic():
    # E D_ij = Σ h (S_i + S_j − 2 E x_i x_j)
    problem = NoisyQuadratic([1.0, 0.1], [1.0, 2.0], [1.0, 3.0])
    path, h = problem.path(0.3, 30), problem.curvatures
    kernel = np.einsum("m,mst->st", h, path.kernel())
    own = kernel.diagonal()
    D = own[:, None] + own - 2 * kernel
    for average in (averages.ema(0.8, 30), averages.window(10).over(30)):
        found = average_loss(average, problem.excess(path.variances), D)
        assert found.value == pytest.approx(problem.averaged(average, 0.3, 30).value, rel=1e-11)


def test_a_chord_that_does_not_curve_upwards_is_said():
    assert "does not curve upwards (D = -0.2)" in two_point_loss(1.0, 1.0, -0.2).warnings[0]
    assert two_point_loss(1.0, 1.0, 0.2).valid


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: two_point_loss(np.nan, 1, 1), "expected a finite older loss, got nan"),
        (
            lambda: average_loss(averages.window(3), [1, 2], np.zeros((2, 2))),
            "expected one weight per point, got 3 for 2",
        ),
        (
            lambda: average_loss(averages.window(2), [1, 2], np.zeros((3, 3))),
            r"curvatures of 2 points, got shape \(3, 3\)",
        ),
        (lambda: average_loss(averages.window(2), [1, 2], [[0, 1], [2, 0]]), "expected symmetric chord curvatures"),
        (lambda: chord_curvatures(np.ones((2, 3))), r"expected gradient products of shape \(points, points\)"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
