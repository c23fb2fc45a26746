"""Mass of minima: reference wells, by determinants and by quadrature."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from sgdscope.theory.stationary import (
    anharmonic_correction,
    effective_depth,
    masses_by_quadrature,
    masses_of_minima,
    sgd_noise_ratio,
    white_noise_ratio,
)

# (θ² − 1)² (1 + θ/2 + θ²/8) / 4: wells of equal depth 0 at ∓1, curvatures 1.25 and 3.25
LOSS = (np.polynomial.Polynomial([-1, 0, 1]) ** 2) * np.polynomial.Polynomial([1, 0.5, 0.125]) / 4
SLOPE = LOSS.deriv()
SADDLE = brentq(SLOPE, 0, 0.5)
CURVATURES = (1.25, 3.25)


def quadratic_noise(theta):
    """Through |L''| at both minima and the saddle."""
    return 0.940332 + theta + 1.309668 * theta**2


def correction(theta):
    return anharmonic_correction(*(LOSS.deriv(n)(theta) for n in (2, 3, 4)))


def by_quadrature(temperature):
    return masses_by_quadrature(SLOPE, lambda theta: np.full_like(theta, temperature), (-5, 5), [SADDLE])


def test_the_wells_are_those_of_the_reference():
    assert abs(SADDLE - 0.122894) < 1e-6
    assert [LOSS.deriv(2)(theta) for theta in (-1, 1)] == pytest.approx(CURVATURES)
    assert LOSS(SADDLE) == pytest.approx(0.257865, abs=1e-6)


REFERENCE = [(0.1, 1.52641), (0.05, 1.57292), (0.04, 1.58266), (0.03, 1.59142), (0.02, 1.59908), (0.01, 1.60599)]


@pytest.mark.parametrize(("temperature", "ratio"), REFERENCE)
def test_white_noise(temperature, ratio):
    left, right = by_quadrature(temperature)
    assert left + right == pytest.approx(1)
    assert left / right == pytest.approx(ratio, rel=2e-5)
    determinants = tuple(math.log(curvature) for curvature in CURVATURES)
    lowest = white_noise_ratio((0, 0), determinants, temperature)
    assert lowest.value == pytest.approx(math.sqrt(3.25 / 1.25))
    assert lowest.valid
    corrected = white_noise_ratio((0, 0), determinants, temperature, (correction(-1), correction(1)))
    assert corrected.value == pytest.approx(ratio, rel=0.02 if temperature == 0.1 else 0.0065)
    assert abs(corrected.value - ratio) < abs(lowest.value - ratio)


def test_what_the_correction_leaves_out_is_of_second_order():
    lefts = []
    for temperature in (0.002, 0.001):
        mass = by_quadrature(temperature)
        ratio = mass[0] / mass[1] / math.sqrt(3.25 / 1.25)
        lefts.append(ratio * (1 + correction(1) * temperature) / (1 + correction(-1) * temperature) - 1)
    assert lefts[0] / lefts[1] == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize(("inverse", "ratio"), [(16, 38.005), (24, 169.81), (32, 751.78), (48, 14174.7)])
def test_noise_of_sgd(inverse, ratio):
    left, right = masses_by_quadrature(SLOPE, lambda theta: quadratic_noise(theta) / inverse, (-6, 6), [SADDLE])
    assert left / right == pytest.approx(ratio, rel=2e-3)
    depths = tuple(effective_depth(SLOPE, quadratic_noise, theta, SADDLE) for theta in (-1, 1))
    assert depths == pytest.approx((0.312071, 0.131452), abs=1e-6)
    lowest = sgd_noise_ratio(CURVATURES, depths, batch_size=inverse, lr=2)
    assert lowest.value == pytest.approx({16: 46.78, 24: 198.42, 32: 841.62, 48: 15142.2}[inverse], rel=2e-4)
    assert lowest.valid == (inverse > 30)


def test_noise_of_sgd_at_low_noise_and_against_white_noise():
    depths = tuple(effective_depth(SLOPE, quadratic_noise, theta, SADDLE) for theta in (-1, 1))
    errors = []
    for inverse in (200, 400):
        left, right = masses_by_quadrature(
            SLOPE, lambda theta, q=inverse: quadratic_noise(theta) / q, (-6, 6), [SADDLE]
        )
        errors.append(left / right / sgd_noise_ratio(CURVATURES, depths, inverse / 2, 1).value - 1)
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)
    assert effective_depth(SLOPE, np.ones_like, -1, SADDLE) == pytest.approx(LOSS(SADDLE))


@given(
    st.lists(st.tuples(st.floats(0, 2), st.floats(-5, 5)), min_size=1, max_size=6), st.floats(0.05, 2), st.floats(-3, 3)
)
def test_masses_are_probabilities_that_see_differences_only(wells, temperature, shift):
    losses, determinants = np.array(wells).T
    masses = masses_of_minima(losses, determinants, temperature)
    assert masses.sum() == pytest.approx(1)
    assert masses == pytest.approx(masses_of_minima(losses + shift, determinants - shift, temperature), rel=1e-9)
    by_hand = np.exp(-losses / temperature - determinants / 2)
    assert masses == pytest.approx(by_hand / by_hand.sum(), rel=1e-9)


def test_gaussian_wells_in_two_dimensions_by_a_grid():
    # far apart minima of −log of a mixture: the mass of a part is known
    hessians = [np.diag([4.0, 9.0]), np.array([[1.0, 0.5], [0.5, 2.0]])]
    temperature = 0.5
    determinants = [np.linalg.slogdet(hessian)[1] for hessian in hessians]
    losses = np.array([0.0, 0.3])
    grid = np.linspace(-12, 12, 801)
    x, y = np.meshgrid(grid, grid)
    volume = []
    for loss, hessian in zip(losses, hessians, strict=True):
        form = hessian[0, 0] * x * x + 2 * hessian[0, 1] * x * y + hessian[1, 1] * y * y
        volume.append(np.exp(-(loss + form / 2) / temperature).sum())
    assert masses_of_minima(losses, determinants, temperature) == pytest.approx(
        np.array(volume) / sum(volume), rel=1e-9
    )


def test_what_breaks_the_statement_about_flat_minima_is_said():
    equal = white_noise_ratio((0, 0), (0, 1), 0.1, noise_ratio=1.02)
    assert equal.valid
    deep = white_noise_ratio((0, 0.05), (1, 0), 0.1)
    assert "favours the deeper well" in deep.warnings[0]
    assert deep.value == pytest.approx(math.exp(0.5 - 0.5))
    assert "not white noise" in white_noise_ratio((0, 0), (0, 1), 0.1, noise_ratio=2.6).warnings[0]
    assert "too large for a first order" in white_noise_ratio((0, 0), (0, 1), 0.1, corrections=(4, 0)).warnings[0]


def test_quadrature_of_a_gaussian_and_of_a_sharp_one():
    for curvature in (1.0, 1e6):
        masses = masses_by_quadrature(lambda x, h=curvature: h * x, np.ones_like, (-9, 9), [0.3 / curvature**0.5])
        assert masses[0] == pytest.approx(0.5 * math.erfc(-0.3 / math.sqrt(2)), rel=1e-9)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: anharmonic_correction(0, 1, 1), "curvature > 0"),
        (lambda: masses_of_minima([0, 1], [0], 1), "one shape"),
        (lambda: masses_of_minima([0], [0], 0), "temperature > 0"),
        (lambda: masses_of_minima([0, 0], [0, 0], 1, [-2, 0]), "too hot"),
        (lambda: white_noise_ratio((0, 1e3), (0, 0), 0.1), "beyond floating point"),
        (lambda: sgd_noise_ratio((1, -1), (1, 1), 1, 1), "curvatures"),
        (lambda: sgd_noise_ratio((1, 1), (1, 2), 1e4, 1), "one well holds all"),
        (lambda: effective_depth(SLOPE, lambda x: x + 0.5, -1, SADDLE), "noise > 0"),
        (lambda: masses_by_quadrature(SLOPE, lambda x: x, (-1, 1), [0]), "noise > 0"),
        (lambda: masses_by_quadrature(SLOPE, np.ones_like, (-1, 1), [2]), "increasing order"),
        (lambda: masses_by_quadrature(np.sign, lambda x: 1e-4 + (x > 0.01), (-1, 1), [0.5]), "do not settle"),
    ],
)
def test_bad_input_gets_a_sentence(ask, said):
    with pytest.raises(ValueError, match=said):
        ask()
