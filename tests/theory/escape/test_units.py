"""Units of escape times: conversions, and what is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdscope.theory.escape import ITERATIONS, KINETIC_TIME, TIME, in_iterations, in_time, time_ratio
from sgdscope.theory.escape.units import common_unit, rate_unit, time_unit
from sgdscope.theory.prediction import Prediction

UNITS = (TIME, KINETIC_TIME, ITERATIONS)


def said(value, unit):
    return Prediction(value, "mean escape time", "τ", "here", "there", unit)


@given(st.floats(1e-3, 1e6), st.floats(1e-6, 10), st.sampled_from(UNITS), st.sampled_from(("{}", "1 / ({})", "ln({})")))
def test_conversions_go_there_and_back(value, lr, unit, form):
    start = said(value, form.format(unit))
    there = in_iterations(start, lr)
    assert there.unit == form.format(ITERATIONS)
    assert in_iterations(there, lr) == there
    back = in_time(there, lr)
    assert back.unit == form.format(TIME)
    power = {TIME: 1.0, KINETIC_TIME: 0.5, ITERATIONS: 0.0}[unit]
    if form == "{}":
        assert there.value == pytest.approx(value / lr**power, rel=1e-12)
        assert back.value == pytest.approx(there.value * lr, rel=1e-12)
    elif form.startswith("1"):
        assert there.value == pytest.approx(value * lr**power, rel=1e-12)
        assert back.value == pytest.approx(there.value / lr, rel=1e-12)
    else:
        assert there.value == pytest.approx(value - power * math.log(lr), abs=1e-9)
        assert back.value == pytest.approx(there.value + math.log(lr), abs=1e-9)
    assert (back.value == pytest.approx(value, rel=1e-9)) or unit != TIME


def test_ratio_of_times_of_one_unit():
    assert time_ratio(said(6.0, TIME), said(3.0, TIME)) == 2
    assert time_ratio(said(6.0, f"ln({TIME})"), said(3.0, f"ln({TIME})")) == pytest.approx(math.exp(3))
    assert time_unit(said(1.0, rate_unit(KINETIC_TIME))) == (KINETIC_TIME, -1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: time_ratio(said(1, TIME), said(1, ITERATIONS)), "expected predictions in one unit, got iterations, l"),
        (lambda: time_ratio(said(1, TIME), said(0, TIME)), "other than 0"),
        (lambda: time_ratio(said(1e4, f"ln({TIME})"), said(0, f"ln({TIME})")), "beyond floating point"),
        (lambda: common_unit(), "got none"),
        (lambda: in_iterations(said(1, ""), 0.1), "expected a time, a rate or the logarithm of a time"),
        (lambda: in_iterations(said(1, "seconds"), 0.1), "got mean escape time in seconds"),
        (lambda: in_time(said(1, TIME), 0), "expected a learning rate > 0, got 0"),
        (lambda: in_time(said(1, TIME), math.nan), "expected a learning rate > 0, got nan"),
    ],
)
def test_mixtures_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
