"""Escape times with censoring: unbiased rates, honest errors, straight lines with the right slope."""

import math

import numpy as np
import pytest

from sgdscope.estimate import Estimate
from sgdscope.simulate.survival import EscapeTimes, fit_log_rates

RNG = np.random.default_rng(0)


def drawn(n, rate, end, seed=0):
    times = np.random.default_rng(seed).exponential(1 / rate, n)
    return EscapeTimes.watched_until(times, end, "steps")


@pytest.mark.parametrize("end", [0.5, 2.0, 1e9])
def test_rate_is_unbiased_whatever_is_censored(end):
    found = [drawn(400, 1.7, end, seed).rate() for seed in range(60)]
    values, errors = np.array([float(f) for f in found]), np.array([f.standard_error for f in found])
    assert values.mean() == pytest.approx(1.7, abs=3 * values.std() / math.sqrt(60))
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.3)
    # leaving out the censored, or taking the end for their times, would be far off
    if end == 0.5:
        one = drawn(400, 1.7, end)
        assert 1 / one.times[one.escaped].mean() > 3


def test_mean_time():
    everyone = drawn(2000, 0.5, 1e9)
    assert float(everyone.mean_time()) == pytest.approx(everyone.times.mean())
    assert everyone.mean_time().standard_error == pytest.approx(everyone.times.std(ddof=1) / math.sqrt(2000))
    some = drawn(2000, 0.5, 1.0)
    assert float(some.mean_time()) == pytest.approx(2.0, abs=3.5 * some.mean_time().standard_error)
    assert some.mean_time().unit == "steps"
    assert some.rate().unit == "1 / (steps)"


def test_a_transient_is_left_out():
    late = EscapeTimes(3 + drawn(4000, 0.5, 1e9).times, np.ones(4000, bool))
    assert float(late.rate()) < 0.25
    assert float(late.rate(after=3.0)) == pytest.approx(0.5, rel=0.05)
    assert float(late.mean_time(after=3.0)) == pytest.approx(5.0, rel=0.03)


def test_hazard_ratio_tells_a_mixture_from_an_exponential_law():
    pure = drawn(4000, 1.0, 3.0).hazard_ratio()
    assert abs(float(pure.beside["z"])) < 3
    mixed = EscapeTimes(np.where(RNG.random(4000) < 0.5, 0.1, 1.0) * drawn(4000, 1.0, 1e9).times, np.ones(4000, bool))
    assert float(mixed.hazard_ratio()) < 0.5
    assert float(mixed.hazard_ratio().beside["z"]) < -5
    late = EscapeTimes(2 + drawn(4000, 1.0, 1e9).times, np.ones(4000, bool))
    assert float(late.hazard_ratio().beside["z"]) > 5
    ratios = [float(drawn(200, 1.0, 2.0, seed).hazard_ratio().beside["z"]) for seed in range(60)]
    assert np.std(ratios) == pytest.approx(1, abs=0.3)
    assert abs(np.mean(ratios)) < 0.5


def test_survival_curve_is_kaplan_and_meiers():
    # 6 replicas: escapes at 1, 3, 3, censored at 2, 4, 4
    found = EscapeTimes([1, 3, 3, 2, 4, 4], [True, True, True, False, False, False]).survival()
    at = dict(zip(found.times.tolist(), found.share.tolist(), strict=True))
    assert at[1] == pytest.approx(5 / 6)
    assert at[3] == pytest.approx(5 / 6 * 2 / 4)
    assert (found.low <= found.share + 1e-12).all()
    assert (found.high >= found.share - 1e-12).all()
    curve = drawn(3000, 1.0, 2.0).survival()
    truth = np.exp(-curve.times)
    inside = (curve.low <= truth) & (truth <= curve.high)
    assert inside[50:].mean() > 0.8


def test_nothing_escaped():
    none = EscapeTimes.watched_until(np.full(10, np.inf), 5.0)
    assert none.censored == 1
    assert none.rate().status == "failed"
    assert "below 0.06" in none.rate().reason
    assert none.mean_time().status == "failed"
    assert none.hazard_ratio().status == "failed"
    with pytest.raises(ValueError, match="watch longer"):
        none.survival()


def test_few_escapes_say_so():
    assert drawn(10, 1.0, 1e9).rate().status == "few_samples"
    assert drawn(50, 1.0, 1e9).rate().status == "ok"


def rates_along(x, slope, intercept, error, seed):
    rng = np.random.default_rng(seed)
    truth = np.exp(-(slope * x + intercept))
    return [Estimate("escape_rate", t * math.exp(error * rng.standard_normal()), error * t) for t in truth]


def test_slopes_have_honest_errors():
    x = np.array([1.0, 2.0, 3.0, 5.0])
    fits = [fit_log_rates(x, rates_along(x, 0.7, -2.0, 0.05, seed)) for seed in range(200)]
    slopes = np.array([float(f.slope) for f in fits])
    assert slopes.mean() == pytest.approx(0.7, abs=0.005)
    assert slopes.std() == pytest.approx(fits[0].slope.standard_error, rel=0.15)
    intercepts = np.array([float(f.intercept) for f in fits])
    assert intercepts.mean() == pytest.approx(-2.0, abs=0.02)
    assert intercepts.std() == pytest.approx(fits[0].intercept.standard_error, rel=0.15)
    assert np.mean([f.chi_squared for f in fits]) == pytest.approx(2, rel=0.2)
    assert np.mean([f.p_value < 0.05 for f in fits]) < 0.12


def test_rescaled_landscapes_need_their_logarithm():
    # rates k e^{−c / k}: −ln rate is linear in 1/k only after −ln k is taken away
    k = np.array([0.5, 1.0, 2.0, 4.0])
    rates = [Estimate("escape_rate", r, 0.001 * r) for r in k * np.exp(-3 / k)]
    assert float(fit_log_rates(1 / k, rates, offset=-np.log(k)).slope) == pytest.approx(3, rel=1e-9)
    bare = fit_log_rates(1 / k, rates)
    assert abs(float(bare.slope) - 3) > 0.3
    assert bare.p_value < 1e-6
    assert fit_log_rates([1, 2], rates[:2]).p_value is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: EscapeTimes([1.0, -1.0], [True, True]), "≥ 0"),
        (lambda: EscapeTimes([1.0, math.inf], [True, False]), "time watched"),
        (lambda: EscapeTimes([1.0], [True, False]), "one shape"),
        (lambda: drawn(10, 1.0, 1.0).rate(after=-1), "start from"),
        (lambda: fit_log_rates([1.0, 1.0], [Estimate("r", 1, 1)] * 2), "two different x"),
        (lambda: fit_log_rates([1.0, 2.0], [Estimate("r", 1, 1), Estimate("r", 1)]), "standard error at x = 2"),
        (lambda: fit_log_rates([1.0, 2.0], [Estimate("r", 1, 1), Estimate.failed("r", "none")]), "x = 2"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
