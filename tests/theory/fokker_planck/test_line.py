"""Line: its generator and its stationary law."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from sgdscope.theory.fokker_planck.line import Line
from tests.theory.fokker_planck.potentials import (
    Lopsided,
    Quadratic,
    Quartic,
    peers_density,
    peers_diffusion,
    peers_drift,
)

INTERPRETATIONS = ("ito", "stratonovich", "anti-ito")


def cell_masses(density, faces):
    """Masses of the cells by adaptive quadrature, every 50th of them."""
    total = quad(density, faces[0], faces[-1], points=[-1.0, 0.0, 1.0], epsabs=0, epsrel=1e-13, limit=200)[0]
    chosen = np.arange(0, len(faces) - 1, 50)
    return chosen, np.array([quad(density, faces[i], faces[i + 1], epsabs=0, epsrel=1e-13)[0] for i in chosen]) / total


def test_stationary_masses_of_the_peers_problem_are_those_of_quadrature():
    line = Line(peers_drift, peers_diffusion, (-3, 3), 2000)
    chosen, exact = cell_masses(peers_density, line.faces)
    assert line.stationary()[chosen] == pytest.approx(exact, rel=1e-11)
    assert line.stationary().sum() == pytest.approx(1, abs=1e-14)
    density = peers_density(line.centres)
    density /= density.sum() * line.volumes[0]
    assert np.abs(line.density(line.stationary()) - density) @ line.volumes < 3e-6


@pytest.mark.parametrize(("interpretation", "power"), [("ito", 1.0), ("stratonovich", 0.5), ("anti-ito", 0.0)])
def test_interpretations_differ_by_a_power_of_the_diffusion(interpretation, power):
    line = Line(peers_drift, peers_diffusion, (-3, 3), 500, interpretation=interpretation)
    chosen, exact = cell_masses(lambda x: peers_density(x) * (1 + x * x / 2) ** (1 - power), line.faces)
    assert line.stationary()[chosen] == pytest.approx(exact, rel=1e-9)


def test_interpretation_is_a_change_of_drift():
    # a + α D' in Itô's sense is the same process
    for interpretation, share in (("stratonovich", 0.5), ("anti-ito", 1.0)):
        given_one = Line(peers_drift, peers_diffusion, (-3, 3), 400, interpretation=interpretation)
        ito = Line(lambda x, share=share: peers_drift(x) + share * x / 4, peers_diffusion, (-3, 3), 400)
        assert given_one.stationary() == pytest.approx(ito.stationary(), rel=1e-9)
        assert given_one.spectral_gap() == pytest.approx(ito.spectral_gap(), rel=1e-4)


def test_walls_of_thousands_of_noise_units_are_ordinary():
    line = Line.of_potential(Quartic, 0.002, interval=(-3, 3), cells=3000)
    masses = line.stationary()
    assert np.isfinite(masses).all()
    assert masses == pytest.approx(masses[::-1], rel=1e-9, abs=1e-280)
    top = masses[len(masses) // 2] / masses[np.abs(line.centres - 1).argmin()]
    assert np.log(top) == pytest.approx(-0.25 / 0.002, abs=0.01)
    assert line.chain.log_mass[0] == pytest.approx(-16 / 0.002, rel=0.01)


def test_steep_cells_move_mass_at_the_right_speed():
    # Péclet number 50 per cell, far beyond what the grid resolves: still the speed a of pure drift
    diffusion, width = 1e-3, 0.05
    faces = np.append(np.arange(-1, 4.01, width), np.linspace(4, 6, 800)[1:])
    line = Line(lambda x: np.minimum(1.0, 5 - x), diffusion, (faces[0], faces[-1]), faces)
    left, right = line.chain.rates()
    slope = slice(1, 98)
    assert (right - left)[slope] * width == pytest.approx(1.0, rel=1e-6)
    times = [line.mean_first_passage_time((3.0, np.inf), x) for x in (0.0, 2.0)]
    assert times[0] - times[1] == pytest.approx(2.0, rel=1e-9)
    assert times[1] == pytest.approx(1.0, abs=width)


@settings(max_examples=40, deadline=None)
@given(
    st.floats(0.03, 1), st.floats(-0.2, 0.2), st.floats(0, 2), st.sampled_from(INTERPRETATIONS), st.integers(200, 300)
)
def test_generator_is_a_generator_in_detailed_balance(temperature, tilt, growth, interpretation, cells):
    line = Line(
        lambda x: x - x**3 + tilt, lambda x: temperature * (1 + growth * x * x), (-2, 2), cells,
        interpretation=interpretation,
    )  # fmt: skip
    q = line.matrix.toarray()
    fastest = -q.diagonal().min()
    assert (q - np.diag(q.diagonal()) >= 0).all()
    assert np.abs(q.sum(axis=0)).max() <= 1e-15 * fastest
    masses = line.stationary()
    flow = q * masses
    assert np.abs(flow - flow.T).max() <= 1e-12 * np.abs(flow).max()
    assert np.abs(q @ masses).max() <= 1e-12 * fastest * masses.max()
    assert (masses > 0).all()
    assert masses.sum() == pytest.approx(1, abs=1e-13)


def test_point_has_its_mean_and_full_mass():
    line = Line.of_potential(Quartic, 0.1, cells=400)
    for at in (-1.0, 0.3, line.centres[17], line.centres[0] + 1e-3):
        masses = line.point(at)
        assert masses.sum() == pytest.approx(1, abs=1e-15)
        assert masses.min() >= 0
        assert masses @ line.centres == pytest.approx(at, abs=1e-14)
    assert line.point(line.faces[-1]).argmax() == 399


def test_mass_in_an_interval():
    line = Line.of_potential(Quadratic(2.0), 0.5)
    masses = line.stationary()
    assert line.mass_in(masses, (-np.inf, np.inf)) == pytest.approx(1)
    assert line.mass_in(masses, (-np.inf, 0.0)) == pytest.approx(0.5, abs=1e-6)
    assert line.mass_in(masses, (-0.5, 0.5)) == pytest.approx(0.6826894921, abs=1e-5)  # one standard deviation


def test_automatic_interval_holds_the_law_wherever_it_is():
    for centre in (0.0, -37.0, 300.0):
        line = Line.of_potential(Quadratic(1.0, centre), 0.25)
        masses = line.stationary()
        assert masses @ line.centres == pytest.approx(centre, abs=1e-6)
        assert masses @ (line.centres - centre) ** 2 == pytest.approx(0.25, rel=1e-4)
        assert max(masses[0], masses[-1]) < 1e-15


def test_automatic_interval_keeps_a_well_that_holds_next_to_nothing():
    class Tilted:
        value = staticmethod(lambda x: Quartic.value(x) + 0.1 * x)
        gradient = staticmethod(lambda x: Quartic.gradient(x) + 0.1)

    line = Line.of_potential(Tilted, 0.001)  # the right well is 200 noise units above the left one
    assert line.faces[-1] > 1.05
    assert 0 < line.mass_in(line.stationary(), (0.5, 1.5)) < 1e-80


def test_faces_may_be_given():
    even = Line.of_potential(Lopsided, 0.1, (-2.5, 2.2), 600)
    given_faces = Line.of_potential(Lopsided, 0.1, (-2.5, 2.2), even.faces)
    assert given_faces.stationary() == pytest.approx(even.stationary(), rel=1e-12)
    stretched = np.sinh(np.linspace(-1.6, 1.5, 900))
    uneven = Line.of_potential(Lopsided, 0.1, (stretched[0], stretched[-1]), stretched)
    assert uneven.spectral_gap() == pytest.approx(3.28031e-2, rel=1e-4)
    assert uneven.volumes == pytest.approx(np.diff(stretched))


def test_density_of_a_constant_force_field_is_exponential():
    line = Line(lambda x: np.full_like(x, -3.0), 1.5, (0, 4), 800)
    edges = np.exp(-2 * line.faces)
    assert line.stationary() == pytest.approx((edges[:-1] - edges[1:]) / (1 - edges[-1]), rel=1e-11)
