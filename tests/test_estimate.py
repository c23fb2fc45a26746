"""Estimates: what they refuse, how they read, and that they survive a row of JSON."""

import copy
import dataclasses
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdscope.estimate import Estimate, plain, with_error

finite = st.floats(allow_nan=False, allow_infinity=False)
errors = st.none() | st.floats(0, 1e300)
settings_of = st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | finite | st.text(), max_size=3)


@st.composite
def estimates(draw, depth=1):
    size = draw(st.none() | st.integers(1, 3))
    status = draw(st.sampled_from(["ok", "not_converged", "few_samples", "diverged", "failed"]))

    def shaped(number):
        return draw(number if size is None else st.none() | st.tuples(*[number.filter(lambda v: v is not None)] * size))

    value = draw(finite if size is None else st.tuples(*[finite] * size))
    if status in ("diverged", "failed") and draw(st.booleans()):
        value = None
    return Estimate(
        draw(st.text()),
        value,
        shaped(errors),
        shaped(errors),
        draw(st.integers(0, 10**9)),
        draw(st.floats(0, 1e12)),
        status,
        "" if status == "ok" else draw(st.text(min_size=1)),
        draw(st.text()),
        draw(settings_of),
        draw(st.dictionaries(st.text(), estimates(depth=depth - 1), max_size=2)) if depth else {},
    )


@given(estimates())
def test_row_gives_the_estimate_back(estimate):
    row = json.loads(json.dumps(estimate.to_row(), allow_nan=False))
    assert Estimate.from_row(row) == estimate
    assert isinstance(str(estimate), str)


def test_numbers_become_python_floats():
    estimate = Estimate("x", np.array([1, 2]), np.float32(0.5), count=np.int64(3), cost=np.float64(2))
    assert (estimate.value, estimate.standard_error, estimate.count, estimate.cost) == ((1.0, 2.0), 0.5, 3, 2.0)
    assert type(estimate.value[0]) is float
    assert type(estimate.count) is int
    assert float(estimate) == 1.0
    assert Estimate("x", [3, 4]).value == (3.0, 4.0)
    assert json.dumps(Estimate("x", np.float64(1.5), settings={"b": np.int64(8)}).to_row())


def test_settings_are_plain_and_one_s_own():
    mine = {"lr": np.float32(0.5), 3: (1, 2), "path": Path("a/b"), "limit": math.inf, "seen": np.arange(2)}
    estimate = Estimate("x", 1.0, settings=mine)
    assert estimate.settings == {"lr": 0.5, "3": [1, 2], "path": "a/b", "limit": "inf", "seen": [0, 1]}
    mine["lr"] = 2
    assert estimate.settings["lr"] == 0.5
    assert copy.deepcopy(estimate) == pickle.loads(pickle.dumps(estimate)) == estimate


def test_plain_takes_anything():
    @dataclasses.dataclass
    class Config:
        lr: float
        sizes: tuple[int, ...]

    assert plain(Config(0.1, (1, 2))) == {"lr": 0.1, "sizes": [1, 2]}
    assert plain(Config) == str(Config)
    assert plain({"b": True, "n": None, "f": -math.inf}) == {"b": True, "n": None, "f": "-inf"}
    assert plain(np.array([1.0, math.nan])) == [1.0, "nan"]
    loop: list[object] = []
    loop.append(loop)
    assert "..." in json.dumps(plain(loop))


def test_scaled_scales_errors_by_size_and_only_companions_of_the_same_unit():
    curvature = "loss / parameter²"
    roe, norm = Estimate("roe", 5.0, 0.2, unit=curvature), Estimate("norm", 7.0, unit="loss²")
    one = Estimate(
        "x", (3.0, 1.0), (0.1, 0.2), (0.3, 0.4), 9, 2.5, unit=curvature, beside={"roe": roe, "norm": norm},
        settings={"batch_size": 8}, status="few_samples", reason="short",
    )  # fmt: skip
    two = one.scaled(-2.0, name="y", unit="edge units")
    assert (two.name, two.unit, two.value) == ("y", "edge units", (-6.0, -2.0))
    assert (two.standard_error, two.residual) == ((0.2, 0.4), (0.6, 0.8))
    assert (two.count, two.cost, two.status, two.reason) == (9, 2.5, "few_samples", "short")
    assert two.settings == one.settings
    assert (two.beside["roe"].value, two.beside["roe"].standard_error) == (-10.0, 0.4)
    assert two.beside["norm"] == norm
    assert Estimate.failed("x", "why").scaled(2.0).value is None
    with pytest.raises(ValueError, match="expected finite value"):
        Estimate("x", 1e300).scaled(1e300)


def test_words():
    assert str(Estimate("x", 38.9123, 0.412, count=370, cost=1110, settings={"batch_size": 32})) == (
        "38.91 ± 0.41  (370 batches; 1.11e+03 gradient evaluations)"
    )
    assert str(Estimate("x", 38.9123)) == "38.9"
    assert str(Estimate("x", (2.0, 1.0), residual=(1e-4, 2e-3))) == "2, 1  (residual 0.002)"
    assert str(Estimate("x", (2.0, 1.0), 0.1)) == "2.00 ± 0.10, 1.00 ± 0.10"
    assert str(Estimate("x", 2.0, 0.1, count=3, status="few_samples", reason="3 of 20")) == (
        "2.00 ± 0.10  (3 draws; few_samples: 3 of 20)"
    )
    assert str(Estimate.failed("x", "no second derivative")) == "x: failed (no second derivative)"
    assert str(Estimate.failed("x", "the loss is inf", status="diverged")) == "x: diverged (the loss is inf)"


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (38.9123, 0.412, "38.91 ± 0.41"),
        (38.9123, 0.0996, "38.91 ± 0.10"),
        (38.9123, 0.0, "38.9123 ± 0"),
        (38.9123, None, "38.9"),
        (12345.0, 320.0, "12340 ± 320"),
        (0.0, 0.5, "0.00 ± 0.50"),
        (-3.14159, 0.01, "-3.142 ± 0.010"),
        (1.23456e-7, 2.3e-9, "1.235e-07 ± 2.3e-09"),
        (1.23456e9, 2.3e5, "1.23456e+09 ± 2.3e+05"),
        (2.0, 1e-17, "2 ± 1e-17"),
        (1.0, 5e-324, "1 ± 4.9e-324"),
        (1e300, 1e299, "1e+300 ± 1e+299"),
        (0.0, 1e-9, "0 ± 1e-09"),
    ],
)
def test_with_error(value, error, text):
    assert with_error(value, error) == text


def test_one_digit_of_the_error_where_asked_for():
    assert with_error(0.7293, 0.0098, digits=1) == "0.73 ± 0.01"
    assert with_error(5.89, 0.83, digits=1) == "5.9 ± 0.8"
    assert with_error(4549.0, 620.0, digits=1) == "4500 ± 600"
    assert with_error(5.04e-05, 1e-06, digits=1) == "5e-05 ± 1e-06"


@given(st.floats(-1e300, 1e300), st.floats(0, 1e300))
def test_with_error_is_short_and_true(value, error):
    text = with_error(value, error)
    shown, doubt = (float(part) for part in text.split(" ± "))
    assert len(text) < 45
    assert doubt == pytest.approx(error, rel=0.06, abs=0)
    assert abs(shown - value) <= max(0.06 * error, 1e-5 * abs(value))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Estimate("x", math.nan), "expected finite value, got nan; a number that could not be measured is"),
        (lambda: Estimate("x", (1.0, math.inf)), "expected finite value, got inf"),
        (lambda: Estimate("x", 10**400), "expected finite value, got inf"),
        (lambda: Estimate("x", 1.0, math.nan), "expected finite standard_error, got nan"),
        (lambda: Estimate("x", 1.0, residual=math.inf), "expected finite residual, got inf"),
        (lambda: Estimate("x", 1.0, cost=math.nan), "expected finite cost, got nan"),
        (lambda: Estimate("x", "12"), "expected a number as value, got '12'"),
        (lambda: Estimate("x", True), "expected a number as value, got True"),
        (lambda: Estimate("x", ()), "expected at least one number as value, got none"),
        (lambda: Estimate("x", 1.0, -0.1), "x: expected standard_error ≥ 0, got -0.1"),
        (lambda: Estimate("x", (1.0, 2.0), (0.1,)), "x: expected standard_error in the shape of the value, got 1"),
        (lambda: Estimate("x", 1.0, residual=(0.1,)), "x: expected residual in the shape of the value, got 1"),
        (lambda: Estimate("x", 1.0, status="fine"), "expected a status among ok, not_converged, .* got 'fine'"),
        (lambda: Estimate("x", None), "x: an estimate without value needs status 'failed' or 'diverged'"),
        (lambda: Estimate("x", 1.0, status="few_samples"), "x: status 'few_samples' needs a reason"),
        (lambda: float(Estimate.failed("x", "out of memory")), "x has no value: out of memory"),
    ],
)
def test_messages(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def nested(depth: int) -> dict:
    row: dict = {"name": "x", "value": 1.0}
    for _ in range(depth):
        row = {"name": "x", "value": 1.0, "beside": {"x": row}}
    return row


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"name": "x"},
        {"name": 3, "value": 1.0},
        {"name": "x", "value": "1"},
        {"name": "x", "value": "nan"},
        {"name": "x", "value": [[1.0]]},
        {"name": "x", "value": {"a": 1}},
        {"name": "x", "value": 10**400},
        {"name": "x", "value": 1.0, "count": math.inf},
        {"name": "x", "value": 1.0, "count": "many"},
        {"name": "x", "value": 1.0, "cost": math.inf},
        {"name": "x", "value": 1.0, "status": ["ok"]},
        {"name": "x", "value": 1.0, "settings": [["a", 1]]},
        {"name": "x", "value": 1.0, "settings": None},
        {"name": "x", "value": 1.0, "beside": [1]},
        {"name": "x", "value": 1.0, "beside": {"y": 3}},
        {"name": "x", "value": 1.0, "reason": {"a": 1}},
        [],
        "x",
        None,
        nested(5),
        nested(100_000),
    ],
    ids=lambda row: "deep" if isinstance(row, dict) and "beside" in row else repr(row)[:40],
)
def test_rows_of_another_shape_are_a_value_error(row):
    with pytest.raises(ValueError):
        Estimate.from_row(row)


def test_rows_may_leave_things_out():
    assert Estimate.from_row({"name": "x", "value": 1}) == Estimate("x", 1.0)
    assert Estimate.from_row(nested(3)).beside["x"].beside["x"].beside["x"].value == 1.0
