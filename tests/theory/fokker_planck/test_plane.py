"""The plane against closed forms: Gibbs laws, Ornstein-Uhlenbeck processes, separable wells; and its order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solve_continuous_lyapunov

from sgdscope.theory.fokker_planck import Line, Plane
from sgdscope.theory.fokker_planck.selling import selling
from tests.theory.fokker_planck.potentials import Quartic

GAPS = {0.25: 0.187170, 0.125: 0.0568182, 0.0625: 0.00744489, 1 / 24: 1.03527e-3}
"""Slowest rate of (x² − 1)²/4 at a temperature."""
BOX = ((-2.5, 2.5), (-2.0, 2.0))


def quartic(x, y):
    return Quartic.value(x) + y * y / 2


def linear(matrix):
    return lambda x, y: tuple(-(row[0] * x + row[1] * y) for row in matrix)


def ornstein_uhlenbeck(matrix, diffusion, cells, widths=4.5):
    """The process dx = −A x dt + √(2D) dW on a box of so many standard deviations, and its covariance."""
    covariance = solve_continuous_lyapunov(matrix, 2 * np.asarray(diffusion))
    a, b = widths * np.sqrt(np.diag(covariance))
    return Plane(diffusion, ((-a, a), (-b, b)), (cells, cells), drift=linear(matrix)), covariance


def covariance_of(plane):
    return np.einsum("n,ni,nj->ij", plane.stationary(), plane.centres, plane.centres)


@given(st.floats(-0.999, 0.999), st.floats(0.01, 100))
@settings(max_examples=100, deadline=None)
def test_any_covariance_is_a_positive_sum_over_lattice_directions(correlation, ratio):
    tensor = np.array([[1.0, correlation * np.sqrt(ratio)], [correlation * np.sqrt(ratio), ratio]])
    weights, vectors = selling(tensor[None])
    assert weights.min() >= 0
    assert np.allclose(np.einsum("k,ki,kj->ij", weights[0], vectors[0], vectors[0]), tensor, rtol=0, atol=1e-12 * ratio)
    assert np.abs(np.linalg.det(vectors[0, :2].astype(float))) == pytest.approx(1)  # they span the lattice


def test_diagonal_tensors_need_the_axes_only():
    weights, vectors = selling(np.array([[[2.0, 0.0], [0.0, 3.0]]]))
    used = weights[0] > 0
    assert sorted(zip(weights[0][used], np.abs(vectors[0][used]).tolist(), strict=True)) == [(2, [1, 0]), (3, [0, 1])]


@given(st.floats(0.1, 0.5), st.floats(0.5, 2), st.floats(-0.5, 0.5))
@settings(max_examples=10, deadline=None)
def test_gibbs_state_is_exact_for_constant_isotropic_noise(temperature, stiffness, tilt):
    def loss(x, y):
        return Quartic.value(x) + stiffness * (y - tilt * x) ** 2 / 2

    plane = Plane(temperature, ((-3, 3), (-4, 4)), (56, 72), potential=loss)
    gibbs = np.exp(-loss(*plane.centres.T) / temperature)
    gibbs /= gibbs.sum()
    assert np.allclose(plane.stationary(), gibbs, rtol=1e-10, atol=0)
    assert np.abs(plane.matrix @ gibbs).max() < 1e-13 * np.abs(plane.matrix.diagonal()).max()

    def gradient(x, y):
        pull = stiffness * (y - tilt * x)
        return Quartic.gradient(x) - tilt * pull, pull

    by_gradient = Plane(temperature, ((-3, 3), (-4, 4)), (56, 72), gradient=gradient)
    assert np.allclose(by_gradient.stationary(), gibbs, rtol=1e-9, atol=0)  # the quadrature is exact for polynomials


def test_gibbs_state_is_exact_along_oblique_directions():
    # b = −D ∇Φ with constant D: reversible whatever the correlation
    tensor = np.array([[0.2, 0.19], [0.19, 0.2]])

    def drift(x, y):
        return tuple(-(row[0] * (x**3 - x) + row[1] * y) for row in tensor)

    plane = Plane(tensor, ((-3.5, 3.5), (-5, 5)), (60, 60), drift=drift)
    gibbs = np.exp(-quartic(*plane.centres.T))
    assert np.allclose(plane.stationary(), gibbs / gibbs.sum(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("temperature", GAPS)
def test_gap_of_a_separable_double_well(temperature):
    gaps = [
        Plane(temperature, BOX, (cells, 40), potential=quartic).spectral_gap() / GAPS[temperature] - 1
        for cells in (120, 240)
    ]
    assert abs(gaps[1]) < 2e-3
    assert abs((4 * gaps[1] - gaps[0]) / 3) < 1e-4  # second order: extrapolated, the error is gone


def test_the_softer_direction_sets_the_gap():
    soft = Plane(0.25, ((-2.5, 2.5), (-120, 120)), (60, 100), potential=lambda x, y: Quartic.value(x) + y * y / 2e3)
    assert soft.spectral_gap() == pytest.approx(1e-3, rel=5e-3)


@pytest.mark.parametrize(
    ("correlation", "cells"),
    [(0.0, 56), (0.6, 56), *(pytest.param(c, 104, marks=pytest.mark.slow) for c in (0.95, -0.95))],
)
def test_ornstein_uhlenbeck_with_full_covariance(correlation, cells):
    matrix = np.array([[1.0, 0.4], [0.2, 1.5]])
    tensor = np.array([[1.0, correlation], [correlation, 1.0]])
    slowest = np.linalg.eigvals(matrix).real.min()
    errors = []
    for count in (cells, 2 * cells):
        plane, covariance = ornstein_uhlenbeck(matrix, tensor, count, widths=6.0)
        errors.append((covariance_of(plane)[0, 0] / covariance[0, 0] - 1, plane.spectral_gap() / slowest - 1))
        scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
        assert np.allclose(covariance_of(plane), covariance, rtol=0, atol=(160 / count) ** 2 * 0.012 * scale)
    ratios = np.array(errors[0]) / np.array(errors[1])
    assert np.allclose(ratios, 4, rtol=0.25), f"order {np.log2(ratios)}"


@pytest.mark.parametrize("correlation", [0.95, -0.95, pytest.param(0.99, marks=pytest.mark.slow)])
def test_positive_and_conserving_under_strong_correlation(correlation):
    tensor = np.array([[1.0, 1.3 * correlation], [1.3 * correlation, 1.69]])
    plane, _ = ornstein_uhlenbeck(np.array([[1.0, 0.1], [0.0, 1.2]]), tensor, 150 if abs(correlation) > 0.96 else 70)
    off = plane.matrix.tocoo()
    assert off.data[off.row != off.col].min() >= 0
    assert np.abs(plane.matrix.sum(axis=0)).max() < 1e-10 * np.abs(plane.matrix.diagonal()).max()
    states = plane.evolve(plane.point((1.0, 1.3)), [1e-3, 0.1, 10.0])
    assert states.min() >= 0
    assert np.abs(states.sum(axis=1) - 1).max() < 1e-10
    assert np.abs(states[-1] - plane.stationary()).sum() < 3e-4


def test_moments_of_an_evolving_gaussian():
    matrix, tensor = np.array([[1.0, 0.5], [-0.3, 0.8]]), np.array([[0.3, 0.2], [0.2, 0.3]])
    start, time = np.array([0.7, -0.4]), 0.8
    values, vectors = np.linalg.eig(matrix)
    decay = (vectors * np.exp(-time * values) @ np.linalg.inv(vectors)).real
    law = solve_continuous_lyapunov(matrix, 2 * tensor)
    expected = law - decay @ law @ decay.T
    plane, _ = ornstein_uhlenbeck(matrix, tensor, 100)
    masses = plane.evolve(plane.point(start), [time], tolerance=1e-6)[0]
    mean = masses @ plane.centres
    spread = np.einsum("n,ni,nj->ij", masses, plane.centres - mean, plane.centres - mean)
    assert np.allclose(mean, decay @ start, atol=2e-3)
    assert np.allclose(spread, expected, atol=5e-3)


def test_a_circling_drift_shows_its_frequency():
    plane = Plane(0.1, ((-2, 2), (-2, 2)), (60, 60), drift=linear([[1.0, 20.0], [-20.0, 1.0]]))
    assert plane.frequencies == (20.0,)
    rates, _ = plane.slow_modes(1, 20.0)
    assert abs(rates[0].imag) == pytest.approx(20, rel=0.01)
    assert plane.spectral_gap() == pytest.approx(rates[0].real, rel=1e-6) == pytest.approx(1, rel=0.05)
    real = plane.slow_modes(3, 0.0)[0]
    assert (real.real[np.abs(real.imag) < 1] > 1.2).all()  # those that do not turn decay faster


@pytest.mark.parametrize("interpretation", ["ito", "stratonovich", "anti-ito"])
def test_interpretations_agree_with_the_line(interpretation):
    def noise(x):
        return (1 + x * x) / 12

    line = Line(lambda x: x - x**3, noise, (-2.5, 2.5), 800, interpretation=interpretation)
    plane = Plane(
        lambda x, y: (noise(x), 0.1 + 0 * y), BOX, (100, 32), gradient=lambda x, y: (x**3 - x, y),
        interpretation=interpretation,
    )  # fmt: skip
    along = plane.stationary().reshape(100, 32).sum(axis=1)
    assert np.abs(along - line.stationary().reshape(100, 8).sum(axis=1)).sum() < 2e-3
    assert plane.spectral_gap() == pytest.approx(line.spectral_gap(), rel=5e-3)


@pytest.mark.slow
def test_second_order_with_noise_that_varies_in_size_and_direction():
    def tensor(x, y):
        across = 0.09 * np.sin(y) * np.sqrt(1 + x * x)
        return (0.1 * (1 + x * x), across), (across, 0.1)

    def numbers(cells):
        plane = Plane(
            tensor, ((-4, 4), (-2.4, 2.4)), (cells, cells), gradient=lambda x, y: (x**3 - x + 0.2 * y, y + 0.2 * x)
        )
        masses, (x, y) = plane.stationary(), plane.centres.T
        assert masses.min() >= 0
        return np.array([masses @ x**2, masses @ y**2, plane.spectral_gap()])

    coarse, middle, fine = (numbers(cells) for cells in (64, 128, 256))
    order = np.log2(np.abs((coarse - middle) / (middle - fine)))
    assert (order > 1.7).all(), order


def test_escape_with_transverse_curvature_that_changes():
    # L = (x² − 1)²/4 + ½ (1 + 2x²) y², D = diag(1 + x², 1 + 2x²)/24, −1 → 1: simulated ratio to the time on a line
    line = Line(lambda x: x - x**3, lambda x: (1 + x * x) / 24, (-2.25, 2.25))
    alone = line.mean_first_passage_time((1, np.inf), -1.0)
    assert alone == pytest.approx(384.383, rel=2e-3)
    plane = Plane(
        lambda x, y: ((1 + x * x) / 24, (1 + 2 * x * x) / 24), ((-2.25, 2.25), (-1.75, 1.75)), (150, 90),
        gradient=lambda x, y: (x**3 - x + 2 * x * y * y, (1 + 2 * x * x) * y),
    )  # fmt: skip
    both = plane.mean_first_passage_time(lambda x, y: x >= 1, (-1.0, 0.0))
    assert both / alone == pytest.approx(0.538, abs=0.013)
    spread = np.sqrt(plane.passage_time_variance(lambda x, y: x >= 1, (-1.0, 0.0))) / both
    assert spread == pytest.approx(1, abs=0.05)  # rare escapes: nearly exponential
    _, rate = plane.quasi_stationary(lambda x, y: x >= 1)
    assert 1 / rate == pytest.approx(both, rel=0.05)
    half = plane.committor(lambda x, y: x <= -1, lambda x, y: x >= 1).reshape(150, 90)
    assert np.allclose(half + half[::-1], 1, atol=1e-9)


def test_walls_that_are_meant():
    plane = Plane(0.3, ((0, 1), (0, 2)), (20, 40), drift=lambda x, y: (0 * x, 0 * y), walls=True)
    assert np.allclose(plane.stationary(), 1 / 800)
    assert plane.spectral_gap() == pytest.approx(0.3 * (np.pi / 2) ** 2, rel=1e-3)
    tensor = np.array([[0.3, 0.2], [0.2, 0.3]])
    oblique = Plane(tensor, ((0, 1), (0, 1)), (20, 20), drift=lambda x, y: (0 * x, 0 * y), walls=True)
    assert np.allclose(oblique.stationary(), 1 / 400)


def test_point_has_its_mean_where_it_should():
    plane = Plane(0.25, BOX, (30, 20), potential=quartic)
    masses = plane.point((-0.43, 0.78))
    assert masses.sum() == pytest.approx(1)
    assert np.allclose(masses @ plane.centres, (-0.43, 0.78))
    assert (masses > 0).sum() == 4
    assert plane.point((-2.5, 2.0)).max() == 1
    with pytest.raises(ValueError, match="in the box"):
        plane.point((3.0, 0.0))


def flat(x, y):
    return 0 * x, 0 * y


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"diffusion": ((0.1, 0.2), (0.2, 0.1)), "drift": flat}, r"positive definite .* at \(x, y\) = \("),
        ({"diffusion": ((0.1, 0.02), (0.03, 0.1)), "drift": flat}, "symmetric"),
        ({"diffusion": -0.1, "potential": quartic}, "positive definite"),
        ({"diffusion": lambda x, y: np.where(x > 1, np.nan, 0.1), "gradient": flat}, r"finite, got .* = \(1\."),
        ({"diffusion": (0.1, 0.2, 0.3), "drift": flat}, "a number, a pair or a 2 × 2 array"),
        ({"diffusion": 0.25}, "exactly one of potential, gradient and drift"),
        ({"diffusion": 0.25, "potential": quartic, "drift": flat}, "exactly one of potential, gradient and drift"),
        ({"diffusion": (0.25, 0.1), "potential": quartic}, "give the gradient instead"),
        ({"diffusion": 0.25, "potential": quartic, "interpretation": "after"}, "expected an interpretation among"),
        ({"diffusion": ((0.2, 0.1), (0.1, 0.2)), "drift": flat, "interpretation": "stratonovich"}, "square root"),
        ({"diffusion": 0.25, "potential": lambda x, y: y * y - x * x}, r"side x = -2.5 .* does not confine"),
        ({"diffusion": 0.25, "potential": lambda x, y: x * x + y**3}, "inwards at the side y = -2"),
        ({"diffusion": 0.25, "potential": lambda x, y: x + np.inf}, "expected a finite potential"),
        ({"diffusion": 0.25, "drift": lambda x, y: (x, y, x)}, "a drift of two components, got 3"),
        ({"diffusion": 0.25, "potential": quartic, "box": ((1, -1), (0, 1))}, "expected a box"),
        ({"diffusion": 0.25, "potential": quartic, "cells": (4, 40)}, "at least 8 cells"),
        ({"diffusion": 5e-4, "potential": quartic, "cells": (100, 40)}, "cells are needed along x, got 100"),
    ],
)  # fmt: skip
def test_input_is_checked(settings, said):
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=said):
        Plane(**{"box": BOX, "cells": (40, 40), **settings})


def test_a_coarse_grid_is_warned_of_and_a_cut_law_refused():
    with pytest.warns(UserWarning, match="at least 46 cells are needed along x, got 40"):
        Plane(0.08, BOX, (40, 40), potential=quartic)
    narrow = Plane(0.25, ((-1.4, 1.4), (-2.0, 2.0)), (40, 40), potential=quartic)
    with pytest.raises(ValueError, match=r"at the side x = -1.4 of the box the stationary density is .* enlarge"):
        narrow.stationary()
    strong = np.array([[1.0, 0.99999], [0.99999, 1.0]])
    with pytest.raises(ValueError, match="so correlated that a direction spans"):
        Plane(strong * 0.2, ((-9, 9), (-1, 1)), (8, 60), drift=flat, walls=True)
