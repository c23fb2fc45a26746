"""Harm: the signs of the margins, errors against a Monte Carlo of the inputs, and the verdicts."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdscope.theory.averaging import NoisyQuadratic, averages, best_newer_weight, best_two_point_weight, two_point_gain

losses = st.floats(-5, 5)
curvatures = st.floats(0.01, 10)


@given(losses, losses, curvatures)
def test_signs_of_exact_numbers(older, newer, D):
    gain = two_point_gain(older, newer, D)
    assert (gain.verdict == "helps") == (older - newer < D / 4 and gain.value != 0)
    weight = best_newer_weight(older, newer, D)
    assert (weight.verdict == "hurts") == (older - newer > D / 2)
    assert weight.value == pytest.approx(0.5 + (older - newer) / D)
    # at the best weight nothing is gained by a small shift
    best = two_point_gain(older, newer, D, newer_weight=weight.value).value
    for shift in (-1e-2, 1e-2):
        assert two_point_gain(older, newer, D, newer_weight=weight.value + shift).value < best


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_errors_are_those_of_the_measured_numbers(correlation):
    older, newer, D = 1.0, 0.9, 0.5
    errors = {"older_error": 0.01, "newer_error": 0.02, "curvature_error": 0.01, "correlation": correlation}
    covariance = np.diag([0.01**2, 0.02**2, 0.01**2])
    covariance[0, 1] = covariance[1, 0] = correlation * 0.01 * 0.02
    s, t, d = np.random.default_rng(0).multivariate_normal([older, newer, D], covariance, 200_000).T
    gain = two_point_gain(older, newer, D, newer_weight=0.7, **errors)
    drawn = t - (0.3 * s + 0.7 * t - 0.5 * 0.21 * d)
    assert gain.value == pytest.approx(drawn.mean(), abs=2e-4)
    assert gain.error == pytest.approx(drawn.std(), rel=0.01)
    weight = best_newer_weight(older, newer, D, **errors)
    assert weight.error == pytest.approx((0.5 + (s - t) / d).std(), rel=0.01)


@given(losses, losses, curvatures, st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 0.5))
def test_the_verdict_needs_a_margin(older, newer, D, older_error, newer_error, curvature_error):
    errors = {"older_error": older_error, "newer_error": newer_error, "curvature_error": curvature_error}
    gain = two_point_gain(older, newer, D, **errors)
    assert gain.verdict == (
        "undecided" if abs(gain.value) <= 2 * gain.error or gain.value == 0 else "helps" if gain.value > 0 else "hurts"
    )
    stricter = two_point_gain(older, newer, D, **errors, standard_errors=5)
    assert stricter.verdict in (gain.verdict, "undecided")


def test_sentences():
    found = two_point_gain(1.0, 1.0, 0.4, older_error=0.01, newer_error=0.01)
    assert str(found) == (
        "averaging helps: weights 0.5 and 0.5 change the loss of the newer point by -0.05 ± 0.0071 "
        "(older minus newer loss 0, chord curvature 0.4)"
    )
    assert two_point_gain(2.0, 1.0, 0.4).sentence.startswith("averaging hurts")
    assert two_point_gain(1.0, 1.0, 0.4, older_error=0.5).sentence.startswith("averaging may help or hurt")
    assert best_newer_weight(1.0, 1.0, 0.4).sentence == (
        "some weight on the older point helps: the best weight on the newer one is 0.5 ± 0"
    )


def test_a_curvature_lost_in_its_error_decides_nothing():
    assert best_newer_weight(1.0, 1.0, 0.1, curvature_error=0.06).verdict == "undecided"
    assert best_newer_weight(1.0, 1.0, 0.1, curvature_error=0.02).verdict == "helps"


@pytest.mark.parametrize(("t", "verdict"), [(5, "hurts"), (20, "hurts"), (60, "helps")])
def test_measured_quantities_give_the_verdict_of_the_model(t, verdict):
    # expected losses and E D of the model in place of measured ones
    problem = NoisyQuadratic([1.0], [1.0], [10.0])
    path = problem.path(0.1, t)
    older, newer, both = path.variances[-6, 0], path.variances[-1, 0], path.covariances_with_last()[-6, 0]
    measured = 0.5 * older, 0.5 * newer, older + newer - 2 * both
    gain = two_point_gain(*measured)
    assert gain.verdict == verdict
    expected = problem.last(0.1, t).value - problem.averaged(averages.two_point(5), 0.1, t).value
    assert gain.value == pytest.approx(expected, rel=1e-9)
    assert best_newer_weight(*measured).value == pytest.approx(
        best_two_point_weight(problem, 0.1, 5, t).setting, rel=1e-9
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: best_newer_weight(1, 1, -0.1), "expected a chord that curves upwards, got D = -0.1: the two points"),
        (lambda: two_point_gain(1, math.nan, 1), "expected a finite newer loss, got nan"),
        (lambda: two_point_gain(1, 1, 1, older_error=-1), "expected older error ≥ 0, got -1"),
        (lambda: two_point_gain(1, 1, 1, correlation=1.5), r"expected a correlation in \[−1, 1\], got 1.5"),
        (lambda: two_point_gain(1, 1, 1, standard_errors=0), "expected number of standard errors > 0, got 0"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
