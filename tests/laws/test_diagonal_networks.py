"""Diagonal networks under real SGD: distances from the stationary law, where theory holds and where steps show."""

import numpy as np
import pytest

from sgdscope.diagonal import GaussianData, Setting, balance_decay, chance_distance, distance, run, temperature_sweep
from sgdscope.theory.stationary import DiagonalLaw

REPLICAS = 20_000


def settled(setting, time, start=0.8, replicas=REPLICAS):
    weights = setting.weights((start,))
    return run(setting, weights, steps=int(time / setting.lr), replicas=replicas, seed=2), setting.law(weights)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise_variance", "lr", "batch_size", "time", "measured"),
    [
        (1, 0.01, 1, 30, 0.010),
        (1, 0.05, 1, 30, 0.056),
        (9, 0.01, 1, 30, 0.012),
        (100, 0.005, 1, 60, 0.023),
        (100, 0.02, 4, 60, 0.062),
    ],
)
def test_distance_of_two_layers_from_the_law(noise_variance, lr, batch_size, time, measured):
    found, law = settled(Setting(GaussianData(1, noise_variance), lr, batch_size), time)
    assert distance(found.v, law) == pytest.approx(measured, abs=0.008)
    assert found.crossed == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("slope", "noise_variance", "lr", "batch_size", "weight_decay"),
    # T / T_c ≤ 0.2, lr β₁ ≤ 0.01, lr E[x⁴] / β₁ ≤ 0.05
    [(0.5, 1, 0.01, 1, 0.0), (2, 4, 0.01, 1, 0.0), (1, 16, 0.01, 1, 0.0), (1, 4, 0.01, 2, 0.1), (-1, 9, 0.01, 3, 0.0)],
)
def test_two_layers_follow_the_law_where_it_should_hold(slope, noise_variance, lr, batch_size, weight_decay):
    setting = Setting(GaussianData(slope, noise_variance), lr, batch_size, 1, 1, weight_decay)
    assert setting.relative_temperature <= 0.2
    found, law = settled(setting, 30, 0.8 * slope)
    assert distance(found.v, law) < 0.03


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "width", "noise_variance", "lr", "batch_size", "bar"),
    [(0, 1, 1, 0.02, 1, 0.02), (2, 1, 1, 0.01, 1, 0.03), (2, 2, 4, 0.01, 2, 0.03), (3, 1, 4, 0.01, 2, 0.03)],
)
def test_other_depths_follow_the_law_where_it_should_hold(depth, width, noise_variance, lr, batch_size, bar):
    setting = Setting(GaussianData(1, noise_variance), lr, batch_size, depth, width)
    if depth:
        assert setting.temperature * setting.noise.product_variance <= 0.0301
    found, law = settled(setting, 20)
    assert distance(found.v, law) < bar
    assert found.crossed == 0 or depth == 0


def stratonovich(noise, temperature, v):
    """Distribution function of the law that a Stratonovich reading of the same equation has, at ascending v."""
    a1, a2, a3 = noise.square_variance, noise.covariance, noise.product_variance
    b1, b2, root = noise.square_mean, noise.product_mean, np.sqrt(noise.discriminant)
    grid = np.geomspace(1e-9, 1e4, 200_001)
    log = (b2 / (2 * a3 * temperature) - 1) * np.log(grid) - (0.5 + b2 / (4 * temperature * a3)) * np.log(noise.g(grid))
    log -= (a3 * b1 - a2 * b2) / (2 * temperature * a3 * root) * np.arctan((a1 * grid - a2) / root)
    mass = np.exp(log - log.max()) * grid
    share = np.cumsum(mass)
    return np.interp(v, grid, share / share[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise_variance", "lr", "time", "apart"),
    [(9, 0.01, 30, 0.1), (100, 0.002, 60, 0.146), (900, 0.7 / 902, 80, 0.465)],
)
def test_steps_reject_the_stratonovich_reading(noise_variance, lr, time, apart):
    found, law = settled(Setting(GaussianData(1, noise_variance), lr), time, replicas=5000)
    ordered = np.sort(found.v)
    ranks = (np.arange(len(ordered)) + 0.5) / len(ordered)
    other = np.abs(stratonovich(law.noise, law.temperature, ordered) - ranks).max()
    assert other == pytest.approx(apart, abs=0.02)
    assert distance(found.v, law) < max(0.02, chance_distance(5000))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lr", "batch_size", "steps", "measured", "integral"),
    [(0.002, 1, 250_000, -4.058, -4.038), (0.01, 4, 40_000, -4.147, -4.049)],
)
def test_unlike_layers_become_alike_along_the_path_integral(lr, batch_size, steps, measured, integral):
    setting = Setting(GaussianData(1, 1), lr, batch_size)
    found = balance_decay(setting, np.array([2.0, 0.3]), steps=steps, replicas=400)
    assert found.measured.value == pytest.approx(measured, abs=0.01)
    assert found.continuous == pytest.approx(integral, abs=0.01)
    assert found.discrete == pytest.approx(found.measured.value, abs=0.01)  # what real steps add is of second order
    assert abs(found.continuous - found.measured.value) > 0.012


@pytest.mark.slow
def test_strong_decay_empties_the_metastable_state_of_three_layers():
    held = Setting(GaussianData(1, 9), 0.01, 1, 2, 1, 0.3)
    found, _ = settled(held, 100, 0.85**3, 5000)
    assert ((found.v >= 0) & (found.v < 0.01)).mean() == pytest.approx(0.82, abs=0.05)
    free, _ = settled(Setting(GaussianData(1, 9), 0.01, 1, 2), 100, 0.85**3, 5000)
    assert ((free.v >= 0) & (free.v < 0.01)).mean() < 0.01


@pytest.mark.slow
def test_real_steps_cross_0_at_a_constant_rate_with_three_layers():
    setting = Setting(GaussianData(1, 9), 0.01, 1, 2)
    crossed = [settled(setting, time, 1.0, 5000)[0].crossed for time in (160, 320)]
    hazards = -np.log1p(-np.array(crossed)) / (160, 320)
    assert hazards == pytest.approx([0.00081, 0.00083], rel=0.15)  # a quarter has crossed at 345
    strong, _ = settled(Setting(GaussianData(1, 100), 0.005, 1, 2), 220, 1.0, 2000)
    assert (strong.v < -1e-9).mean() == pytest.approx(0.94, abs=0.03)
    assert strong.diverged == pytest.approx(0.04, abs=0.02)


@pytest.mark.slow
def test_the_critical_and_the_peak_temperature_come_out_of_runs():
    found = temperature_sweep(Setting(GaussianData(1, 900), 1.0), replicas=1024)
    critical = found.setting.noise.critical_temperature()
    assert float(found.critical_from_mean) == pytest.approx(critical, rel=0.03)
    assert float(found.critical_from_growth) == pytest.approx(critical, rel=0.03)
    peak, *others = found.verdicts
    assert float(found.peak) == pytest.approx(peak.predicted, rel=0.05)
    assert {verdict.outcome for verdict in others} == {"agrees"}
    variances = [float(point.variance) for point in found.points]
    highest = int(np.argmax(variances))
    assert 0 < highest < len(variances) - 1  # they rise, then fall
    assert variances[-1] < 0.5 * variances[highest]


@pytest.mark.slow
def test_the_tail_of_real_steps_is_steeper_than_that_of_the_law():
    # the differential equation has rare large weights, which steps of finite size make rarer
    far = []
    for lr in (0.05, 0.0125):
        found, law = settled(Setting(GaussianData(1, 1), lr), 20, replicas=100_000)
        far.append((found.v > law.quantile(0.9995)).mean() / 0.0005)
    assert far[0] < 0.2
    assert far[0] < far[1]
    assert isinstance(law, DiagonalLaw)
    assert law.tail_exponent == 3.5
