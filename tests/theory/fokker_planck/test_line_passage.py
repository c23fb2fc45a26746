"""Line: times to meet a region, chances to meet one before another, and the law of what has met none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from sgdscope.theory.fokker_planck.line import Line
from tests.theory.fokker_planck.potentials import Lopsided, Quartic, peers_density, peers_diffusion, peers_drift

RIGHT = (0.0, np.inf)


def peers(cells=2000, **settings):
    return Line(peers_drift, peers_diffusion, (-3, 3), cells, **settings)


def peers_exact():
    """Mean and variance of the passage −1 → 0 of the peers' problem, by nested quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    y = np.linspace(-3, 0, 301)
    x = (y[:-1, None] + y[1:, None]) / 2 + (y[1] - y[0]) / 2 * nodes
    w = (y[1] - y[0]) / 2 * weights
    scale = peers_density(x) * peers_diffusion(x)

    def times_from(source):  # u with −L u = source at the Gauss nodes: ∫_x^0 dy / (D ρ) ∫_{−3}^y ρ source
        dense = np.vander((nodes + 1) / 2, 12, increasing=True)
        partial = (np.vander((nodes + 1) / 2, 13, increasing=True)[:, 1:] / np.arange(1, 13)) @ np.linalg.pinv(dense)
        inside = (y[1] - y[0]) * (peers_density(x) * source) @ partial.T
        held = inside + np.cumsum(np.append(0.0, (peers_density(x) * source) @ w))[:-1, None]
        drop = held / scale
        within = (y[1] - y[0]) * drop @ partial.T
        total = np.cumsum(np.append(0.0, drop @ w))
        return total[-1] - (total[:-1, None] + within), total[-1] - total[200]

    mean, at_start = times_from(np.ones_like(x))
    _, half_second = times_from(mean)
    return at_start, 2 * half_second - at_start**2


def test_peers_passage_by_nested_quadrature():
    mean, variance = peers_exact()
    assert mean == pytest.approx(4.0670, abs=5e-5)
    assert peers().mean_first_passage_time(RIGHT, -1.0) == pytest.approx(mean, rel=2e-6)
    assert peers().passage_time_variance(RIGHT, -1.0) == pytest.approx(variance, rel=5e-6)


@pytest.mark.parametrize("cells", [1998, 1999, 1501, 777])
def test_the_wall_need_not_be_a_face(cells):
    line = peers(cells)
    tolerance = 2e-6 * (2000 / cells) ** 2
    assert line.mean_first_passage_time(RIGHT, -1.0) == pytest.approx(4.067005334, rel=tolerance)
    everywhere = line.mean_first_passage_time(RIGHT)
    assert everywhere.shape == (cells,)
    assert (everywhere[line.centres > 0] == 0).all()
    assert (np.diff(everywhere[line.centres < 0]) < 0).all()
    assert np.interp(-1, line.centres, everywhere) == pytest.approx(4.067005334, rel=2 * tolerance)


def test_passage_is_of_second_order():
    error = [abs(peers(n).mean_first_passage_time(RIGHT, -0.96) - REFERENCE) for n in (250, 500, 1000)]
    assert error[0] / error[1] == pytest.approx(4, rel=0.15)
    assert error[1] / error[2] == pytest.approx(4, rel=0.15)


REFERENCE = peers(64000).mean_first_passage_time(RIGHT, -0.96)


@pytest.mark.parametrize(
    ("q", "ito", "stratonovich", "anti_ito"),
    [
        (16, 90.197, 116.188, 152.943),
        (24, 384.383, 512.245, 691.999),
        (32, 1710.69, 2320.43, 3177.46),
        (48, 35895.8, 49470.7, 68576.1),
        (80, 1.68121e7, 2.34267e7, 3.27521e7),
    ],
)
def test_escape_with_state_dependent_noise(q, ito, stratonovich, anti_ito):
    for interpretation, exact in (("ito", ito), ("stratonovich", stratonovich), ("anti-ito", anti_ito)):
        line = Line.of_potential(Quartic, lambda x: (1 + x * x) / q, interpretation=interpretation)
        assert line.mean_first_passage_time(1.0, -1.0) == pytest.approx(exact, rel=1e-5)


def test_escape_with_noise_that_jumps():
    switch = 1 / np.sqrt(3)
    faces = np.concatenate([np.linspace(-2.5, -switch, 801), np.linspace(-switch, switch, 801)[1:],
                            np.linspace(switch, 2.5, 801)[1:]])  # fmt: skip
    for q, exact in ((24, (386.90, 525.19, 721.00)), (32, (1744.5, 2416.3, 3366.6)), (48, (37591.8, 52829.3, 74378.5))):
        for interpretation, time in zip(("ito", "stratonovich", "anti-ito"), exact, strict=True):
            line = Line(
                lambda x: x - x**3, lambda x, q=q: np.where(np.abs(x) < switch, 1 / q, 2 / q), (-2.5, 2.5), faces,
                interpretation=interpretation,
            )  # fmt: skip
            assert line.mean_first_passage_time(1.0, -1.0) == pytest.approx(time, rel=3e-5)


def test_escape_with_white_noise():
    assert Line.of_potential(Quartic, 1 / 24).mean_first_passage_time(1.0, -1.0) == pytest.approx(1941.774, rel=1e-6)
    for temperature, right, left in ((0.04, 3632.94, 2297.81), (0.03, 30551.7, 19200.2)):
        line = Line.of_potential(Lopsided, temperature)
        assert line.mean_first_passage_time(1.0, -1.0) == pytest.approx(right, rel=5e-6)
        assert line.mean_first_passage_time(-1.0, 1.0) == pytest.approx(left, rel=5e-6)


def test_escape_over_hundreds_of_noise_units_is_exponential():
    line = Line.of_potential(Quartic, 0.25 / 300, cells=4000)
    mean = line.mean_first_passage_time(1.0, -1.0)
    kramers = 2 * np.pi / np.sqrt(2) * np.exp(300)
    assert mean / kramers == pytest.approx(1 + 1.5 * 0.25 / 300, rel=1e-4)
    assert line.passage_time_variance(1.0, -1.0) == pytest.approx(mean**2, rel=1e-9)


def test_passage_out_of_an_interval_by_both_ends():
    # Free diffusion, D = ½: E τ = 1 − x², E τ² = (5 − 6x² + x⁴) / 3 between ±1
    line = Line(np.zeros_like, 0.5, (-2, 2), 800)
    inside = np.abs(line.centres) < 1
    x = line.centres[inside]
    mean, variance = line.mean_first_passage_time(~inside), line.passage_time_variance(~inside)
    assert mean[inside] == pytest.approx(1 - x * x, abs=2e-5)
    assert variance[inside] == pytest.approx((5 - 6 * x**2 + x**4) / 3 - (1 - x * x) ** 2, abs=5e-5)
    assert (mean[~inside] == 0).all()
    # By one end only, the other reflecting at 2: E τ = 3² − (2 − x)²
    assert line.mean_first_passage_time(-1.0)[inside] == pytest.approx(9 - (2 - x) ** 2, abs=5e-5)


def test_variance_does_not_drown_in_the_mean():
    # A slide of length 4 at speed 1: mean 4, variance 2 D · 4 (Wald), two thousand times less than the mean squared
    line = Line(np.ones_like, 1e-3, (-1, 4), 10000, ("reflecting", "absorbing"))
    assert line.mean_first_passage_time(None, 0.0) == pytest.approx(4, rel=1e-5)
    peclet = 0.5  # of a cell, by which the scheme spreads a little more than D does
    spread = 2e-3 * 4 * (peclet / 2) / np.tanh(peclet / 2)
    assert line.passage_time_variance(None, 0.0) == pytest.approx(spread, rel=1e-4)


def test_spread_starts_add_the_variance_of_their_means():
    line = peers(600)
    start = (line.point(-1.0) + line.point(-0.4)) / 2
    means = [line.mean_first_passage_time(RIGHT, x) for x in (-1.0, -0.4)]
    within = np.mean([line.passage_time_variance(RIGHT, x) for x in (-1.0, -0.4)])
    assert line.mean_first_passage_time(RIGHT, start) == pytest.approx(np.mean(means), rel=1e-4)
    assert line.passage_time_variance(RIGHT, start) == pytest.approx(within + np.var(means), rel=1e-4)


def test_passage_agrees_with_the_matrix():
    line = peers(150)
    inside = line.centres < 0.5
    q = line.matrix.toarray()[np.ix_(inside, inside)].T
    mean = np.linalg.solve(-q, np.ones(inside.sum()))
    second = np.linalg.solve(-q, 2 * mean)
    # The chain that jumps into the first cell of the target is the line whose wall is at the centre of that
    target = (float(line.centres[~inside][0]), 3.0)
    assert line.mean_first_passage_time(target)[inside] == pytest.approx(mean, abs=5e-4 * mean[0])
    assert line.passage_time_variance(target)[inside] == pytest.approx(second - mean**2, abs=5e-4 * second[0])


def test_committor_is_the_integral_of_its_scale():
    line = peers(1000)
    scale = [quad(lambda x: 1 / (peers_density(x) * peers_diffusion(x)), -1, at, epsrel=1e-12)[0]
             for at in (-0.5, 0.123, 0.7, 1.2)]  # fmt: skip
    q = line.committor(lambda x: x < -1, (1.2, np.inf))
    at = np.interp([-0.5, 0.123, 0.7], line.centres, q)
    assert at == pytest.approx(np.array(scale[:3]) / scale[3], abs=1e-3)
    q = line.committor((-3.0, -1.0), (1.2, np.inf))
    assert np.interp([-0.5, 0.123, 0.7], line.centres, q) == pytest.approx(np.array(scale[:3]) / scale[3], abs=2e-6)
    assert q[0] == 0
    assert q[-1] == 1


def test_committors_of_a_pair_add_to_one():
    line = Line.of_potential(Lopsided, 0.05)
    forward, back = line.committor(-1.0, 1.0), line.committor(1.0, -1.0)
    assert forward + back == pytest.approx(1, abs=1e-12)
    assert (np.diff(forward) >= 0).all()


def test_committor_knows_what_a_boundary_absorbs():
    line = Line(np.zeros_like, 1.0, (0, 4), 400, boundaries=("absorbing", "reflecting"))
    q = line.committor(3.0, 1.0)
    assert np.interp([0.5, 2.0, 3.5], line.centres, q) == pytest.approx([0.5, 0.5, 0.0], abs=1e-9)


def test_quasi_stationary_law_of_free_diffusion_is_a_sine():
    line = Line(np.zeros_like, 0.7, (0, np.pi), 900, boundaries="absorbing")
    masses, rate = line.quasi_stationary()
    assert rate == pytest.approx(0.7, rel=2e-6)
    assert line.density(masses) == pytest.approx(np.sin(line.centres) / 2, rel=1e-5)
    assert line.spectral_gap() == pytest.approx(rate, rel=1e-9)


@pytest.mark.parametrize("wall", [0.0, 0.1234])
def test_quasi_stationary_law_leaves_at_its_rate(wall):
    line = peers(2001)
    masses, rate = line.quasi_stationary((wall, np.inf))
    assert masses.sum() == pytest.approx(1, abs=1e-12)
    assert (masses[line.faces[:-1] >= wall] == 0).all()
    assert line.mean_first_passage_time((wall, np.inf), masses) == pytest.approx(1 / rate, rel=2e-5)
    # By symmetry the law cut at 0 is the odd mode of the whole line
    if wall == 0.0:
        assert rate == pytest.approx(line.spectral_gap(), rel=2e-6)


def test_quasi_stationary_rate_of_a_rare_escape_is_one_over_its_time():
    line = Line.of_potential(Quartic, 0.002)
    masses, rate = line.quasi_stationary((0.0, np.inf))
    assert rate * line.mean_first_passage_time((0.0, np.inf), -1.0) == pytest.approx(1, rel=1e-9)
    assert rate == pytest.approx(2.3186831e-55, rel=1e-5)
    assert masses.min() >= 0


@settings(max_examples=30, deadline=None)
@given(st.floats(0.03, 0.5), st.floats(-0.15, 0.15), st.floats(-0.8, 0.9))
def test_times_add_along_a_path(temperature, tilt, middle):
    # To go from −1 to 1.2 one passes every point between, and forgets what was before
    line = Line(lambda x: x - x**3 + tilt, temperature, (-2.5, 2.5), 1200)
    there, on = line.mean_first_passage_time(middle, -1.0), line.mean_first_passage_time(1.2, middle)
    assert line.mean_first_passage_time(1.2, -1.0) == pytest.approx(there + on, rel=5e-4)
    total = line.passage_time_variance(1.2, -1.0)
    assert total == pytest.approx(
        line.passage_time_variance(middle, -1.0) + line.passage_time_variance(1.2, middle), rel=5e-4
    )
