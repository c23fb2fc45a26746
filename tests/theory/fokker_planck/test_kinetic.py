"""The kinetic equation against closed forms, tabulated gaps, its own other form, and simulated escapes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdscope.theory.fokker_planck import Generator, Kinetic, Line
from tests.theory.fokker_planck.potentials import Quartic

FRICTIONS = (0.3, 1, 3, 10)
GAPS = {
    1 / 16: (5.82469e-3, 4.84442e-3, 2.29709e-3, 7.38799e-4),
    1 / 24: (8.64102e-4, 6.60541e-4, 3.17225e-4, 1.02658e-4),
    1 / 32: (1.22930e-4, 9.03583e-5, 4.36550e-5, 1.41711e-5),
}
"""Slowest rates of (x² − 1)²/4 by temperature and friction."""


def well(x):
    return x**4 / 4 - x**2 / 2


def quadratic(x):
    return x * x / 2


def double(temperature=0.25, friction=1.0, cells=(100, 60), interval=(-2.5, 2.5)):
    return Kinetic(temperature, friction, interval, cells, potential=well)


@pytest.mark.parametrize("temperature", GAPS)
@pytest.mark.parametrize("friction", FRICTIONS)
def test_tabulated_gaps_of_the_double_well(temperature, friction):
    kinetic = Kinetic(temperature, friction, (-2.2, 2.2), potential=Quartic.value)
    tabulated = GAPS[temperature][FRICTIONS.index(friction)]
    # at friction 0.3 the table is 0.1 % above what 65 and 129 modes agree on
    assert kinetic.spectral_gap() == pytest.approx(tabulated, rel=1.5e-3 if friction < 1 else 3e-5)
    assert kinetic.hermite.gap(1e-6).error <= 1e-6


@pytest.mark.parametrize(("friction", "gap"), [(0.1, 0.05), (0.3, 0.15), (1, 0.5), (3, 0.381966), (10, 0.1010205)])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_gap_in_a_quadratic_well_at_any_temperature(friction, gap, temperature):
    # Re (Γ − √(Γ² − 4 H)) / 2: at weak friction the slowest mode turns, and faster real ones lie nearer to zero
    kinetic = Kinetic(
        temperature, friction, (-6 * math.sqrt(temperature), 6 * math.sqrt(temperature)), potential=quadratic
    )
    assert kinetic.spectral_gap() == pytest.approx(gap, rel=2e-5)


def test_rates_of_a_quadratic_well_are_sums_of_two():
    rates, functions = Kinetic(0.5, 3.0, (-4.5, 4.5), (240, 40), potential=quadratic).slow_modes(4)
    slow, fast = (3 - math.sqrt(5)) / 2, (3 + math.sqrt(5)) / 2
    assert np.allclose(rates, sorted([slow, 2 * slow, 3 * slow, 4 * slow]), rtol=2e-3)
    # the slowest mean is that of v + fast · x
    kinetic = Kinetic(0.5, 3.0, (-4.5, 4.5), (240, 40), potential=quadratic)
    x, v = kinetic.centres.T
    expected = v + fast * x
    expected /= np.sqrt(kinetic.stationary() @ expected**2)
    assert abs(kinetic.stationary() @ (expected * functions[0])) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("friction", "gap"), [(1.0, 0.136503), (0.1, 0.0630)])
def test_a_gap_costs_few_modes_and_states_its_error(friction, gap):
    expansion = double(friction=friction, cells=(200, 40)).hermite
    exact = expansion.gap(1e-5)
    assert exact.rate == pytest.approx(gap, rel=1e-3)
    quick = expansion.gap(1e-3)
    assert quick.modes <= 33
    assert abs(quick.rate / exact.rate - 1) <= quick.error <= 1e-3


def test_truncations_close_in_from_both_sides():
    expansion = double(friction=0.3, cells=(120, 40)).hermite
    limit = expansion.gap(1e-8).rate
    for modes in (8, 12, 16):
        even, odd = (expansion.modes(1, count)[0][0].real for count in (modes, modes + 1))
        assert odd < limit < even
        assert abs((even + odd) / 2 - limit) < 0.2 * (even - odd)


@given(st.floats(0.05, 5), st.floats(0.2, 1), st.floats(-0.3, 0.3))
@settings(max_examples=10, deadline=None)
def test_modes_that_turn_decay_at_half_the_friction_at_least(friction, temperature, tilt):
    kinetic = Kinetic(temperature, friction, (-3.5, 3.5), (80, 40), potential=lambda x: well(x) + tilt * x)
    for frequency in (0.0, 1.0):
        rates, _ = kinetic.hermite.modes(4, 16, frequency)
        turning = np.abs(rates.imag) > 1e-6
        assert (rates[turning].real >= friction / 2 * (1 - 1e-9)).all()


def test_strong_friction_is_the_line():
    line = Line.of_potential(Quartic, 1 / 16, (-2.2, 2.2), cells=800)
    kinetic = Kinetic(1 / 16, 60.0, (-2.2, 2.2), potential=Quartic.value)
    assert 60 * kinetic.spectral_gap() == pytest.approx(line.spectral_gap(), rel=1e-3)


# -- grid of cells -------------------------------------------------------------------------------------------------


@given(st.floats(0.15, 1), st.floats(0.05, 10), st.floats(-0.5, 0.5))
@settings(max_examples=10, deadline=None)
def test_gibbs_state_is_at_rest_exactly(temperature, friction, tilt):
    kinetic = Kinetic(temperature, friction, (-3.5, 3.5), (64, 32), potential=lambda x: well(x) + tilt * x)
    x, v = kinetic.centres.T
    gibbs = np.exp(-(well(x) + tilt * x + v * v / 2) / temperature)
    gibbs /= gibbs.sum()
    assert np.allclose(kinetic.stationary(), gibbs, rtol=1e-12, atol=0)
    assert np.abs(kinetic.matrix @ gibbs).max() < 1e-12
    found = Generator(kinetic.matrix, kinetic.centres).stationary()  # solved, knowing nothing but the rates
    assert np.abs(found - gibbs).sum() < 1e-12
    off = kinetic.matrix.tocoo()
    assert off.data[off.row != off.col].min() >= 0


def test_two_forms_agree_as_the_grid_is_refined():
    hermite = double().spectral_gap()
    errors = [Generator.slow_modes(double().refined(factor), 1)[0][0].real / hermite - 1 for factor in (1, 2, 4)]
    assert all(error > 0 for error in errors)  # upwinding adds diffusion
    assert np.allclose(np.divide(errors[:-1], errors[1:]), 2, atol=0.3)  # of first order
    value, error = double().extrapolated(lambda k: Generator.slow_modes(k, 1)[0][0].real)
    assert abs(value / hermite - 1) < 2e-3
    assert error < 5e-3 * value


def test_modes_of_both_forms_have_the_same_shape():
    kinetic = double(cells=(200, 60))
    rates, functions = kinetic.slow_modes(1)
    _, of_grid = Generator.slow_modes(kinetic, 1)
    assert np.isrealobj(rates)
    assert kinetic.stationary() @ functions[0] ** 2 == pytest.approx(1)
    assert abs(kinetic.stationary() @ (functions[0] * of_grid[0].real)) == pytest.approx(1, abs=1e-3)


def test_moments_of_an_evolving_gaussian():
    kinetic = Kinetic(0.5, 1.0, (-4.5, 4.5), (80, 48), potential=quadratic)
    time, start = 1.5, np.array([1.0, 0.5])
    decay = math.exp(-time / 2)
    turn = math.sqrt(3) / 2 * time
    cosine, sine = decay * math.cos(turn), decay * math.sin(turn) / (math.sqrt(3) / 2)
    expected = np.array([[cosine + sine / 2, sine], [-sine, cosine - sine / 2]]) @ start

    def mean(k, axis):
        return (k.evolve(k.point(start), [time])[0] @ k.centres)[axis]

    found, error = kinetic.extrapolated(lambda k: mean(k, 0))
    assert found == pytest.approx(expected[0], abs=2e-3)
    assert error < 2e-3


def test_evolution_comes_to_rest_positive_and_conserving():
    kinetic = double()
    states = kinetic.evolve(kinetic.point((-1.0, 0.0)), [0.1, 1.0, 100.0])
    assert states.min() >= 0
    assert np.abs(states.sum(axis=1) - 1).max() < 1e-12
    assert np.abs(states[-1] - kinetic.stationary()).sum() < 1e-4
    decay = kinetic.evolve(kinetic.point((-1.0, 0.0)), [20.0, 30.0]) @ np.sign(kinetic.centres[:, 0])
    slowest = Generator.slow_modes(kinetic, 1)[0][0].real
    assert math.log(decay[0] / decay[1]) / 10 == pytest.approx(slowest, rel=1e-3)


@pytest.mark.parametrize(
    ("momentum", "iterations", "spread", "cells"), [(0.9, 31150, 800, (100, 48)), (0.5, 100480, 2560, (200, 48))]
)
def test_simulated_escape_of_heavy_ball(momentum, iterations, spread, cells):
    # learning rate 0.01, T = 1/24, from −1 to 1: one iteration is √0.01 of kinetic time
    step = math.sqrt(0.01)
    kinetic = Kinetic(1 / 24, (1 - momentum) / step, (-2.5, 2.5), cells, potential=Quartic.value)
    time, error = kinetic.extrapolated(lambda k: k.mean_first_passage_time(lambda x, v: x > 1, -1.0))
    assert error < 0.01 * time
    assert time / step == pytest.approx(iterations, abs=2 * spread)
    # rare escapes: 1 over half the gap, the other form
    assert time * kinetic.spectral_gap() / 2 == pytest.approx(1, abs=0.02)


def test_passage_questions():
    kinetic = Kinetic(1 / 16, 1.0, (-2.2, 2.2), (160, 48), potential=Quartic.value)
    start, there = kinetic.point(-1.0), lambda x, v: x > 1
    time = kinetic.mean_first_passage_time(there, -1.0)
    assert math.sqrt(kinetic.passage_time_variance(there, start)) / time == pytest.approx(1, abs=0.05)
    _, rate = kinetic.quasi_stationary(there)
    assert 1 / rate == pytest.approx(time, rel=0.05)
    chance = kinetic.committor(lambda x, v: x < -1, there).reshape(160, 48)
    assert np.allclose(chance + chance[::-1, ::-1], 1, atol=1e-9)
    assert chance[80, 47] > 0.9 > 0.1 > chance[80, 0]  # at the top the velocity decides


def test_point_and_equilibrium_velocities():
    kinetic = double()
    masses = kinetic.point((0.3, -0.4))
    assert np.allclose(masses @ kinetic.centres, (0.3, -0.4))
    warm = kinetic.point(0.3)
    x, v = kinetic.centres.T
    assert warm @ x == pytest.approx(0.3)
    assert warm @ v == pytest.approx(0, abs=1e-12)
    assert warm @ v**2 == pytest.approx(0.25, rel=1e-3)


def test_gradient_and_potential_say_the_same():
    by_gradient = Kinetic(0.25, 1.0, (-2.5, 2.5), (100, 60), gradient=lambda x: x**3 - x)
    assert by_gradient.spectral_gap() == pytest.approx(double().spectral_gap(), rel=1e-10)
    assert np.allclose(by_gradient.stationary(), double().stationary(), rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"temperature": 0.0}, "expected a temperature > 0"),
        ({"friction": 0.0}, "expected a friction > 0"),
        ({"gradient": well}, "exactly one of potential and gradient"),
        ({"potential": None}, "exactly one of potential and gradient"),
        ({"potential": lambda x: -x * x}, "does not confine, or the interval is too short"),
        ({"interval": (-1.2, 2.5)}, "lower end of the interval, x = -1.2"),
        ({"interval": (2.5, -2.5)}, "expected a box"),
        ({"cells": (100, 41)}, "an even number of velocities"),
        ({"velocities": 3.0}, "between 4 and 12 thermal ones"),
        (
            {"temperature": 1e-3, "interval": (-1.3, 1.3), "cells": (36, 40)},
            "at least [0-9]+ positions are needed, got 36",
        ),
        ({"cells": (100, 10)}, "at least 24 velocities are needed, got 10"),
        ({"potential": lambda x: np.where(x > 1, np.nan, well(x))}, "a finite potential, got nan at x = 1"),
        ({"temperature": 0.01, "interval": (-30.0, 30.0), "cells": (4000, 40)}, "shorter interval or more positions"),
    ],
)
def test_input_is_checked(settings, said):
    given = {"temperature": 0.25, "friction": 1.0, "interval": (-2.5, 2.5), "cells": (100, 60), "potential": well}
    with pytest.raises(ValueError, match=said):
        Kinetic(**{**given, **settings})


def test_what_the_expansion_cannot_reach_is_said():
    with pytest.warns(UserWarning, match="at least 24 velocities are needed, got 20"):
        double(cells=(100, 20))
    with pytest.raises(ValueError, match=r"friction 0\.003 is too weak for the expansion"):
        double(friction=3e-3, cells=(30, 60)).spectral_gap(1e-5)


def test_at_weak_friction_a_faster_mode_does_not_pass_for_the_slowest():
    # with few modes, the relaxation of the energy at 1.35 Γ is already right while the slowest rate is still above it
    expansion = double(friction=0.01, cells=(50, 60)).hermite
    assert expansion.modes(1, 8)[0][0].real > 0.0135
    assert expansion.gap(1e-2).rate == pytest.approx(expansion.gap(1e-3).rate, rel=1e-2)
    assert expansion.gap(1e-2).rate < 0.0090
