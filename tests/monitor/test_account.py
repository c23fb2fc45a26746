"""The account of a run's time: all that passes inside the monitor is counted once, by a clock of our own."""

from types import SimpleNamespace

import pytest

from sgdscope.monitor import account as module
from sgdscope.monitor.account import Account


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    clock.perf_counter = lambda: clock.now
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "_AFTER", 0.0)
    return clock


def passing(clock, seconds, then=None):
    def action():
        clock.now += seconds
        return then() if then else "done"

    return action


def test_what_passes_inside_is_counted_once(clock):
    account = Account(0.05)
    account.begin()
    clock.now += 10
    assert account.timed(passing(clock, 2, lambda: account.timed(passing(clock, 3)))) == "done"
    account.begin()  # a second call does nothing
    assert (account.seconds, account.measuring(0)) == (15, 5)
    account.skip(4)  # not the run's
    account.set_apart(1)
    assert (account.seconds, account.measuring(0), account.final) == (10, 4, 1)


def test_what_raises_is_counted_too(clock):
    account = Account(0.05)

    def failing():
        clock.now += 2
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        account.timed(failing)
    assert account.measuring(0) == 2
    account.timed(passing(clock, 1))
    assert account.measuring(0) == 3


def test_time_still_running_counts(clock):
    account = Account(0.05)
    assert account.timed(passing(clock, 2, lambda: account.measuring(0))) == 2


def test_being_called_at_all_is_charged_per_step(clock):
    account = Account(0.05, first_step=100)
    for seconds in (9e-6, 1e-6, 2e-6):  # the first finds nothing in the caches
        account.passed_idly(seconds)
    assert not account.knows_idle
    assert account.idle == pytest.approx(module._THROUGH_TORCH * 2e-6)
    assert account.measuring(1100) == pytest.approx(1000 * account.idle)


def test_cold_caches_after_a_visit_are_charged(clock, monkeypatch):
    monkeypatch.setattr(module, "_AFTER", 0.15)
    account = Account(0.05)
    account.timed(passing(clock, 2e-4))
    assert account.measuring(0) == pytest.approx(2.3e-4)
    account.timed(passing(clock, 1.0))  # a long reading costs no more than that
    assert account.measuring(0) == pytest.approx(1.0 + 2.3e-4 + module._AFTER_AT_MOST)


def test_a_resumed_run_goes_on_counting(clock):
    account = Account(0.05)
    account.resume(500, 60.0, 3.0)
    account.begin()
    clock.now += 5
    assert (account.seconds, account.measuring(700)) == (65, 3)
