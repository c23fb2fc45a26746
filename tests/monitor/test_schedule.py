"""When a measurement is due: by steps, or by a share of the run's time (the clock is given, never read)."""

from itertools import pairwise

import pytest

from sgdscope.monitor.readings import NAMES
from sgdscope.monitor.schedule import AGAIN, READINGS, SHARES, Every, Stride, WithinBudget


def spend(schedule, steps, *, step_seconds=1.0, cost=5.0, failed=False):
    """Steps at which it was due over a run, and the share of its time that went into measuring."""
    now, spent, due = 0.0, 0.0, []
    for step in range(steps):
        if schedule.due(step, now):
            schedule.spent(step, cost, failed=failed)
            due.append(step)
            now += cost
            spent += cost
        now += step_seconds
    return due, spent / now


def test_shares_are_shares():
    assert sum(SHARES.values()) < 0.5  # the rest is for readings
    assert sum(READINGS.values()) == pytest.approx(1)
    assert READINGS.keys() == AGAIN.keys() == set(NAMES)


def test_every_counts_steps_and_nothing_else():
    assert spend(Every(7), 22)[0] == [0, 7, 14, 21]


def test_a_budget_is_kept():
    due, share = spend(WithinBudget(0.02), 20_000)
    assert due[0] == 0  # the first at once: whoever holds the purse pays it back
    assert 0.01 < share <= 0.02 + 5 / 20_000
    gaps = [b - a for a, b in pairwise(due[2:])]
    assert max(gaps) - min(gaps) <= 1  # an even cadence


def test_without_credit_the_first_waits_for_its_share():
    due, _ = spend(WithinBudget(0.02, first_at_once=False, expected=8.0), 2_000)
    assert due[0] == 400


def test_a_pause_keeps_cheap_measurements_apart():
    due, _ = spend(WithinBudget(0.5, pause=20), 100, cost=0.0)
    assert due == [0, 20, 40, 60, 80]


def test_failures_become_rarer():
    due, _ = spend(WithinBudget(0.5, pause=20), 20_000, cost=0.0, failed=True)
    assert due == [0, 40, 120, 280, 600, 1240, 2520, 5080, 10200]


@pytest.mark.parametrize(("cost", "stride"), [(0.01, 1), (1.0, 10), (25.0, 250)])
def test_the_stride_keeps_the_cost_of_samples_within_its_share(cost, stride):
    schedule = Stride(0.1)
    for _ in range(100):
        schedule.spent(cost, 1.0)
    assert schedule.stride == stride


def test_a_stride_follows_a_changing_cost_and_a_fixed_one_does_not():
    free, fixed = Stride(0.1), Stride(0.1, fixed=3)
    for schedule in (free, fixed):
        schedule.spent(10.0, 1.0)  # the first sample, with work done only once: it counts a quarter
    assert (free.stride, fixed.stride) == (25, 3)
    for _ in range(100):
        free.spent(1.0, 1.0)
    assert free.stride in (10, 11)


def test_samples_fall_on_every_place_of_an_epoch():
    schedule, places, step = Stride(0.1), [0] * 16, 0
    for _ in range(1600):
        schedule.spent(1.6, 1.0)
        assert 0.4 * schedule.stride <= schedule.ahead() <= 1.6 * schedule.stride
        places[step % 16] += 1
        step += schedule.ahead()
    assert min(places) > 80  # of 100; with a constant stride of 16 one place would have them all
    assert step / 1600 == pytest.approx(16, rel=0.02)


def test_a_stride_that_is_given_is_kept():
    schedule = Stride(0.1, fixed=3)
    schedule.spent(1.6, 1.0)
    assert schedule.ahead() == 3
