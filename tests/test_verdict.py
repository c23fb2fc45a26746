"""Verdicts: outcome, margin and words of a comparison."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdscope import Estimate, compare


def held(value, error=None, predicted=10.0, *, residual=None, **how):
    return compare(Estimate("x", value, error, residual), predicted, claim="x settles at ten", **how)


@pytest.mark.parametrize(
    ("value", "error", "relation", "tolerance", "outcome"),
    [
        (10.4, 0.1, "equal", 0.1, "agrees"),
        (10.9, 0.1, "equal", 0.1, "undecided"),  # the border, 11, within two standard errors
        (11.1, 0.1, "equal", 0.1, "undecided"),
        (11.3, 0.1, "equal", 0.1, "disagrees"),
        (8.7, 0.1, "equal", 0.1, "disagrees"),
        (10.0, 0.6, "equal", 0.1, "undecided"),  # so wide that both borders are within reach
        (9.0, 0.4, "below", 0.1, "agrees"),
        (9.0, 0.6, "below", 0.1, "undecided"),
        (11.0, 0.4, "below", 0.1, "disagrees"),
        (11.0, 0.4, "above", 0.1, "agrees"),
        (9.0, 0.4, "above", 0.1, "disagrees"),
        (10.0, None, "below", 0.1, "disagrees"),
        (10.0, None, "equal", 0.0, "agrees"),
        (10.0, 0.1, "equal", 0.0, "undecided"),
        (11.0, None, "equal", 0.0, "disagrees"),
    ],
)
def test_outcome(value, error, relation, tolerance, outcome):
    assert held(value, error, relation=relation, tolerance=tolerance).outcome == outcome


def test_confidence_counts_standard_errors():
    assert held(10.5, 0.3).outcome == "undecided"
    assert held(10.5, 0.3, confidence=1.0).outcome == "agrees"


def test_doubt_of_solver_and_of_the_prediction():
    assert held(10.5, 0.1).outcome == "agrees"
    assert held(10.5, 0.1, residual=0.4).outcome == "undecided"
    assert held(9.0, 0.3, relation="below").outcome == "agrees"
    assert held(9.0, 0.3, relation="below", predicted_error=0.3).outcome == "agrees"  # hypot(.3, .3) · 2 = .85
    assert held(9.0, 0.3, relation="below", predicted_error=0.5).outcome == "undecided"


def test_margin_is_signed_and_relative():
    assert held(12.0).margin == pytest.approx(0.2)
    assert held(9.0).margin == pytest.approx(-0.1)
    assert held(-9.0, predicted=-10.0).margin == pytest.approx(0.1)
    assert held(-9.0, predicted=-10.0, tolerance=0.11).outcome == "agrees"
    assert held(1.0, predicted=0.0, relation="above").margin is None


@given(st.floats(-1e6, 1e6), st.floats(0.1, 100), st.floats(-1e6, 1e6), st.floats(0.1, 10))
def test_more_doubt_never_turns_a_verdict_round(value, error, predicted, more):
    for relation in ("below", "above"):
        sure = held(value, error, predicted, relation=relation).outcome
        less = held(value, error + more, predicted, relation=relation).outcome
        assert less in (sure, "undecided")


def test_without_value_it_is_unassessed():
    for measured in (
        Estimate.failed("x", "the kernel has no second derivative"),
        Estimate("x", 10.0, status="failed", reason="the kernel has no second derivative"),
        Estimate("x", 10.0, status="diverged", reason="the kernel has no second derivative"),
    ):
        verdict = compare(measured, 10.0, claim="x settles at ten")
        assert (verdict.outcome, verdict.margin) == ("unassessed", None)
        assert str(verdict) == "unassessed: x settles at ten (the kernel has no second derivative)"


@pytest.mark.parametrize("status", ["not_converged", "few_samples"])
def test_unstated_doubt_is_undecided(status):
    bare = Estimate("x", 10.0, status=status, reason="out of budget")
    stated = Estimate("x", 10.0, 0.1, 0.1, status=status, reason="out of budget")
    assert compare(bare, 10.0, claim="").outcome == "undecided"
    assert compare(stated, 10.0, claim="").outcome == "agrees"


def test_of_a_tuple_the_first_component_is_held():
    verdict = compare(Estimate("spectrum", (10.2, 3.0), (0.1, 5.0)), 10.0, claim="the first settles at ten")
    assert verdict.outcome == "agrees"
    assert str(verdict) == "agrees: the first settles at ten: measured 10.20 ± 0.10, predicted 10"


def test_words_and_row():
    verdict = held(9.0, 0.1, relation="below", scope="small batch", source="a paper")
    assert str(verdict) == "agrees: x settles at ten: measured 9.00 ± 0.10, predicted < 10"
    assert "predicted > 10" in str(held(11.0, relation="above"))
    row = json.loads(json.dumps(verdict.to_row(), allow_nan=False))
    assert (row["outcome"], row["predicted"], row["scope"], row["source"]) == ("agrees", 10.0, "small batch", "a paper")
    assert Estimate.from_row(row["measured"]) == verdict.measured


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"tolerance": -0.1}, "expected tolerance ≥ 0, got -0.1"),
        ({"tolerance": math.nan}, "expected tolerance ≥ 0, got nan"),
        ({"confidence": -1.0}, "expected confidence ≥ 0, got -1.0"),
        ({"predicted_error": -1.0}, "expected predicted error ≥ 0, got -1.0"),
        ({"predicted": 0.0}, "expected a prediction other than 0"),
        ({"predicted": math.nan}, "expected a finite prediction, got nan"),
        ({"predicted": math.inf, "relation": "below"}, "expected a finite prediction, got inf"),
    ],
)
def test_messages(how, message):
    with pytest.raises(ValueError, match=message):
        held(10.0, **how)
