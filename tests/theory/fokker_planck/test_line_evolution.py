"""Line: masses in time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eigh_tridiagonal
from scipy.special import erf

from sgdscope.theory.fokker_planck.line import Line
from tests.theory.fokker_planck.potentials import Lopsided, Quadratic, Quartic, peers_diffusion, peers_drift


def peers(cells=2000, **settings):
    return Line(peers_drift, peers_diffusion, (-3, 3), cells, **settings)


def by_eigenvectors(line, masses, time):
    """e^{tQ} from all eigenvectors of the symmetrised generator."""
    q = line.matrix
    root = np.sqrt(line.stationary())
    off = np.sqrt(q.diagonal(1) * q.diagonal(-1))
    values, vectors = eigh_tridiagonal(q.diagonal(), off)
    return root * (vectors @ (np.exp(values * time) * (vectors.T @ (masses / root))))


@pytest.mark.parametrize("time", [1e-6, 1e-3, 0.1, 1.0, 7.0, 50.0, 1e3])
@pytest.mark.parametrize("start", [-1.0, 0.2, 2.5])
def test_evolution_against_all_eigenvectors(time, start):
    line = peers(400)
    masses = line.point(start)
    found = line.evolve(masses, [time], tolerance=1e-9)
    assert found.shape == (1, 400)
    assert np.abs(found[0] - by_eigenvectors(line, masses, time)).sum() < 1e-9
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1, abs=1e-13)


def test_evolution_to_the_stationary_law():
    line = peers()
    found = line.evolve(line.point(-1.0), [0.0, 50.0, 90.0])
    assert (found[0] == line.point(-1.0)).all()
    left = np.abs(found - line.stationary()).sum(axis=1)
    assert left[1] < 1e-4
    assert left[2] == pytest.approx(left[1] * np.exp(-40 * line.spectral_gap()), rel=1e-2, abs=1e-8)
    assert np.abs(found.sum(axis=1) - 1).max() < 1e-13


def test_a_quadratic_well_stays_gaussian():
    line = Line.of_potential(Quadratic(2.0), 0.3)
    times = np.array([0.05, 0.3, 1.0])
    found = line.evolve(line.point(0.8), times)
    mean, variance = 0.8 * np.exp(-2 * times), 0.15 * (1 - np.exp(-4 * times))
    assert found @ line.centres == pytest.approx(mean, rel=1e-4)
    for masses, m, v in zip(found, mean, variance, strict=True):
        below = (1 + erf((line.faces - m) / np.sqrt(2 * v))) / 2
        assert np.abs(masses - np.diff(below)).sum() < 2e-4


def test_ages_of_the_universe_pass_as_one_number():
    line = Line.of_potential(Quartic, 0.002)  # λ₁ = 2.3e-55
    times = np.array([1.0, 1e53, 1e54, 1e55, 1e57])
    left = line.evolve(line.point(-1.0), times, tolerance=1e-8)[:, line.centres < 0].sum(axis=1)
    assert left == pytest.approx(0.5 + 0.5 * np.exp(-line.spectral_gap() * times), abs=1e-8)


def test_order_and_repetition_of_times_do_not_matter():
    line = Line.of_potential(Lopsided, 0.05, cells=500)
    start = line.point(-0.5)
    found = line.evolve(start, [3.0, 0.2, 1e6, 3.0])
    assert (found[0] == found[3]).all()
    assert found[1] == pytest.approx(line.evolve(start, [0.2])[0], abs=0)
    assert line.evolve(start, []).shape == (0, 500)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.03, 1), st.floats(-0.2, 0.2), st.floats(1e-4, 30), st.floats(1e-4, 30), st.floats(-1.9, 1.9))
def test_evolution_is_a_positive_semigroup(temperature, tilt, first, second, start):
    line = Line(lambda x: x - x**3 + tilt, lambda x: temperature * (1 + x * x), (-2, 2), 200)
    at_once = line.evolve(line.point(start), [first, first + second])
    assert at_once.min() >= 0
    assert np.abs(at_once.sum(axis=1) - 1).max() < 1e-12
    assert np.abs(line.evolve(at_once[0], [second])[0] - at_once[1]).sum() < 3e-8
    distance = np.abs(at_once - line.stationary()).sum(axis=1)
    assert distance[1] <= distance[0] + 1e-8


def test_survival_between_walls_that_absorb():
    line = Line(np.zeros_like, 0.5, (0, 1), 800, boundaries="absorbing")
    times = np.array([1e-3, 0.03, 0.2, 1.0])
    odd = np.arange(1, 400, 2)
    alive = (4 / np.pi * np.sin(odd * np.pi * 0.3) / odd * np.exp(-np.outer(times, (odd * np.pi) ** 2 / 2))).sum(axis=1)
    found = line.evolve(line.point(0.3), times).sum(axis=1)
    assert found == pytest.approx(alive, abs=2e-5)
    assert found.sum() < len(times)
    slow = Line.of_potential(Quartic, 0.01, boundaries=("reflecting", "absorbing"), interval=(-2, 0), cells=3000)
    masses, rate = slow.quasi_stationary()
    kept = slow.evolve(masses, [1.0 / rate])[0]
    assert kept == pytest.approx(masses / np.e, abs=1e-9)


def test_implicit_steps_are_positive_and_of_first_order():
    line = peers(500)
    start = line.point(-1.0)
    exact = line.evolve(start, [1.0])[0]
    errors = []
    for count in (20, 40, 80):
        found = line.implicit_steps(start, np.full(count, 1 / count))
        assert (found > 0).all()
        assert found.sum() == pytest.approx(1, abs=1e-13)
        errors.append(np.abs(found - exact).sum())
    assert np.array(errors[:-1]) / errors[1:] == pytest.approx(2, rel=0.1)


def test_growing_implicit_steps_reach_the_stationary_law():
    line = peers()
    growing = np.geomspace(1e-3, 10, 60)
    found = line.implicit_steps(line.point(-1.0), growing * 50 / growing.sum())
    assert np.abs(found - line.stationary()).sum() < 1e-4
    assert found.min() > 0
    assert abs(found.sum() - 1) < 1e-10


def test_enormous_implicit_steps_stay_positive():
    line = Line.of_potential(Quartic, 0.002)
    found = line.implicit_steps(line.point(-1.0), [1e-9, 1.0, 1e6, 1e12])
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(1, abs=1e-12)


def test_refuses_a_tolerance_rounding_does_not_allow():
    line = Line.of_potential(Quadratic(1.0), 0.1, cells=8000)
    with pytest.raises(ValueError, match=r"rounding does not allow a tolerance of 1e-12 at t = 0\.3 on 8000"):
        line.evolve(line.point(0.0), [0.3], tolerance=1e-12)
