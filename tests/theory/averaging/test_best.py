"""Best averages: reference values, closed forms, and that nothing nearby is better."""

import numpy as np
import pytest

from sgdscope.theory.averaging import (
    NoisyQuadratic,
    averages,
    best_ema,
    best_gap,
    best_two_point_weight,
    best_weights,
    best_weights_per_mode,
    best_window,
)
from sgdscope.theory.averaging.variance_ratios import best_window_ratio, best_window_weights
from tests.theory.averaging.cases import COSINE, FROM_START, LR, SGD_AND_HEAVY_BALL, STATIONARY, STEPS


def test_values_of_a_run_from_a_start():
    ema, window, gap = (best(FROM_START, LR, STEPS) for best in (best_ema, best_window, best_gap))
    assert ema.setting == pytest.approx(0.97308, abs=5e-6)
    assert ema.excess_loss.value == pytest.approx(0.0215350322, abs=5e-11)
    assert (window.setting, gap.setting) == (82, 21)
    assert window.excess_loss.value == pytest.approx(0.0214075416, abs=5e-11)
    assert gap.excess_loss.value == pytest.approx(0.0574138784, abs=5e-11)
    two = best_two_point_weight(FROM_START, LR, 50, STEPS)
    assert two.setting == pytest.approx(0.5176446206102, rel=1e-9)
    assert two.excess_loss.value == pytest.approx(0.0585827855511, rel=1e-9)


def test_best_combination_of_all_iterates():
    best = best_weights(FROM_START, LR, STEPS)
    # 201 × 201 system solved with 50 digits
    assert best.excess_loss.value == pytest.approx(0.019060910006802231, rel=1e-9)
    assert best.setting == 201
    assert best.average.warnings  # negative weights: the least is −0.00507
    assert best.average.weights.min() == pytest.approx(-0.005072366482649859, rel=1e-6)


def test_best_shared_weights_of_a_stationary_window():
    best = best_weights(STATIONARY, LR, 19)
    assert best.excess_loss.value == pytest.approx(0.0244530793220, rel=1e-9)
    assert best.average.weights[[0, -1]] == pytest.approx([0.1394042164] * 2, abs=5e-11)
    assert best.average.weights[10] == pytest.approx(0.0397084582, abs=5e-11)


def test_weights_of_each_mode_are_the_closed_form():
    weights, excess = best_weights_per_mode(STATIONARY, LR, 60, length=20)
    assert excess.value == pytest.approx(0.0242802261588, rel=1e-9)
    q, V = 1 - LR * STATIONARY.curvatures, STATIONARY.stationary_variance(LR)
    assert excess.value == pytest.approx(STATIONARY.excess(V * best_window_ratio(q, 20)), rel=1e-9)
    expected = np.stack([best_window_weights(memory, 20) for memory in q])
    assert weights == pytest.approx(expected, rel=1e-8)
    assert excess.value < best_weights(STATIONARY, LR, 19).excess_loss.value


@pytest.mark.parametrize(
    ("t", "weight", "half", "last"),
    [(5, 2.43696, 31.62502, 17.45106), (20, 2.33087, 1.36066, 0.76497), (60, 0.50697, 0.0212202, 0.0264772)],
)
def test_averaging_hurts_while_the_run_still_makes_progress(t, weight, half, last):
    problem = NoisyQuadratic([1.0], [1.0], [10.0])
    best = best_two_point_weight(problem, 0.1, 5, t)
    assert best.setting == pytest.approx(weight, abs=5e-6)
    equal, newest = problem.averaged(averages.two_point(5), 0.1, t).value, problem.last(0.1, t).value
    assert [equal, newest] == pytest.approx([half, last], rel=5e-6)
    assert (best.setting < 1) == (equal < newest)
    # the older point helps at all iff Σ h (1 − q^k)(V (1 + q^k) − q^k S_s) > 0
    V, q, S = problem.stationary_variance(0.1)[0], 0.9**5, problem.path(0.1, t).variances[-6, 0]
    assert (best.setting < 1) == (V * (1 + q) > q * S)


@pytest.mark.parametrize("momentum", SGD_AND_HEAVY_BALL)
@pytest.mark.parametrize("rates", [np.full(80, LR), COSINE[:80]], ids=["constant", "cosine"])
def test_nothing_nearby_is_better(rates, momentum):
    path = FROM_START.path(rates, momentum=momentum)

    def least(others):
        return FROM_START.excess(path.averaged(np.stack([other.over(80).weights for other in others]))).min()

    ema = best_ema(FROM_START, rates, momentum=momentum)
    assert ema.excess_loss.value <= least(averages.ema(b, 80) for b in np.linspace(0, 0.999, 60))
    window = best_window(FROM_START, rates, momentum=momentum)
    assert window.excess_loss.value == pytest.approx(least(averages.window(n) for n in range(1, 82)), rel=1e-12)
    gap = best_gap(FROM_START, rates, newer_weight=0.6, momentum=momentum)
    assert gap.excess_loss.value == pytest.approx(least(averages.two_point(k, 0.6) for k in range(1, 81)), rel=1e-12)
    two = best_two_point_weight(FROM_START, rates, 30, momentum=momentum)
    assert two.excess_loss.value < least(averages.two_point(30, two.setting + s) for s in (-0.01, 0.01))
    shared = best_weights(FROM_START, rates, momentum=momentum).excess_loss.value
    bound = best_weights_per_mode(FROM_START, rates, momentum=momentum)[1].value
    for found in (ema, window, gap, two):
        assert bound < shared < found.excess_loss.value


def test_stationary_points_deserve_equal_weights():
    assert best_two_point_weight(STATIONARY, LR, 7, 30).setting == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: best_weights(NoisyQuadratic([1.0], [0.0], [1.0]), LR, 5), "expected noise at every step"),
        (lambda: best_weights(FROM_START, LR, 5, length=9), "window 9: expected a run of at least 8 steps, .* got 5"),
        (lambda: best_two_point_weight(FROM_START, LR, 9, 5), "two points 9 steps apart: expected a run of at least 9"),
        (lambda: best_ema(FROM_START, 2.5, 5), "expected a stable learning rate"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
