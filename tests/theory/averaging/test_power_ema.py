"""Power EMA: exponents of widths and back, decays against the profile they make."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from sgdscope.theory.averaging import averages, power_decay, power_exponent, power_mean_position, power_width


@pytest.mark.parametrize(("width", "exponent"), [(0.05, 16.9722), (0.10, 6.9372), (0.15, 3.5579), (0.20, 1.8262)])
def test_exponents_of_karras(width, exponent):
    assert power_exponent(width) == pytest.approx(exponent, abs=5e-5)


@given(st.floats(-0.3, 1000))
def test_width_and_exponent_go_back_and_forth(exponent):
    assert power_exponent(power_width(exponent)) == pytest.approx(exponent, rel=1e-11, abs=1e-12)


@given(st.floats(1e-4, 0.2999))
def test_exponent_and_width_go_back_and_forth(width):
    assert power_width(power_exponent(width)) == pytest.approx(width, rel=1e-12)


@given(st.floats(-0.5, 40))
def test_moments_by_quadrature(g):
    def moment(k):
        return quad(lambda x: (g + 1) * x ** (g + k), 0, 1)[0]

    assert power_mean_position(g) == pytest.approx(moment(1), rel=1e-7)
    assert power_width(g) == pytest.approx(np.sqrt(moment(2) - moment(1) ** 2), rel=1e-6)


def test_a_uniform_average_is_the_exponent_zero():
    assert power_width(0) == pytest.approx(1 / np.sqrt(12), rel=1e-14)
    assert power_exponent(1 / np.sqrt(12)) == pytest.approx(0, abs=1e-12)


@given(st.floats(-0.9, 30), st.integers(1, 50), st.integers(2, 20))
def test_decays_make_the_weights(exponent, every, updates):
    weights = averages.power(exponent, updates * every, every).weights
    newest = 1 - power_decay(updates * every, exponent, every)
    assert weights[-1] == pytest.approx(newest, rel=1e-9)
    kept = power_decay(updates * every, exponent, every)
    assert weights[-1 - every] == pytest.approx(
        kept * (1 - power_decay((updates - 1) * every, exponent, every)), rel=1e-9
    )


def test_first_update_takes_the_point_over():
    assert power_decay(1, 6.94) == 0
    assert power_decay(100, 6.94, 100) == 0
    assert power_decay(10, 0) == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: power_exponent(0.31), "expected a relative width of at most 0.3002831, got 0.31: no profile has it"),
        (lambda: power_exponent(0), "expected relative width > 0, got 0"),
        (lambda: power_width(-1.0), "expected an exponent > −1, got -1.0"),
        (lambda: power_decay(0, 1.0), "expected step of at least 1, got 0"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
