"""Averages: weights that sum to one, the recursions they stand for, and the numbers of their profile."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdscope.theory.averaging import Average, averages, power_mean_position, power_width

decays = st.floats(0, 0.9999)
lengths = st.integers(1, 300)


def families(n: int) -> list[Average]:
    return [
        averages.last(n), averages.ema(0.9, n), averages.ema(0.9, n, start_corrected=True), averages.window(n),
        averages.window(n, 3), averages.two_point(n, 0.3), averages.uniform(n), averages.power(6.94, n),
        averages.power(2.5, n, 7), averages.given(np.full(n, 1 / n)),
    ]  # fmt: skip


@given(lengths)
def test_weights_sum_to_one_and_are_not_negative(n):
    for average in families(n):
        assert abs(average.weights.sum() - 1) < 1e-12
        assert (average.weights >= 0).all()
        assert average.warnings == ()
        assert average.tail_weights[0] == pytest.approx(1, abs=1e-12)
        assert average.over(average.steps + 5).mean_age == pytest.approx(average.mean_age, abs=1e-9)


@given(decays, lengths)
def test_ema_is_its_recursion(decay, steps):
    points = np.sin(np.arange(steps + 1.0))
    running = points[0]
    for point in points[1:]:
        running = decay * running + (1 - decay) * point
    assert averages.ema(decay, steps).weights @ points == pytest.approx(running, abs=1e-12)
    corrected = (running - decay**steps * points[0]) / (1 - decay**steps)
    assert averages.ema(decay, steps, start_corrected=True).weights @ points == pytest.approx(corrected, abs=1e-8)


@given(st.floats(-0.9, 30), lengths, st.integers(1, 40))
def test_power_ema_is_its_recursion(exponent, steps, every):
    points = np.cos(np.arange(steps + 1.0))
    running = 0.0
    for t in range(steps % every or every, steps + 1, every):
        decay = (max(t - every, 0) / t) ** (exponent + 1)
        running = decay * running + (1 - decay) * points[t]
    if every <= steps:
        assert averages.power(exponent, steps, every).weights @ points == pytest.approx(running, abs=1e-12)


def test_named_weights():
    assert averages.window(3, 2).weights.tolist() == [1 / 3, 0, 1 / 3, 0, 1 / 3]
    assert averages.two_point(2, 0.25).weights.tolist() == [0.75, 0, 0.25]
    assert averages.uniform(4).weights.tolist() == [0, 0.25, 0.25, 0.25, 0.25]
    assert averages.power(0, 4).weights.tolist() == pytest.approx([0, 0.25, 0.25, 0.25, 0.25])
    assert averages.ema(0.5, 2).weights.tolist() == [0.25, 0.25, 0.5]
    assert averages.last(2).weights.tolist() == [0, 0, 1]


def test_an_ema_begun_late_sees_nothing_before():
    late = averages.ema(0.9, 30).over(100)
    assert (late.weights[:70] == 0).all()
    assert late.weights[70] == pytest.approx(0.9**30)


def test_profile_of_an_ema():
    ema = averages.ema(0.99, 5000)
    assert ema.mean_age == pytest.approx(99, rel=1e-9)  # β / (1 − β)
    assert ema.effective_samples == pytest.approx(1.99 / 0.01, rel=1e-9)  # (1 + β) / (1 − β)
    assert ema.relative_width == pytest.approx(np.sqrt(0.99) / 0.01 / 5000, rel=1e-9)
    assert ema.start_weight == pytest.approx(0.99**5000)
    assert averages.ema(0.999, 500).start_weight == pytest.approx(0.999**500)
    assert str(ema) == "EMA 0.99: mean age 99 steps, 199 effective samples"


def test_profile_of_a_window():
    assert averages.window(50).mean_age == pytest.approx(24.5)
    assert averages.window(50, 4).mean_age == pytest.approx(98)
    assert averages.window(50, 4).effective_samples == pytest.approx(50)


@pytest.mark.parametrize("exponent", [0.0, 1.8262, 6.9372, 16.9722])
def test_profile_of_a_power_ema_tends_to_that_of_karras(exponent):
    # Karras et al. 2312.02696: mean (γ + 1) / (γ + 2), deviation σ_rel
    average = averages.power(exponent, 20_000)
    assert average.relative_width == pytest.approx(power_width(exponent), rel=1e-6)
    assert 1 - average.mean_age / average.steps == pytest.approx(power_mean_position(exponent), rel=1e-4)


@pytest.mark.parametrize(("every", "width"), [(1, 0.09997), (10, 0.09988), (100, 0.09895)])
def test_sparse_updates_keep_the_width(every, width):
    # γ = 6.94 in a run of 10⁴ steps, first update at step 1, so the last at 10⁴ − (every − 1)
    average = averages.power(6.94, 10_000 - (every - 1), every)
    assert average.relative_width * average.steps / 10_000 == pytest.approx(width, abs=5e-6)


def test_negative_weights_are_said():
    average = averages.given([-0.5, 0.5, 1.0], "steep")
    assert average.warnings[0].startswith("1 negative weights (sum -0.5): noise is amplified")
    assert average.over(9).warnings == average.warnings
    assert len(averages.two_point(5, 1.5).warnings) == 1


def test_an_average_does_not_change():
    weights = np.array([0.5, 0.5])
    average = averages.given(weights)
    weights[0] = 7
    assert average.weights[0] == 0.5
    with pytest.raises(ValueError, match="read-only"):
        average.weights[0] = 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: averages.given([0.5, 0.4], "mine"), "mine: expected weights that sum to one, got 0.9: divide by"),
        (lambda: averages.given([0.5, np.nan]), "expected finite weights of an average, got 1 that are not"),
        (lambda: averages.given([]), "expected weights of an average as 1-dimensional array, not empty"),
        (lambda: averages.given("abc"), "expected numbers as weights of an average, got 'abc'"),
        (lambda: averages.ema(1.0, 5), r"expected decay in \[0, 1\), got 1.0"),
        (lambda: averages.ema(-0.1, 5), r"expected decay in \[0, 1\), got -0.1"),
        (lambda: averages.ema(0.9, 0, start_corrected=True), "expected steps of the EMA of at least 1, got 0"),
        (lambda: averages.window(50).over(20), "window 50: expected a run of at least 49 steps, .* got 20"),
        (lambda: averages.window(0), "expected length of the window of at least 1, got 0"),
        (lambda: averages.window(2.5), "expected a whole number as length of the window, got 2.5"),
        (lambda: averages.two_point(3, np.inf), "expected a finite weight on the newer point, got inf"),
        (lambda: averages.power(-1, 5), "expected an exponent > −1, got -1"),
        (lambda: averages.given([4.0, -4, 4, -3]).relative_width, "expected weights with a width"),
    ],
)
def test_bad_averages_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
