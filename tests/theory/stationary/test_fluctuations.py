"""Where fluctuations peak, and how they vanish at the critical temperature."""

import pytest

from sgdscope.theory.stationary import DiagonalLaw, DiagonalNoise, critical_amplitudes, fluctuation_peak

from .cases import GAUSSIAN, GENERAL, fitted


@pytest.mark.parametrize(
    ("noise", "ratio", "variance"), [(GAUSSIAN, 0.60719, 0.3721740), (GENERAL, 0.41508, 0.2777588)]
)
def test_peak(noise, ratio, variance):
    peak = fluctuation_peak(noise)
    # the variance is flat there: the place is good to the root of its accuracy
    assert peak.temperature.value / noise.critical_temperature() == pytest.approx(ratio, abs=2e-5)
    assert peak.variance.value == pytest.approx(variance, rel=1e-6)


@pytest.mark.parametrize(("depth", "weight_decay"), [(1, 0.2), (2, 0), (5, 0)])
def test_peak_is_a_maximum(depth, weight_decay):
    peak = fluctuation_peak(GENERAL, depth, weight_decay=weight_decay)
    for factor in (0.9, 1.1):
        law = DiagonalLaw(GENERAL, peak.temperature.value * factor, depth, weight_decay=weight_decay)
        assert law.variance < peak.variance.value


@pytest.mark.parametrize(("noise", "mean", "variance"), [(GAUSSIAN, 1.99199, 2.49599), (GENERAL, 0.658188, 0.777530)])
@pytest.mark.parametrize("sign", [1, -1])
def test_amplitudes(noise, mean, variance, sign):
    amplitudes = critical_amplitudes(noise if sign > 0 else noise.flipped)
    assert amplitudes.mean.value == pytest.approx(sign * mean, rel=5e-6)
    assert amplitudes.variance.value == pytest.approx(variance, rel=5e-6)


@pytest.mark.parametrize("weight_decay", [0, 0.3])
def test_amplitudes_are_the_slopes_of_the_law_and_obey_its_moment_identity(weight_decay):
    critical = GENERAL.critical_temperature(weight_decay)
    amplitudes = critical_amplitudes(GENERAL, weight_decay)
    law = DiagonalLaw(GENERAL, critical * (1 - 1e-6), 1, weight_decay=weight_decay)
    assert law.mean / 1e-6 == pytest.approx(amplitudes.mean.value, rel=1e-4)
    assert law.variance / 1e-6 == pytest.approx(amplitudes.variance.value, rel=1e-4)
    first = (1.2 - 2 * 0.7 * critical) * amplitudes.mean.value + 1.5 * critical * amplitudes.variance.value
    assert first == pytest.approx(0.9 - weight_decay, rel=1e-9)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: fluctuation_peak(GENERAL, 0), "depth ≥ 1"),
        (lambda: fluctuation_peak(GENERAL, 2, weight_decay=0.1), "no weight decay at depth > 1"),
        (lambda: fluctuation_peak(fitted()), "noise vanishes"),
        (lambda: critical_amplitudes(fitted()), "noise vanishes"),
        (lambda: critical_amplitudes(DiagonalNoise(1, 0, 1, 1, 0.1), 0.2), "weight decay"),
    ],
)
def test_bad_input_gets_a_sentence(ask, said):
    with pytest.raises(ValueError, match=said):
        ask()
