"""Line: slow decays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdscope.theory.fokker_planck.line import Line
from tests.theory.fokker_planck.potentials import Lopsided, Quadratic, Quartic, TripleWell, peers_diffusion, peers_drift

GAPS = {
    0.5: 0.422944, 0.25: 0.187170, 0.125: 0.0568182, 1 / 12: 0.0201549, 0.1: 0.0335453, 0.0625: 0.00744489,
    0.05: 0.00277614, 1 / 24: 0.00103527, 0.04: 8.08744e-4, 1 / 32: 1.42967e-4, 0.03: 1.02697e-4,
}  # fmt: skip


@pytest.mark.parametrize(("temperature", "gap"), GAPS.items())
def test_gap_of_the_quartic_double_well(temperature, gap):
    assert Line.of_potential(Quartic, temperature).spectral_gap() == pytest.approx(gap, rel=4e-6)


@pytest.mark.parametrize(
    ("temperature", "gap"), [(0.04, 7.13009e-4), (0.03, 8.48539e-5), (0.05, 2.54206e-3), (0.1, 3.28031e-2)]
)
def test_gap_of_the_lopsided_double_well(temperature, gap):
    assert Line.of_potential(Lopsided, temperature).spectral_gap() == pytest.approx(gap, rel=2e-6)


def test_local_slopes_of_the_gap_rise_to_the_barrier():
    temperatures = [0.5, 0.25, 0.125, 0.1, 0.0625, 0.05, 0.04, 1 / 32]
    logs = np.log([Line.of_potential(Quartic, d).spectral_gap() for d in temperatures])
    slopes = -np.diff(logs) / np.diff(1 / np.array(temperatures))
    assert slopes[[0, 1, 3, 4, 5, 6]] == pytest.approx([0.408, 0.298, 0.2509, 0.2466, 0.2469, 0.2475], abs=6e-4)


def test_gap_with_state_dependent_noise():
    assert Line(peers_drift, peers_diffusion, (-3, 3), 2000).spectral_gap() == pytest.approx(0.269473, rel=3e-6)


@pytest.mark.parametrize(("q", "ratio"), [(24, 1.025), (32, 1.006), (48, 1.0003)])
def test_gap_against_escape_time(q, ratio):
    line = Line.of_potential(Quartic, lambda x: (1 + x * x) / q)
    assert line.spectral_gap() * line.mean_first_passage_time(1.0, -1.0) / 2 == pytest.approx(ratio, abs=6e-4)


@pytest.mark.parametrize(("temperature", "ratio"), [(0.05, 1.013), (0.04, 1.004), (0.03, 1.0006)])
def test_gap_is_the_sum_of_exact_escape_rates_at_low_noise(temperature, ratio):
    line = Line.of_potential(Quartic, temperature)
    assert line.spectral_gap() * line.mean_first_passage_time(1.0, -1.0) / 2 == pytest.approx(ratio, abs=6e-4)


@pytest.mark.parametrize("temperature", [1e-3, 0.1, 10.0, 1e3])
def test_a_quadratic_well_relaxes_at_multiples_of_its_curvature(temperature):
    line = Line.of_potential(Quadratic(3.0, 0.7), temperature)
    rates, functions = line.slow_modes(3)
    assert rates == pytest.approx([3, 6, 9], rel=1e-4)
    z = (line.centres - 0.7) * np.sqrt(3 / temperature)
    inner = np.abs(z) < 4
    for function, hermite in zip(functions, (z, (z * z - 1) / np.sqrt(2), (z**3 - 3 * z) / np.sqrt(6)), strict=True):
        assert function[inner] == pytest.approx(hermite[inner], abs=2e-3)


def test_gaps_far_below_rounding_of_the_fastest_rate():
    for units in (100, 300, 550):
        temperature = 0.25 / units
        gap = Line.of_potential(Quartic, temperature, cells=4000).spectral_gap()
        kramers = 2 * np.sqrt(2) / (2 * np.pi) * np.exp(-units)
        assert gap / kramers == pytest.approx(1 - 1.5 * temperature, rel=1e-4)


def test_gap_is_of_second_order():
    gaps = [Line(peers_drift, peers_diffusion, (-3, 3), n).spectral_gap() for n in (100, 200, 400, 6400)]
    errors = np.abs(np.array(gaps[:3]) - gaps[3])
    assert errors[:-1] / errors[1:] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("potential", [Quartic, Lopsided, TripleWell])
@pytest.mark.parametrize("temperature", [0.5, 0.05, 0.004])
def test_modes_are_orthonormal_eigenfunctions(potential, temperature):
    line = Line.of_potential(potential, temperature, cells=1500)
    rates, functions = line.slow_modes(4)
    masses = line.stationary()
    assert (np.diff(rates) > 0).all()
    assert (functions[:, -1] > 0).all()
    assert (functions * masses) @ functions.T == pytest.approx(np.eye(4), abs=1e-9)
    assert functions @ masses == pytest.approx(0, abs=1e-9)
    applied = (line.matrix.T @ functions.T).T
    weight = np.sqrt(masses)
    fastest = -line.matrix.diagonal().min()
    residual = np.linalg.norm((applied + rates[:, None] * functions) * weight, axis=1)
    assert (residual < 1e-11 * fastest).all()


def test_the_slowest_function_tells_wells_apart_however_slow():
    line = Line.of_potential(TripleWell, 0.004)
    rates, functions = line.slow_modes(3)
    assert rates[1] < 1e-20
    assert rates[2] > 0.1
    wells = [np.abs(line.centres - x) < 0.2 for x in (-2.0, 0.0, 2.0)]
    for function in functions[:2]:
        for well in wells:
            assert np.ptp(function[well]) < 1e-6 * np.abs(function).max()
    # The right well exchanges with the middle one by the highest barrier or from the highest well: rates differ
    assert rates[0] < 1e-3 * rates[1]


def test_modes_between_walls_that_absorb():
    line = Line(np.zeros_like, 2.0, (0, 1), 800, boundaries="absorbing")
    rates, functions = line.slow_modes(3)
    assert rates == pytest.approx(2 * (np.pi * np.arange(1, 4)) ** 2, rel=2e-5)
    assert functions[1] == pytest.approx(-np.sqrt(2) * np.sin(2 * np.pi * line.centres), abs=1e-4)
    half = Line(np.zeros_like, 2.0, (0, 1), 800, boundaries=("reflecting", "absorbing"))
    assert half.slow_modes(2)[0] == pytest.approx(2 * (np.pi * np.array([0.5, 1.5])) ** 2, rel=1e-5)


def test_walls_that_are_never_met_do_not_matter():
    # Absorbing 2250 noise units up on the left, just behind the barrier on the right
    far = Line.of_potential(Quartic, 0.001, (-2, 0.3), 3000, "absorbing")
    near = Line.of_potential(Quartic, 0.001, (-2, 0.3), 3000, ("reflecting", "absorbing"))
    assert far.spectral_gap() == pytest.approx(near.spectral_gap(), rel=1e-9)
    assert far.quasi_stationary()[0] == pytest.approx(near.quasi_stationary()[0], abs=1e-12)
    functions = [line.slow_modes(3)[1] for line in (far, near)]
    middle = slice(1000, 2900)
    assert functions[0][:, middle] == pytest.approx(functions[1][:, middle], rel=1e-6)
    assert far.mean_first_passage_time(None, -1.0) == pytest.approx(near.mean_first_passage_time(None, -1.0), rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 1), st.floats(-0.3, 0.3), st.floats(0, 1), st.floats(0.3, 3))
def test_rates_scale_with_time_and_space(temperature, tilt, growth, factor):
    def line(stretch, speed):
        return Line(
            lambda x: speed * stretch * ((x / stretch) - (x / stretch) ** 3 + tilt),
            lambda x: speed * stretch**2 * temperature * (1 + growth * (x / stretch) ** 2),
            (-2 * stretch, 2 * stretch), 300,
        )  # fmt: skip

    assert line(factor, 1.0).spectral_gap() == pytest.approx(line(1.0, 1.0).spectral_gap(), rel=1e-9)
    assert line(1.0, factor).spectral_gap() == pytest.approx(factor * line(1.0, 1.0).spectral_gap(), rel=1e-9)
    mirrored = Line(lambda x: x - x**3 - tilt, lambda x: temperature * (1 + growth * x * x), (-2, 2), 300)
    assert mirrored.spectral_gap() == pytest.approx(line(1.0, 1.0).spectral_gap(), rel=1e-9)
