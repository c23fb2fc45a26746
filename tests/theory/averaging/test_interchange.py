"""Interchange: exact noise ratios of schedule and average, their asymptotes, and when a warning is due."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdscope.theory.averaging import (
    averages,
    exact_schedule,
    fast_ema_ratio,
    fast_two_point_ratio,
    fast_window_ratio,
    frozen_schedule,
    interchangeable,
    noise_ratios,
    schedule_mismatch,
)
from sgdscope.theory.averaging.variance_ratios import ema_ratio

LR = 0.3


def test_noise_ratio_of_an_ema():
    ratios = noise_ratios(averages.ema(0.9, 400), LR, [0.01, 0.5, 2.0])
    assert ratios[1:] == pytest.approx([1.300, 2.181], abs=5e-4)
    # the slowest by a sum over batches, schedule over closed form of the average
    m = np.arange(4000)
    rates = LR * (1 - 0.9 ** (m + 1))
    kept = np.append(1.0, np.cumprod(1 - rates * 0.01))
    schedule = ((rates * 0.01 * kept[:-1]) ** 2).sum()
    average = LR * 0.01 / (2 - LR * 0.01) * ema_ratio(1 - LR * 0.01, 0.9)
    assert ratios[0] == pytest.approx(schedule / average, rel=1e-6)
    assert ratios[0] == pytest.approx(1.0005, abs=5e-5)


@pytest.mark.parametrize(
    ("average", "asymptote", "exact", "formula"),
    [
        (averages.ema(0.999, 12_000), fast_ema_ratio(0.1, 1.0, 0.999), 8.643, 8.862),
        (averages.window(1000), fast_window_ratio(0.1, 1.0, 1000), 4.491, 4.431),
    ],
)
def test_asymptotes(average, asymptote, exact, formula):
    assert noise_ratios(average, 0.1, 1.0)[0] == pytest.approx(exact, abs=5e-4)
    assert asymptote.value == pytest.approx(formula, abs=5e-4)
    assert asymptote.valid


@pytest.mark.slow
def test_asymptote_of_a_very_long_ema():
    assert noise_ratios(averages.ema(0.9999, 120_000), 0.1, 1.0)[0] == pytest.approx(27.75, abs=5e-3)
    assert fast_ema_ratio(0.1, 1.0, 0.9999).value == pytest.approx(28.02, abs=5e-3)


@settings(max_examples=20)
@given(st.floats(0.1, 1.5), st.floats(0.3, 1))
def test_two_far_points(step, newer_weight):
    # neither q^600 nor (1 − a λ h)^600 is left
    average = averages.two_point(600, newer_weight)
    found = noise_ratios(average, 1.0, step)[0]
    assert found == pytest.approx(fast_two_point_ratio(1.0, step, newer_weight).value, rel=1e-9)


def test_far_points_at_equal_weights_are_slightly_worse_than_the_schedule():
    step = np.linspace(0.01, 1.9, 30)
    for s in step:
        assert fast_two_point_ratio(1.0, s).value == pytest.approx((2 - s) / (2 - s / 2), rel=1e-12)
        assert fast_two_point_ratio(1.0, s).value < 1


def test_adjacent_points_are_interchangeable_in_every_mode():
    average = averages.two_point(1, 0.4)
    assert noise_ratios(average, LR, [0.01, 1.0, 3.0]) == pytest.approx([1, 1, 1], rel=1e-12)
    assert schedule_mismatch(average, LR, [0.01, 1.0, 3.0]).value < 1e-12


def test_slow_modes_are_interchangeable_and_fast_ones_warned_of():
    average = averages.window(50)
    slow = interchangeable(average, 0.1, [1e-4, 1e-3])
    assert slow.valid
    assert slow.value == pytest.approx(1, abs=0.02)
    fast = interchangeable(average, 0.1, [1e-4, 5.0])
    assert fast.value > 2
    assert fast.warnings[0].startswith(
        "window 50 and its schedule are not interchangeable: at lr · curvature = 0.5 the schedule leaves"
    )


@settings(max_examples=30)
@given(st.floats(0.0, 0.99), st.floats(0.01, 1.0))
def test_mismatch_is_the_largest_difference(decay, step):
    average = averages.ema(decay, 50)
    expected = np.abs(exact_schedule(average, 1.0, step) / frozen_schedule(average, 1.0) - 1).max()
    assert schedule_mismatch(average, 1.0, [step]).value == pytest.approx(expected, rel=1e-12)


def test_mismatch_vanishes_in_slow_modes():
    average = averages.window(20)
    found = [schedule_mismatch(average, 1.0, [h]).value for h in (1e-2, 1e-3, 1e-4)]
    assert np.diff(np.log10(found)) == pytest.approx([-1, -1], abs=0.05)  # of first order in lr · curvature
    assert schedule_mismatch(averages.last(3), 1.0, [0.5]).value == 0


def test_asymptotes_say_where_they_end():
    assert len(fast_ema_ratio(0.1, 0.01, 0.9).warnings) == 1
    assert "needs it well above 1" in fast_ema_ratio(0.1, 0.01, 0.9).warnings[0]
    assert "needs it well below 1" in fast_window_ratio(1.0, 1.0, 1000).warnings[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: noise_ratios(averages.window(5), 2.0, [1.0]), "expected a stable learning rate"),
        (lambda: fast_ema_ratio(0.1, 1.0, 1.0), r"expected decay in \[0, 1\)"),
        (lambda: fast_two_point_ratio(0.1, 1.0, 0.0), r"expected a weight on the newer point in \(0, 1\], got 0.0"),
        (
            lambda: schedule_mismatch(averages.given([1.0, -1, 0.5, 0.5]), 1.0, [0.5]),
            "expected tail weights that do not",
        ),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
