"""Rates inside wells and between them."""

import math

import pytest

from sgdscope.theory.escape import between_wells_relaxation_rate, white_noise_escape_time
from sgdscope.theory.fokker_planck.landscape import Landscape
from sgdscope.theory.fokker_planck.line import Line
from sgdscope.theory.fokker_planck.rates import relaxation_rates
from tests.theory.fokker_planck.potentials import Lopsided, Quadratic, Quartic, TripleWell

POINCARE = {0.5: 0.845888, 0.25: 0.748681, 0.1: 0.335453, 0.0625: 0.119118, 0.04: 0.0202186, 1 / 32: 4.57495e-3}


@pytest.mark.parametrize(("temperature", "constant"), POINCARE.items())
def test_poincare_constant_falls_with_temperature(temperature, constant):
    rates = relaxation_rates(Quartic, temperature)
    assert rates.poincare.value == pytest.approx(constant, rel=4e-6)
    assert rates.gap == rates.selection.value
    assert rates.gap == pytest.approx(constant * temperature, rel=4e-6)


@pytest.mark.parametrize(("temperature", "deficit"), [(0.0625, 0.097), (0.05, 0.085), (0.04, 0.069), (0.03, 0.051)])
def test_between_wells_rate_is_below_the_sum_of_kramers_rates(temperature, deficit):
    rates = relaxation_rates(Quartic, temperature)
    assert 1 - rates.selection.value / rates.kramers[0].value == pytest.approx(deficit, abs=6e-4)
    formula = between_wells_relaxation_rate(*[white_noise_escape_time(0.25, 2, -1, temperature)] * 2)
    assert rates.kramers[0].value == pytest.approx(formula.value, rel=1e-6)
    assert rates.kramers[0].valid


def test_kramers_becomes_right_as_noise_falls():
    # The relative error is D (κ_a + κ_b): ¾ each at the minima and the barrier of the quartic
    for temperature in (0.01, 0.003, 0.001):
        rates = relaxation_rates(Quartic, temperature)
        assert 1 - rates.gap / rates.kramers[0].value == pytest.approx(1.5 * temperature, rel=0.08)


@pytest.mark.parametrize("temperature", [1e-4, 0.1, 10.0])
def test_batch_size_does_not_matter_in_a_quadratic_well(temperature):
    rates = relaxation_rates(Quadratic(2.5), temperature)
    assert rates.between_wells == ()
    assert rates.in_well.value == pytest.approx(2.5, rel=1e-4)
    assert rates.poincare.value * temperature == rates.in_well.value
    assert rates.landscape.curvatures == pytest.approx((2.5,), rel=1e-9)
    with pytest.raises(ValueError, match="expected two wells, got the single well at"):
        _ = rates.selection


def test_in_well_and_between_wells_part_as_noise_falls():
    hot, cold = relaxation_rates(Quartic, 0.25), relaxation_rates(Quartic, 0.005)
    assert "separates no wells" in hot.selection.warnings[0]
    assert not hot.kramers[0].valid
    assert cold.selection.valid
    assert cold.in_well.value > 1e15 * cold.selection.value
    # What has settled inside wells still lingers at the barrier top, which it leaves at |H_b| = 1
    assert cold.in_well.value == pytest.approx(1, rel=0.03)


def test_between_wells_rates_of_three_wells():
    rates = relaxation_rates(TripleWell, 0.02)
    assert len(rates.landscape.minima) == 3
    assert len(rates.between_wells) == len(rates.kramers) == 2
    for exact, kramers in zip(rates.between_wells, rates.kramers, strict=True):
        assert exact.value == pytest.approx(kramers.value, rel=0.1)
    assert rates.in_well.value > 1e5 * rates.between_wells[1].value


def test_landscape():
    line = Line.of_potential(Lopsided, 0.05)
    found = Landscape.of(Lopsided, line)
    assert found.minima == pytest.approx((-1, 1), abs=1e-12)
    assert found.curvatures == pytest.approx((1.25, 3.25), rel=1e-6)
    assert found.saddles == pytest.approx((0.122894,), abs=1e-6)
    assert found.saddle_curvatures == pytest.approx((-1.083005,), rel=1e-6)
    assert found.lowest_barrier == pytest.approx(0.257865, abs=1e-6)
    assert found.awaited_barrier == pytest.approx(0.257865, abs=1e-6)


def test_the_awaited_barrier_is_that_of_the_shallow_well():
    class Tilted:
        value = staticmethod(lambda x: Quartic.value(x) + 0.05 * x)
        gradient = staticmethod(lambda x: Quartic.gradient(x) + 0.05)

    found = Landscape.of(Tilted, Line.of_potential(Tilted, 0.02))
    assert found.awaited_barrier == pytest.approx(found.saddle_losses[0] - found.losses[1], rel=1e-6)
    assert found.awaited_barrier == pytest.approx(found.lowest_barrier, rel=1e-6)


@pytest.mark.parametrize(
    ("temperature", "odds"),
    [(0.1, 1.52641), (0.05, 1.57292), (0.04, 1.58266), (0.03, 1.59142), (0.02, 1.59908), (0.01, 1.60599)],
)
def test_masses_of_wells_of_equal_depth(temperature, odds):
    line = Line.of_potential(Lopsided, temperature)
    saddle = Landscape.of(Lopsided, line).saddles[0]
    masses = line.stationary()
    found = line.mass_in(masses, (-math.inf, saddle)) / line.mass_in(masses, (saddle, math.inf))
    assert found == pytest.approx(odds, rel=2e-5)
    # To first order in D: √(H₂/H₁) (1 + κ₁D) / (1 + κ₂D), with κ = 5 L₃² / 24H³ − L₄ / 8H²
    flat, sharp = (5 * third**2 / (24 * h**3) - fourth / (8 * h * h)
                   for h, third, fourth in ((1.25, -2.25, 0.75), (3.25, 14.25, 30.75)))  # fmt: skip
    first_order = math.sqrt(3.25 / 1.25) * (1 + flat * temperature) / (1 + sharp * temperature)
    assert found == pytest.approx(first_order, rel=0.007 if temperature <= 0.05 else 0.02)


def test_masses_with_curvature_dependent_noise_grow_apart_with_batch_size():
    # The wells of Lopsided with noise ∝ |H|: a quadratic through the curvatures of minima and barrier
    def variance(x):
        return 0.940332 + x + 1.309668 * x * x

    for ratio, odds, left, right in ((16, 38.005, 868.10, 24.337), (32, 751.78, 118359, 159.02),
                                     (48, 14174.7, 1.69173e7, 1195.18)):  # fmt: skip
        line = Line.of_potential(Lopsided, lambda x, ratio=ratio: variance(x) / ratio)
        saddle = Landscape.of(Lopsided, line).saddles[0]
        masses = line.stationary()
        found = line.mass_in(masses, (-math.inf, saddle)) / line.mass_in(masses, (saddle, math.inf))
        assert found == pytest.approx(odds, rel=2e-3)
        assert line.mean_first_passage_time(1.0, -1.0) == pytest.approx(left, rel=2e-5)
        assert line.mean_first_passage_time(-1.0, 1.0) == pytest.approx(right, rel=4e-5)


def test_a_barrier_is_asked_for_where_there_is_none():
    with pytest.raises(ValueError, match="expected a barrier between two minima, got the single well at"):
        _ = Landscape.of(Quadratic(), Line.of_potential(Quadratic(), 0.1)).lowest_barrier
    with pytest.raises(ValueError, match="expected a potential with a minimum inside the line"):
        Landscape.of(Quadratic(), Line.of_potential(Quadratic(), 0.1, interval=(1, 2)))
