"""Sweep: peak and critical temperatures out of series, and out of short runs."""

import numpy as np
import pytest

from sgdscope.diagonal import GaussianData, Setting, temperature_sweep
from sgdscope.diagonal.growth import Growth
from sgdscope.diagonal.sweep import Point, Sweep
from sgdscope.diagonal.sweep_answer import sweep_answer
from sgdscope.estimate import Estimate
from sgdscope.report.draw import save
from sgdscope.theory.stationary import DiagonalLaw, fluctuation_peak

SETTING = Setting(GaussianData(1.0, 900.0), 1.0)
CRITICAL = SETTING.noise.critical_temperature()


RATIOS = np.linspace(0.1, 0.85, 11)


def made(error=0.005, shift=1.0, ratios=RATIOS, seed=0):
    """A sweep with the law's own numbers at temperatures `shift` times as high, and noise on them."""
    rng = np.random.default_rng(seed)
    points, growths = [], []
    for ratio in ratios:
        law = DiagonalLaw(SETTING.noise, ratio * CRITICAL / shift, 1)
        mean, variance = (value * (1 + error * rng.standard_normal()) for value in (law.mean, law.variance))
        points.append(Point(ratio * CRITICAL, Estimate("mean", mean, error * mean),
                            Estimate("variance", variance, error * variance), 0.0, law))  # fmt: skip
    for ratio in np.linspace(0.7, 1.3, 7):
        rate = Estimate("rate", 4 * (1 - ratio / shift) + error * rng.standard_normal(), error)
        growths.append((ratio * CRITICAL, Growth(rate, rate, rate)))
    return Sweep(SETTING, "sgd", tuple(points), tuple(growths))


@pytest.mark.slow
@pytest.mark.parametrize("shift", [1.0, 0.9])
def test_temperatures_are_found_with_their_errors(shift):
    peak = fluctuation_peak(SETTING.noise).temperature.value
    for name, value in (("peak", peak), ("critical_from_mean", CRITICAL), ("critical_from_growth", CRITICAL)):
        found = [getattr(made(shift=shift, seed=seed), name) for seed in range(12)]
        values = np.array([float(one) for one in found])
        assert values.mean() == pytest.approx(shift * value, rel=0.015)
        assert np.mean([one.standard_error for one in found]) == pytest.approx(values.std(), rel=0.7)


def test_verdicts_go_both_ways():
    assert [verdict.outcome for verdict in made().verdicts][:3] == ["agrees"] * 3
    assert [verdict.outcome for verdict in made(shift=0.9).verdicts][:3] == ["disagrees"] * 3


def test_a_series_that_only_rises_has_no_peak():
    found = made(ratios=np.linspace(0.05, 0.25, 6)).peak
    assert found.value is None
    assert found.reason
    assert made(ratios=(0.2, 0.4)).critical_from_mean.value is None


def test_variances_that_a_rare_weight_has_made_are_left_out():
    sweep = made()
    lucky = sweep.points[-1]
    spoiled = Point(lucky.temperature, lucky.mean, Estimate("variance", 5.0, 2.0), 0.0, lucky.law)
    found = Sweep(SETTING, "sgd", (*sweep.points[:-1], spoiled), sweep.growths)
    assert float(found.peak) == pytest.approx(float(sweep.peak), rel=0.05)


@pytest.mark.slow
def test_the_differential_equation_shows_the_inversion(tmp_path):
    setting = Setting(GaussianData(-1.0, 4.0), 1.0)
    found = temperature_sweep(setting, kind="diffusion", replicas=1024)
    assert {verdict.outcome for verdict in found.verdicts} <= {"agrees", "undecided"}
    assert float(found.critical_from_growth) == pytest.approx(1 / 6, rel=0.02)
    answer = sweep_answer(found)
    assert "far tail" in str(answer)
    pictures = answer.draw()
    assert len(pictures) == 2
    assert save(pictures, tmp_path / "a.svg").stat().st_size > 10_000


@pytest.mark.slow
def test_deeper_networks_have_a_peak_and_no_critical_temperature():
    found = temperature_sweep(Setting(GaussianData(1.0, 4.0), 1.0, batch_size=1, depth=2), replicas=512,
                              ratios=np.linspace(0.02, 0.1, 3))  # fmt: skip
    assert found.growths == ()
    assert [verdict.claim for verdict in found.verdicts] == ["fluctuations are largest at"]
    for point in found.points:
        assert float(point.mean) == pytest.approx(point.law.mean, rel=0.03)
    assert len(sweep_answer(found).draw()) == 1


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: temperature_sweep(Setting(GaussianData(), 1.0, depth=0)), "depth ≥ 1"),
        (lambda: temperature_sweep(SETTING, ratios=()), "ratios > 0"),
        (lambda: temperature_sweep(Setting(GaussianData(1, 0), 1.0)), "vanishes"),
        (lambda: temperature_sweep(Setting(GaussianData(), 1.0, depth=2, weight_decay=0.1)), "weight decay"),
    ],
)
def test_bad_input_gets_a_sentence(ask, said):
    with pytest.raises(ValueError, match=said):
        ask()
