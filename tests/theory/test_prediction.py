"""Predictions carry their source and their doubt."""

import math

import pytest

from sgdscope.theory.prediction import Prediction


def escape(value=384.4, **rest):
    return Prediction(value, "mean escape time", "τ = …", "small noise", "derived here", **rest)


def test_reads_like_a_sentence():
    found = escape(unit="learning rate · iterations", error=0.07, warnings=["the barrier is 2.1 noise units high"])
    assert str(found) == (
        "mean escape time: 384.4 learning rate · iterations (within 7 %)\n"
        "  outside its range: the barrier is 2.1 noise units high"
    )
    assert float(found) == 384.4
    assert not found.valid
    assert escape().valid


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_is_never_a_bare_nan(value):
    with pytest.raises(ValueError, match="mean escape time: expected a finite prediction"):
        escape(value)


@pytest.mark.parametrize("error", [-0.1, math.nan, math.inf])
def test_error_is_a_size(error):
    with pytest.raises(ValueError, match="expected a relative error"):
        escape(error=error)
