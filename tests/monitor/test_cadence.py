"""Cadence: single measurements asked for every so many steps, inside the budget, without a bit of training changed."""

import json

import pytest
import torch
from tests.monitor.test_shape import SAMPLES, data, loss_fn, perceptron
from tests.quick_readings import quick_readings

from sgdscope.measure import leading_eigenpairs
from sgdscope.monitor import Monitor, readings
from sgdscope.monitor.agenda import Agenda
from sgdscope.monitor.schedule import ASKED, Cadence
from sgdscope.records import open_run
from sgdscope.risk import Risk


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    quick_readings(monkeypatch)


class Problem:
    """A small network that is trained a few steps at a time."""

    def __init__(self):
        self.model = perceptron()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.2, momentum=0.5)
        self.risk = Risk(self.model, loss_fn, data())
        self.taken = 0

    def train(self, monitor, steps):
        inputs, labels = data()
        for _ in range(steps):
            first = 8 * self.taken % 80
            batch = inputs[first:][:8], labels[first:][:8]
            self.optimizer.zero_grad()
            loss = loss_fn(self.model, batch)
            loss.backward()
            self.optimizer.step()
            self.taken += 1
            if monitor is not None:
                monitor.observe(batch, loss=loss)
        return self

    def weights(self):
        return torch.cat([p.detach().reshape(-1) for p in self.model.parameters()])


def steps_of(run, name):
    return run[name].steps.tolist() if name in run else []


def watched(folder, steps=12, **options):
    problem = Problem()
    with Monitor(problem.risk, problem.optimizer, out=folder, batch_size=8, **options) as monitor:
        problem.train(monitor, steps)
    return open_run(folder), problem


def test_by_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(readings.Readings, "edge_map", lambda *_: readings.Estimate("edge_map", 1.0))
    run, _ = watched(tmp_path / "a", every=4, cadence={"spectrum": 6, "edge_map": 3, "gradient_noise": 12})
    assert steps_of(run, "spectrum") == steps_of(run, "noise_covariance") == [0, 6, 12, 12]  # and at the end
    assert steps_of(run, "edge_map") == [0, 3, 6, 9, 12, 12]
    assert steps_of(run, "gradient_noise") == [0, 12, 12]
    assert steps_of(run, "lambda_max") == [0, 4, 8, 12, 12]
    default, _ = watched(tmp_path / "b", every=4)
    assert steps_of(default, "spectrum") == steps_of(default, "edge_map") == [12]


def test_those_due_together_share_their_search(tmp_path, monkeypatch):
    monkeypatch.setattr(readings, "leading_eigenpairs", leading_eigenpairs)  # as many products as it needs
    run, _ = watched(tmp_path / "a", every=4, cadence={"spectrum": 8}, final=False)
    rows = {name: {step: e for step, _, e in run.rows if e.name == name} for name in ("lambda_max", "spectrum")}
    assert rows["lambda_max"].keys() == {0, 4, 8, 12}
    for step in (0, 8):
        assert rows["lambda_max"][step].value[0] == rows["spectrum"][step].value[0]
    assert "search" not in rows["lambda_max"][4].settings


def test_training_is_bit_identical():
    plain = Problem().train(None, 15)
    for options in ({"every": 5}, {"budget": 1.0}):
        problem = Problem()
        monitor = Monitor(
            problem.risk, problem.optimizer, cadence={"spectrum": 2, "edge_map": 6}, final=False, **options
        )
        with monitor:
            problem.train(monitor, 12)
            assert "every" not in options or {"spectrum", "edge_map"} <= set(monitor.latest)
            problem.train(None, 1)
            monitor.measure_now("spectrum")
            monitor.measure_now("edge_map")
            problem.train(monitor, 2)
        assert torch.equal(problem.weights(), plain.weights())


def test_a_multiple_is_met_once_and_only_if_it_can_be_paid():
    schedule = Cadence(0.5, pause=1, first_at_once=False, expected=10.0, steps=100)
    due, spent = [], 0.0
    for step in range(1000):
        purse = 0.1 * step + spent  # what was taken out included
        if schedule.due(step, purse - spent):
            schedule.spent(step, 2.0)
            spent += 2.0
            due.append(step)
    assert due == [200, 300, 400, 500, 600, 700, 800, 900]  # the first waits for its ten seconds
    dear = Cadence(0.5, first_at_once=False, expected=1e9, steps=1)
    assert not any(dear.due(step, 0.1 * step) for step in range(1000))


def test_failures_become_rarer():
    schedule = Cadence(0.5, steps=10)
    due = []
    for step in range(1, 400):
        if schedule.due(step, 1e9):
            schedule.spent(step, 0.0, failed=True)
            due.append(step)
    assert due == [1, 20, 40, 80, 160, 320]


def test_the_budget_holds_with_a_cadence_that_asks_for_more(monkeypatch):
    """By a clock of our own: a spectrum every step would take three times the run."""
    now = [0.0]
    monkeypatch.setattr("sgdscope.monitor.account.time.perf_counter", lambda: now[0])  # one clock for all modules
    monkeypatch.setattr("sgdscope.monitor.account._AFTER", 0.0)
    costs = {"spectrum": 3.0}

    def rows(self, name, step, batch_size, *, careful):
        now[0] += costs.get(name, 0.5)
        yield readings.Estimate(name, 1.0, cost=10.0)

    monkeypatch.setattr(readings.Readings, "rows", rows)
    problem, counts = Problem(), {}
    monitor = Monitor(problem.risk, problem.optimizer, budget=0.1, batch_size=8, final=False,
                      cadence={"spectrum": 1, "batch_sharpness": 125}, log=lambda step, numbers: [
                          counts.setdefault(name, []).append(step) for name in numbers])  # fmt: skip
    with monitor:
        for _ in range(1000):
            now[0] += 1.0
            problem.train(monitor, 1)
    assert 0.05 < monitor.share <= 0.1
    spectra, sharp = counts["sgdscope/spectrum"], counts["sgdscope/batch_sharpness"]
    assert 5 <= len(spectra) <= ASKED["spectrum"] * 0.1 * 1000 / 3
    assert [step // 125 for step in sharp] == sorted({step // 125 for step in sharp})  # once after each multiple
    assert len(sharp) >= 5


def test_a_look_falls_on_the_multiple():
    problem = Problem()
    monitor = Monitor(problem.risk, problem.optimizer, budget=0.01, cadence={"spectrum": 700, "lambda_max": 333})
    assert [monitor._agenda.asked_at(step) for step in (0, 332, 333, 699, 700)] == [333, 333, 666, 700, 999]
    assert Monitor(problem.risk, problem.optimizer)._agenda.asked_at(5) is None


def test_a_resumed_run_remembers_what_a_reading_takes():
    problem = Problem()
    options = {"budget": 1.0, "batch_size": 8, "cadence": {"spectrum": 5}}
    first = Monitor(problem.risk, problem.optimizer, **options)
    schedule = first._agenda._schedules["spectrum"]
    second = Monitor(problem.risk, problem.optimizer, **options)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second._agenda._schedules["spectrum"].last_step < 0  # never taken: its cost is still to be expected
    assert not second._agenda._schedules["spectrum"].due(0, 0.0) or second._agenda._schedules["spectrum"].expected == 0
    schedule.first_at_once = False
    schedule.spent(10, 3.0)
    third = Monitor(problem.risk, problem.optimizer, **options)
    third.load_state_dict(json.loads(json.dumps(first.state_dict())))
    again = third._agenda._schedules["spectrum"]
    assert (again.total, again.last) == (3.0, 3.0)
    assert not again.due(100, 5.9 / ASKED["spectrum"])
    assert again.due(100, 6.1 / ASKED["spectrum"])


def test_one_by_hand():
    problem = Problem()
    monitor = Monitor(problem.risk, problem.optimizer, batch_size=8, every=100)
    found = monitor.measure_now("spectrum")
    assert found.name == "spectrum"
    assert found.settings["samples"] == SAMPLES
    assert monitor.measure_now("edge_map").name == "edge_map"
    assert set(monitor.latest) == {"spectrum", "noise_covariance", "edge_map"}
    assert monitor.spent["spectrum"] > 0


@pytest.mark.parametrize("cadence", [{"spectra": 5}, {"spectrum": 0}, {"noise_covariance": 3}])
def test_bad_input(tmp_path, cadence):
    problem = Problem()
    with pytest.raises(ValueError, match="expected a cadence of at least 1 step for any of batch_sharpness"):
        Monitor(problem.risk, problem.optimizer, cadence=cadence, out=tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert isinstance(Monitor(problem.risk, problem.optimizer)._agenda, Agenda)
