"""Agenda: what first readings are expected to take, and which of them are taken at once, by a clock of our own."""

from types import SimpleNamespace

import pytest
import torch

from sgdscope.estimate import Estimate
from sgdscope.monitor import account as account_module
from sgdscope.monitor import agenda as module
from sgdscope.monitor.account import Account
from sgdscope.monitor.agenda import Agenda
from sgdscope.monitor.readings import Readings
from sgdscope.monitor.recorder import Recorder
from sgdscope.risk import Risk


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    clock.perf_counter = lambda: clock.now
    for part in (module, account_module):
        monkeypatch.setattr(part, "time", clock)
    return clock


def agenda(clock, monkeypatch, *, budget=0.05, overhead=1e-3, sample=1e-6, reading=0.01, samples=2000):
    """Of a network whose gradients take `overhead`, and so much more per sample; names of what is read at once."""
    model = torch.nn.Linear(3, 2)
    data = (torch.zeros(samples, 3), torch.zeros(samples, 2))
    risk = Risk(model, lambda m, b: (m(b[0]) - b[1]).square().mean(), data)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def one_gradient(self, batch_size):
        clock.now += overhead + sample * batch_size

    taken = []

    def rows(self, name, step, batch_size, *, careful):
        taken.append(name)
        clock.now += reading
        yield Estimate(name, 1.0)

    monkeypatch.setattr(Readings, "one_gradient", one_gradient)
    monkeypatch.setattr(Readings, "rows", rows)
    readings = Readings(risk, optimizer, k=1, replacement=False, seed=0)
    account = Account(budget)
    account.begin()
    return Agenda(readings, account, Recorder(None, [], optimizer), every=None, cadence={"spectrum": 10}), taken


def test_where_a_gradient_is_mostly_overhead_large_ones_are_timed_too(clock, monkeypatch):
    found, _ = agenda(clock, monkeypatch, overhead=1e-3, sample=2e-6)
    found.begin(0, 8)
    step = 1e-3 + 8 * 2e-6
    assert found._slope == pytest.approx(2e-6, rel=1e-6)
    assert found._expected("lambda_max", 8, step) == pytest.approx(16 * (step / 2 + 2000 * 2e-6), rel=1e-6)
    charge = found._readings.depth.charge
    assert found._expected("spectrum", 8, step) == pytest.approx(charge * (step / 2 + 2000 * 2e-6), rel=1e-6)


def test_where_samples_are_what_takes_the_time_it_follows_from_the_step(clock, monkeypatch):
    found, _ = agenda(clock, monkeypatch, overhead=0.0, sample=1e-3)
    found.begin(0, 8)
    assert found._slope is None
    assert found._expected("lambda_max", 8, 8e-3) == pytest.approx(16 * (4e-3 + 1.0))  # half a step's time per sample
    found._gradient_seconds = 0.5
    assert found._expected("spectrum", 8, 8e-3) == pytest.approx(module._SPECTRUM * 0.5)


def test_the_share_of_what_is_impossible_goes_to_the_others(clock, monkeypatch):
    found, taken = agenda(clock, monkeypatch)
    shares = {name: schedule.share for name, schedule in found._schedules.items()}
    assert sum(shares.values()) == pytest.approx(1)
    found.take("balance", 0, 8)  # of a single linear layer
    now = {name: schedule.share for name, schedule in found._schedules.items()}
    assert taken == []
    assert now["balance"] == 0
    assert now["spectrum"] == shares["spectrum"]
    assert sum(now.values()) == pytest.approx(1)
    assert now["batch_sharpness"] / now["lambda_max"] == pytest.approx(shares["batch_sharpness"] / shares["lambda_max"])
    again, _ = agenda(clock, monkeypatch)
    again.load_state_dict({"spent": {}, **found.state_dict()}, 5)
    assert {name: schedule.share for name, schedule in again._schedules.items()} == pytest.approx(now)


@pytest.mark.parametrize(
    ("budget", "at_once"),
    [
        (0.05, ["batch_sharpness", "lambda_max", "gradient_noise"]),
        (0.02, ["batch_sharpness"]),  # 0.08 s, of which 0.06 were expected and 0.05 taken
        (0.01, []),
    ],
)
def test_a_smaller_budget_advances_less(clock, monkeypatch, budget, at_once):
    found, taken = agenda(clock, monkeypatch, budget=budget, overhead=6e-4, sample=1e-6, reading=0.05)
    found.begin(0, 8)
    assert taken == at_once


def test_what_was_advanced_counts_against_the_next(clock, monkeypatch):
    found, taken = agenda(clock, monkeypatch, reading=0.6)
    found.begin(0, 8)
    assert taken == ["batch_sharpness"]  # it took longer than all of them may
