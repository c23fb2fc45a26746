"""Selection between wells along schedules, against batch size, and its price."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from sgdscope.theory.fokker_planck.line import Line
from sgdscope.theory.fokker_planck.selection import batch_size_sweep, occupancy, selection_trade
from tests.theory.fokker_planck.potentials import Lopsided, Quadratic, Quartic


def test_occupancy_of_a_constant_schedule():
    times = np.full(10, 0.7)
    found = occupancy(0.9, 0.4, 0.2, times)
    assert found == pytest.approx(0.4 + 0.5 * np.exp(-0.2 * np.cumsum(times)), rel=1e-12)


def test_occupancy_against_the_fokker_planck_equation():
    # Three stages of falling noise, each a Line of its own on the same cells
    interval, cells = (-2.2, 2.2), 1500
    temperatures, durations = (0.06, 0.045, 0.035), np.array([100.0, 300.0, 500.0])
    lines = [Line.of_potential(Lopsided, d, interval, cells) for d in temperatures]
    masses = lines[0].quasi_stationary((0.122894, math.inf))[0]
    left = []
    for line, duration in zip(lines, durations, strict=True):
        masses = line.evolve(masses, [duration])[0]
        left.append(line.mass_in(masses, (-math.inf, 0.122894)))
    stationary = [line.mass_in(line.stationary(), (-math.inf, 0.122894)) for line in lines]
    found = occupancy(1.0, stationary, [line.spectral_gap() for line in lines], durations)
    assert found == pytest.approx(left, abs=0.01)


@given(st.floats(0, 1), st.lists(st.tuples(st.floats(0, 1), st.floats(0, 5), st.floats(0, 5)), min_size=1, max_size=8))
def test_occupancy_forgets_its_start_by_the_integral_of_the_gap(initial, stages):
    stationary, rates, durations = np.array(stages).T
    found, other = (occupancy(start, stationary, rates, durations) for start in (initial, 1 - initial))
    assert ((found >= -1e-15) & (found <= 1 + 1e-15)).all()
    forgotten = (2 * initial - 1) * np.exp(-np.cumsum(rates * durations))
    assert found - other == pytest.approx(forgotten, abs=1e-12)


def test_a_decaying_schedule_freezes_selection():
    temperatures = np.geomspace(0.08, 0.004, 60)
    lines = [Line.of_potential(Quartic, d, cells=800) for d in temperatures]
    gaps = np.array([line.spectral_gap() for line in lines])
    found = occupancy(1.0, 0.5, gaps, np.full(60, 20.0))
    assert found[-1] == pytest.approx(0.5 + 0.5 * math.exp(-20 * gaps.sum()), rel=1e-12)
    assert 0.5 < found[-1] < 1
    assert found[30] == pytest.approx(found[-1], abs=1e-3)


def test_sweep_over_a_barrier():
    lr, variance = 0.1, 1.0
    sizes = [lr * variance / (2 * d) for d in (0.5, 0.25, 0.0625, 0.05, 0.04, 1 / 32, 0.02)]
    sweep = batch_size_sweep(Quartic, lr, variance, sizes)
    assert sweep.temperatures == pytest.approx([0.5, 0.25, 0.0625, 0.05, 0.04, 1 / 32, 0.02])
    assert sweep.barrier == pytest.approx(0.25, rel=1e-9)
    assert sweep.asymptotic_slope == pytest.approx(-2 * 0.25 / (lr * variance), rel=1e-9)
    assert list(sweep.metastable) == [False, False, True, True, True, True, True]
    # slopes in M are −ΔL(local) · 2 / (lr σ²)
    assert -sweep.slopes[[0, 3, 4]] * lr * variance / 2 == pytest.approx([0.408, 0.2469, 0.2475], abs=6e-4)
    constant, slope = sweep.fit()
    assert slope == pytest.approx(sweep.asymptotic_slope, rel=0.01)
    assert constant + slope * sizes[4] == pytest.approx(math.log(8.08744e-4), abs=0.02)


def test_sweep_in_a_single_well_is_flat():
    sweep = batch_size_sweep(Quadratic(3.0), 0.1, 1.0, [1, 10, 100])
    assert sweep.gaps == pytest.approx(3.0, rel=1e-4)
    assert sweep.slopes == pytest.approx(0, abs=1e-5)
    assert (sweep.barrier, sweep.asymptotic_slope) == (None, 0.0)
    with pytest.raises(ValueError, match="expected two batch sizes with a barrier over 4 noise units, got 0"):
        sweep.fit()


def test_noise_buys_speed_and_costs_loss():
    trade = selection_trade(Quartic, [0.01, 0.05, 0.2])
    assert (np.diff(trade.gaps) > 0).all()
    assert (np.diff(trade.excess_losses) > 0).all()
    for temperature, excess in zip(trade.temperatures, trade.excess_losses, strict=True):
        density = lambda x, d=temperature: math.exp(-Quartic.value(x) / d)  # noqa: E731
        mean = quad(lambda x: Quartic.value(x) * density(x), -3, 3, points=[-1, 1])[0]  # noqa: B023
        assert excess == pytest.approx(mean / quad(density, -3, 3, points=[-1, 1])[0], rel=5e-5)
    assert trade.excess_losses[0] == pytest.approx(trade.harmonic_excess[0], rel=0.02)
    quadratic = selection_trade(Quadratic(7.0), [0.01, 1.0])
    assert quadratic.excess_losses == pytest.approx(quadratic.harmonic_excess, rel=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: occupancy(1.2, 0.5, 1, [1.0]), "expected occupations between 0 and 1"),
        (lambda: occupancy(0.2, 0.5, -1, [1.0]), "expected finite rates ≥ 0 and durations ≥ 0"),
        (lambda: occupancy(0.2, 0.5, 1, 1.0), "expected a list of durations"),
        (lambda: batch_size_sweep(Quartic, 0.1, 1.0, [4, 2]), "expected batch sizes that rise"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
