"""Selection between two wells under both noise models, and the rates at which it happens."""

import math

import numpy as np
import pytest

from sgdscope.theory.escape import (
    between_wells_relaxation_rate,
    escape_path,
    in_iterations,
    log_mass_ratio,
    mean_first_passage_time,
    minimum_anharmonicity,
    sgd_mass_ratio,
    white_noise_escape_time,
    white_noise_mass_ratio,
)

from .landscapes import DOUBLE_WELL, TILTED_CURVATURES, TILTED_NOISE, TILTED_SADDLE, generator_gap

INTEGRALS = (0.312071, 0.131452)


@pytest.mark.parametrize(("ratio", "odds"), [(16, 46.78), (24, 198.42), (32, 841.62), (48, 15142.2)])
def test_odds_of_sgd(ratio, odds):
    found = sgd_mass_ratio(1.25, 3.25, *INTEGRALS, lr=0.01, batch_size=ratio * 0.005)
    assert found.value == pytest.approx(odds, rel=2e-4)
    published = sgd_mass_ratio(1.25, 3.25, *INTEGRALS, lr=0.01, batch_size=ratio * 0.005, interpretation="anti-ito")
    assert found.value / published.value == pytest.approx(3.25 / 1.25)


@pytest.mark.parametrize("reading", ["ito", "stratonovich", "anti-ito"])
def test_odds_of_sgd_are_a_low_noise_limit(reading):
    slope = TILTED_CURVATURES.deriv()
    left = escape_path(np.linspace(-1, TILTED_SADDLE, 401), TILTED_NOISE, slope=slope).integral()
    right = escape_path(
        np.linspace(-1, -TILTED_SADDLE, 401), lambda x: TILTED_NOISE(-x), slope=lambda x: -slope(-x)
    ).integral()
    missed = []
    for ratio in (400, 800):
        law = sgd_mass_ratio(1.25, 3.25, left, right, lr=0.01, batch_size=ratio * 0.005, interpretation=reading)
        exact = log_mass_ratio(slope, TILTED_NOISE / ratio, TILTED_SADDLE, interpretation=reading)
        missed.append(exact - math.log(law.value))
    assert abs(missed[1]) < 0.01
    assert missed[0] / missed[1] == pytest.approx(2, rel=0.05)


def test_odds_of_white_noise():
    first = white_noise_mass_ratio(1.25, 3.25, 0.05)
    assert first.value == pytest.approx(1.612452, rel=1e-6)
    third, fourth = TILTED_CURVATURES.deriv(3), TILTED_CURVATURES.deriv(4)
    kappas = {
        f"anharmonicity_{i}": minimum_anharmonicity(h, third(at), fourth(at))
        for i, h, at in ((1, 1.25, -1), (2, 3.25, 1))
    }
    for noise, within_first, within_next in ((0.1, 0.06, 0.02), (0.05, 0.026, 0.0065), (0.01, 0.005, 0.0002)):
        exact = math.exp(log_mass_ratio(TILTED_CURVATURES.deriv(), noise, TILTED_SADDLE))
        found = white_noise_mass_ratio(1.25, 3.25, noise, **kappas).value
        assert abs(first.value / exact - 1) < within_first
        assert abs(found / exact - 1) < within_next


def test_depth_decides_under_white_noise():
    even = white_noise_mass_ratio([1.0, 4.0], np.diag([2.0, 2.0]), 0.1)
    assert even.value == pytest.approx(1)
    assert white_noise_mass_ratio(1.0, 1.0, 0.1, depth_difference=0.3).value == pytest.approx(math.exp(3))
    # exactly, for two parabolas of unequal depth far apart
    loss = lambda x: np.minimum((x + 4) ** 2 / 2, (x - 4) ** 2 + 0.2)  # noqa: E731
    crossing = np.roots([0.5, -12, 8.2])[-1]
    found = white_noise_mass_ratio(1.0, 2.0, 0.05, depth_difference=0.2)
    assert math.exp(log_mass_ratio(None, 0.05, float(crossing), value=loss)) == pytest.approx(found.value, rel=1e-9)


@pytest.mark.parametrize(
    ("temperature", "gap", "below", "of_exact"),
    [
        (0.0625, 7.44489e-3, 0.097, None),
        (0.05, 2.77614e-3, 0.085, 1.013),
        (0.04, 8.08744e-4, 0.069, 1.004),
        (0.03, 1.02697e-4, 0.051, 1.0006),
    ],
)
def test_rate_between_wells(temperature, gap, below, of_exact):
    slope = DOUBLE_WELL.deriv()
    assert generator_gap(slope, lambda x: temperature + 0 * x) == pytest.approx(gap, rel=3e-4)
    leading = between_wells_relaxation_rate(*[white_noise_escape_time(0.25, 2, -1, temperature)] * 2)
    assert 1 - gap / leading.value == pytest.approx(below, abs=0.002)
    exact = between_wells_relaxation_rate(*[mean_first_passage_time(slope, temperature, -1, 1)] * 2)
    assert exact.unit == "1 / (learning rate · iterations)"
    if of_exact:
        assert gap / exact.value == pytest.approx(of_exact, abs=1e-3)


@pytest.mark.parametrize(("temperature", "gap"), [(0.04, 7.13009e-4), (0.03, 8.48539e-5)])
def test_rate_between_unequal_wells(temperature, gap):
    slope = TILTED_CURVATURES.deriv()
    there = mean_first_passage_time(slope, temperature, -1, 1)
    back = mean_first_passage_time(slope, temperature, 1, -1)
    assert between_wells_relaxation_rate(there, back).value == pytest.approx(gap, rel=0.006)
    assert generator_gap(slope, lambda x: temperature + 0 * x) == pytest.approx(gap, rel=3e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sgd_mass_ratio(1, -3, 0.1, 0.1, 0.1, 1), "expected curvature_2 > 0"),
        (lambda: sgd_mass_ratio(1, 3, 9, 0.1, 0.001, 100), "one well holds everything"),
        (lambda: white_noise_mass_ratio([1, 1], [1], 0.1), "one size"),
        (lambda: white_noise_mass_ratio([1, -1], [1, 1], 0.1), "expected positive eigenvalues at both minima"),
        (lambda: white_noise_mass_ratio(1, 1, 0.1, anharmonicity_1=-20), "beyond the order"),
        (lambda: between_wells_relaxation_rate(white_noise_escape_time(0.25, 2, -1, 0.05)), "two wells, got 1"),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_units_are_not_mixed():
    time = white_noise_escape_time(0.25, 2, -1, 0.05)
    with pytest.raises(ValueError, match="expected predictions in one unit"):
        between_wells_relaxation_rate(time, in_iterations(time, 0.1))
    with pytest.raises(ValueError, match="expected times, got log mean escape time"):
        between_wells_relaxation_rate(*[white_noise_escape_time(0.25, 2, -1, 0.05, logarithm=True)] * 2)
