"""Variance ratios in one mode: reference values of the slow limit, sums against closed forms, the edge at u = 2."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdscope.theory.averaging.variance_ratios import (
    best_window_ratio,
    best_window_weights,
    ema_ratio,
    slow_best_ratio,
    slow_two_point_ratio,
    slow_window_ratio,
    two_point_ratio,
    window_ratio,
)

memories = st.one_of(st.floats(-0.95, 0.999), st.floats(1e-14, 1e-3).map(lambda x: 1 - x))


def ratio(weights, memory):
    places = np.arange(len(weights))
    return weights @ memory ** np.abs(places[:, None] - places) @ weights


def test_slow_limit():
    u = [0.5, 1, 2, 4, 8]
    window = [0.8522453, 0.7357589, 0.5676676, 0.3772895, 0.2187605]
    two_point = [0.8032653, 0.6839397, 0.5676676, 0.5091578, 0.5001677]
    assert slow_window_ratio(u) == pytest.approx(window, abs=5e-8)
    assert slow_two_point_ratio(u) == pytest.approx(two_point, abs=5e-8)
    assert slow_window_ratio(2.0) == pytest.approx(slow_two_point_ratio(2.0), abs=1e-15)


@given(st.floats(1e-3, 50))
def test_two_points_beat_the_window_below_two(u):
    assert (slow_two_point_ratio(u) < slow_window_ratio(u)) == (u < 2) or abs(u - 2) < 1e-6
    assert slow_best_ratio(u) <= min(slow_two_point_ratio(u), slow_window_ratio(u)) + 1e-12


@pytest.mark.parametrize("u", [1e-9, 1e-4, 0.019999, 0.020001, 0.5, 5.0])
def test_slow_limit_is_the_limit(u):
    # span u / (lr · curvature) in steps, with ever smaller steps
    n = 2_000_000
    memory = 1 - u / n
    assert slow_window_ratio(u) == pytest.approx(float(window_ratio(memory, n)), rel=2e-6)
    assert slow_best_ratio(u) == pytest.approx(float(best_window_ratio(memory, n)), rel=2e-6)
    assert slow_two_point_ratio(u) == pytest.approx(float(two_point_ratio(memory, n)), rel=2e-6)


@given(memories, st.integers(1, 80), st.integers(1, 4))
def test_window_is_its_sum(memory, n, stride):
    expected = ratio(np.full(n, 1 / n), memory**stride)
    assert window_ratio(memory, n, stride) == pytest.approx(expected, rel=1e-11)


@given(memories, st.integers(2, 40))
def test_best_weights_are_stationary(memory, n):
    # K w is the same for every iterate: no shift of weight helps
    weights = best_window_weights(memory, n)
    places = np.arange(n)
    Kw = memory ** np.abs(places[:, None] - places) @ weights
    assert Kw == pytest.approx(np.full(n, float(best_window_ratio(memory, n))), rel=1e-10)
    assert weights.sum() == pytest.approx(1, abs=1e-14)
    assert best_window_ratio(memory, n) <= window_ratio(memory, n) * (1 + 1e-12)


@given(memories, st.floats(0, 0.98))
def test_ema_is_its_sum(memory, decay):
    weights = (1 - decay) * decay ** np.arange(2000)
    shifted = weights * memory ** np.arange(2000.0)
    # Σ_ij w_i w_j q^|i−j| with geometric weights: the lag sums are those of w_0 q^j β^j over 1 − β²
    expected = (1 - decay) / (1 + decay) * (2 * shifted.sum() / (1 - decay) - 1)
    assert ema_ratio(memory, decay) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_limits():
    assert two_point_ratio(0.0, 1) == 0.5
    assert two_point_ratio(1.0, 9) == 1
    assert window_ratio(0.0, 10) == pytest.approx(0.1)
    assert window_ratio(1.0, 10) == pytest.approx(1)
    assert best_window_ratio(0.3, 1) == 1
    assert best_window_weights(1 - 1e-9, 50)[[0, -1]] == pytest.approx([0.5, 0.5], abs=1e-7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: window_ratio(-1.2, 5),
            r"expected the memory 1 − lr · curvature of a stable mode, in \(−1, 1\], got -1.2",
        ),
        (lambda: ema_ratio(0.5, 1), r"expected decay in \[0, 1\), got 1"),
        (lambda: slow_window_ratio(-1), "expected lr · curvature · span ≥ 0, got -1"),
        (lambda: two_point_ratio(0.5, 0), "expected gap of at least 1, got 0"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
