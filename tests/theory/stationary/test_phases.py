"""Phases of depth 1: temperatures at which the law changes its shape, against the law itself."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sgdscope.theory.stationary import (
    DiagonalLaw,
    DiagonalNoise,
    coalescence_temperature,
    critical_temperature,
    divergence_temperature,
    mode_temperature,
    moment_identity,
    nonzero_mode,
    regime,
)

from .cases import GAUSSIAN, GENERAL, noises


@pytest.mark.parametrize(
    ("noise", "weight_decay", "value"),
    [
        (GAUSSIAN, 0, 1 / 3),
        (GENERAL, 0, 0.45),
        (GENERAL, 0.2, 0.35),
        (DiagonalNoise.of_data([1, 2, -1, 0.5], [0.5, 1, 1.5, -0.3]), 0, 0.13402976),
    ],
)
def test_critical_temperature(noise, weight_decay, value):
    critical = critical_temperature(noise, weight_decay)
    assert critical.value == pytest.approx(value, rel=1e-7)
    assert critical.valid
    assert divergence_temperature(noise, weight_decay).value == pytest.approx(value / 3, rel=1e-7)
    assert DiagonalLaw(noise, critical.value, 1, weight_decay=weight_decay).collapsed
    assert not DiagonalLaw(noise, critical.value * 0.999, 1, weight_decay=weight_decay).collapsed


@given(noises(), st.floats(0, 0.25), st.floats(0.02, 0.98))
def test_moment_identity(noise, weight_decay, ratio):
    law = DiagonalLaw(noise, ratio * noise.critical_temperature(weight_decay), 1, weight_decay=weight_decay)
    assert abs(moment_identity(law)) < 1e-8 * (1 + noise.product_mean)


@pytest.mark.parametrize(
    ("noise", "temperature", "weight_decay"),
    [(GAUSSIAN, 0.05, 0), (GAUSSIAN, 0.2, 0), (GENERAL, 0.1, 0), (GENERAL, 0.1, 0.2)],
)
def test_moment_identity_of_the_reference_cases(noise, temperature, weight_decay):
    assert abs(moment_identity(DiagonalLaw(noise, temperature, 1, weight_decay=weight_decay))) < 1e-8
    assert abs(moment_identity(DiagonalLaw(noise.flipped, temperature, 1, weight_decay=weight_decay))) < 1e-8


@pytest.mark.parametrize(
    ("noise", "temperature", "weight_decay", "mode"),
    [
        (GAUSSIAN, 0.05, 0, 0.8864052604),
        (GAUSSIAN, 0.2, 0, 0.5714285714),
        (GENERAL, 0.1, 0, 0.3470574156),
        (GENERAL, 0.1, 0.2, 0.1516834653),
    ],
)
def test_mode(noise, temperature, weight_decay, mode):
    assert nonzero_mode(noise, temperature, weight_decay) == pytest.approx(mode, rel=1e-9)
    assert nonzero_mode(noise.flipped, temperature, weight_decay) == pytest.approx(-mode, rel=1e-9)


@given(noises(), st.floats(0.02, 0.98))
def test_mode_is_the_maximum_of_the_density(noise, ratio):
    law = DiagonalLaw(noise, ratio * noise.critical_temperature(), 1)
    v = np.geomspace(1e-4, 1e3, 20_000)
    height = law.log_density(noise.sign * v)
    inner = v[1:-1][(height[1:-1] > height[:-2]) & (height[1:-1] > height[2:])]
    mode = abs(law.mode) if law.modes else None
    if mode is None or not 1e-3 < mode < 1e2:
        assert len(inner) == 0 or mode is not None
    elif len(inner):  # one that the grid steps over is too shallow to be seen
        assert inner == pytest.approx([mode], rel=2e-3)
    else:
        assert law.log_density(noise.sign * mode) == pytest.approx(law.log_density(noise.sign * mode * 1.001), abs=1e-5)


def test_mode_at_low_temperature():
    a1, a2, a3, b1, b2 = 1.5, 0.7, 2, 1.2, 0.9
    shift = 10 * a2 * b2 / b1**2 - 7 * a1 * b2**2 / b1**3 - 3 * a3 / b1
    assert (nonzero_mode(GENERAL, 1e-7) - b2 / b1) / 1e-7 == pytest.approx(shift, rel=1e-4)


@pytest.mark.parametrize(
    ("noise", "value"),
    [
        (GAUSSIAN, 0.2015527),
        (GENERAL, 0.1505623),
        (DiagonalNoise.gaussian(1, 4), 0.0557943),
        (DiagonalNoise.gaussian(1, 6), 0.0421070),
    ],
)
def test_coalescence(noise, value):
    assert coalescence_temperature(noise).value == pytest.approx(value, rel=1e-6)
    assert coalescence_temperature(noise.flipped).value == pytest.approx(value, rel=1e-6)


@given(st.floats(0.3, 3), st.floats(0.8, 5))
def test_coalescence_of_gaussian_data(k, sigma):
    assume(21 * sigma**2 > 8.1 * k**2)
    expected = (4 * k + math.sqrt(42) * sigma) / (4 * (21 * sigma**2 - 8 * k * k))
    assert coalescence_temperature(DiagonalNoise.gaussian(k, sigma**2)).value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("noise", "value", "formula"),
    [
        (GAUSSIAN, 0.2015527, "T*"),
        (DiagonalNoise.gaussian(1, 4), 0.0557943, "T*"),
        (DiagonalNoise.gaussian(1, 6), 0.0416667, "T_c / 3"),
        (GENERAL, 0.15, "T_c / 3"),
        (DiagonalNoise.gaussian(1, 0.2), 1 / 2.2, "T_c"),
    ],
)
def test_end_of_the_nonzero_mode(noise, value, formula):
    end = mode_temperature(noise)
    assert end.value == pytest.approx(value, rel=2e-6)
    assert end.formula == formula
    assert end.valid == (formula != "T_c")
    assert nonzero_mode(noise, end.value * (1 - 1e-6)) is not None
    assert (nonzero_mode(noise, end.value * (1 + 1e-6)) is None) == end.valid


@given(noises(), st.floats(0, 0.25))
def test_the_nonzero_mode_is_there_below_its_end_and_gone_right_above(noise, weight_decay):
    critical = noise.critical_temperature(weight_decay)
    end = mode_temperature(noise, weight_decay)
    assert critical / 3 * (1 - 1e-12) <= end.value <= critical
    below = end.value * np.linspace(0.01, 1 - 1e-9, 30)
    assert all(nonzero_mode(noise, temperature, weight_decay) is not None for temperature in below)
    if end.valid:
        assert nonzero_mode(noise, end.value * (1 + 1e-9), weight_decay) is None


@pytest.mark.parametrize(
    ("noise", "temperature", "label"),
    [
        (GAUSSIAN, 0.05, "III"),
        (GAUSSIAN, 0.2, "IIb"),
        (GAUSSIAN, 0.21, "IIa"),
        (GAUSSIAN, 0.34, "Ia"),
        (DiagonalNoise.gaussian(1, 0.2), 0.5, "Ib"),
        (GENERAL, 0.1, "III"),
        (GENERAL, 0.2, "IIa"),
        (GENERAL, 0.45, "Ia"),
    ],
)
def test_regimes(noise, temperature, label):
    found = regime(noise, temperature)
    assert found.label == label
    assert (found.nonzero_mode is None) == (label in ("Ia", "IIa"))
    assert label in str(found)
    assert DiagonalLaw(noise, temperature, 1).collapsed == label.startswith("I" if label[1:2] in "ab" else "-")
    if label.startswith("II"):
        near = DiagonalLaw(noise, temperature, 1).density([1e-12, 1e-9])
        assert (near[0] < near[1]) == (label == "III")


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: critical_temperature(GENERAL, 0.9), "expected weight decay <"),
        (lambda: critical_temperature(DiagonalNoise(1, 0, 0, 1, 1)), "no critical temperature"),
        (lambda: coalescence_temperature(DiagonalNoise.gaussian(1, 0.2)), "do not coalesce"),
        (lambda: regime(GENERAL, 0), "temperature"),
        (lambda: nonzero_mode(GENERAL, -1), "temperature"),
        (lambda: moment_identity(DiagonalLaw(GENERAL, 0.1, 2)), "depth 1 with a density"),
        (lambda: moment_identity(DiagonalLaw(GENERAL, 1, 1)), "depth 1 with a density"),
    ],
)
def test_bad_input_gets_a_sentence(ask, said):
    with pytest.raises(ValueError, match=said):
        ask()
