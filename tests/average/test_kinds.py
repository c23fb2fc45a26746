"""Every kind against its weights written out, at every start, interval and correction."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdscope.average import EMA, PowerEMA, TwoPoint, UniformAverage, Window
from sgdscope.theory.averaging import averages, power_exponent
from tests.average.models import KINDS, averaged, walk

TOLERANCE = {"rtol": 0, "atol": 1e-12}


@pytest.mark.parametrize("start", [0, 1, 7])
@pytest.mark.parametrize("corrected", [False, True])
def test_ema_is_the_weighted_sum(start, corrected):
    path = walk(40)
    weights = averages.ema(0.93, 40 - start, start_corrected=corrected).over(40).weights
    found = averaged(EMA(0.93, start=start, start_corrected=corrected), path)
    np.testing.assert_allclose(found, weights @ path, **TOLERANCE)


@pytest.mark.parametrize("every", [1, 4, 10])
def test_the_decay_of_an_ema_is_per_step_whatever_the_interval(every):
    path = walk(40)
    weights = averages.ema(0.93**every, 40 // every).weights
    np.testing.assert_allclose(averaged(EMA(0.93, every=every), path), weights @ path[::every], **TOLERANCE)
    # the caller may as well leave out the other calls
    seen = list(range(0, 41, every))
    np.testing.assert_allclose(averaged(EMA(0.93), path, seen), weights @ path[::every], **TOLERANCE)


def test_ema_at_irregular_steps():
    path, seen = walk(50), [3, 4, 9, 10, 31, 50]
    a = path[3]
    for before, step in pairwise(seen):
        a = 0.8 ** (step - before) * a + (1 - 0.8 ** (step - before)) * path[step]
    np.testing.assert_allclose(averaged(EMA(0.8), path, seen), a, **TOLERANCE)
    # corrected: each stands for the steps since the one before, θ_3 for three of them
    spans = np.diff([0, *seen])
    weights = (1 - 0.8**spans) * 0.8 ** (50 - np.array(seen))
    found = averaged(EMA(0.8, start_corrected=True), path, seen)
    np.testing.assert_allclose(found, weights @ path[seen] / weights.sum(), **TOLERANCE)


@pytest.mark.parametrize(("exponent", "every"), [(6.94, 1), (6.94, 5), (0.0, 1), (1.8262, 8), (-0.3, 4)])
def test_power_ema_is_the_weighted_sum(exponent, every):
    path = walk(40)
    weights = averages.power(exponent, 40, every).weights
    np.testing.assert_allclose(averaged(PowerEMA(exponent, every=every), path), weights @ path, **TOLERANCE)
    late = averaged(PowerEMA(exponent, every=every, start=40), np.concatenate([walk(39, seed=1), path]))
    np.testing.assert_allclose(late, weights @ path, **TOLERANCE)  # steps count from the start


def test_power_ema_by_its_width():
    assert PowerEMA(relative_width=0.1).exponent == power_exponent(0.1)


@pytest.mark.parametrize(("length", "stride"), [(1, 1), (4, 1), (3, 7), (100, 1)])
def test_window_is_the_mean_of_the_last(length, stride):
    path = walk(42)
    kept = path[::stride][-length:]
    np.testing.assert_allclose(averaged(Window(length, stride), path), kept.mean(0), **TOLERANCE)


@pytest.mark.parametrize("every", [1, 3, 6])
def test_two_points_at_their_gap(every):
    path = walk(42)
    found = averaged(TwoPoint(6, 0.7, every=every), path)
    np.testing.assert_allclose(found, 0.7 * path[42] + 0.3 * path[36], **TOLERANCE)
    assert averaged(TwoPoint(6), path[:5]).tolist() == path[0].tolist()  # the gap is not reached yet


@pytest.mark.parametrize(("start", "every"), [(0, 1), (11, 1), (2, 5)])
def test_uniform_is_the_mean_of_all(start, every):
    path = walk(42)
    found = averaged(UniformAverage(start=start, every=every), path)
    np.testing.assert_allclose(found, path[start::every].mean(0), **TOLERANCE)


steps_seen = st.lists(st.integers(0, 60), min_size=1, max_size=25, unique=True).map(sorted)


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(list(KINDS)), steps=steps_seen, start=st.integers(0, 20), every=st.integers(1, 6),
       seed=st.integers(0, 5))  # fmt: skip
def test_weights_are_those_of_what_is_averaged(kind, steps, start, every, seed):
    average = KINDS[kind](start=start, every=every)
    path = walk(60, seed=seed)
    if not any(KINDS[kind](start=start, every=every).update([torch.zeros(1)], step) for step in steps):
        with pytest.raises(ValueError, match="none of them"):
            average.weights(steps)
        return
    weights = average.weights(steps).weights
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert (weights >= 0).all()
    np.testing.assert_allclose(averaged(average, path, steps), weights @ path[steps], rtol=0, atol=1e-11)


@settings(max_examples=20, deadline=None)
@given(kind=st.sampled_from(list(KINDS)), seed=st.integers(0, 100), a=st.floats(-3, 3), b=st.floats(-3, 3))
def test_averages_are_linear(kind, seed, a, b):
    one, two = walk(30, seed=seed), walk(30, seed=seed + 1000)
    both = averaged(KINDS[kind](), a * one + b * two)
    apart = a * averaged(KINDS[kind](), one) + b * averaged(KINDS[kind](), two)
    np.testing.assert_allclose(both, apart, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_stays_what_it_is(kind):
    path = np.full((30, 5), np.pi)
    np.testing.assert_allclose(averaged(KINDS[kind](), path), path[0], rtol=1e-15)


def test_when_a_call_counts():
    average, p = EMA(0.9, start=10, every=4), [torch.zeros(1)]
    assert [step for step in range(30) if average.update(p, step)] == [10, 14, 18, 22, 26]
    late = EMA(0.9, start=10, every=4)
    assert [step for step in (11, 13, 15, 16, 25, 26) if late.update(p, step)] == [15, 25, 26]
    counted = EMA(0.9, every=2)
    assert [counted.update(p) for _ in range(5)] == [False, True, False, True, False]
    assert (counted.taken, counted.last_step) == (2, 4)
