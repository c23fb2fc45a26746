"""The monitor around a loop: what it records and when, what it refuses, and that nothing of it ends a run."""

import errno
import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sgdscope.estimate import Estimate
from sgdscope.monitor import Monitor
from sgdscope.monitor import account as account_module
from sgdscope.monitor import agenda as agenda_module
from sgdscope.monitor import monitor as module
from sgdscope.monitor import stream as stream_module
from sgdscope.monitor.optimizers import description, unwrapped
from sgdscope.monitor.readings import NAMES, Readings
from sgdscope.records import RecordsError, RunWriter, open_run
from sgdscope.risk import Risk

SAMPLES = 32


def loss_fn(model, batch):
    return 0.5 * (model(batch[0]) - batch[1]).square().sum(1).mean()


class Problem:
    def __init__(self, optimizer=lambda p: torch.optim.SGD(p, lr=0.1), loss=loss_fn):
        torch.manual_seed(0)
        self.data = (torch.randn(SAMPLES, 3), torch.randn(SAMPLES, 2))
        self.model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        self.optimizer = optimizer(self.model.parameters())
        self.risk = Risk(self.model, loss, self.data)

    def batch(self, step):
        return tuple(t[4 * (step % 8) :][:4] for t in self.data)

    def step(self, step):
        batch = self.batch(step)
        self.optimizer.zero_grad()
        loss = loss_fn(self.model, batch)
        loss.backward()
        self.optimizer.step()
        return batch, loss

    def train(self, monitor, steps=20, observe=True):
        with monitor:
            for step in range(steps):
                batch, loss = self.step(step)
                if observe:
                    monitor.observe(batch, loss=loss)
        return monitor


def rows(folder):
    """Rows without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines if line.get("name") != "monitor_share"]


def steps_of(run, name):
    return run[name].steps.tolist()


# -- what is recorded -----------------------------------------------------------------------------------------------


def test_a_run_is_recorded(tmp_path):
    problem = Problem()
    problem.train(Monitor(problem.risk, problem.optimizer, every=5, out=tmp_path / "a", manifest={"config": {"x": 1}}))
    run = open_run(tmp_path / "a")
    assert run.status == "finished"
    assert run.config == {"x": 1}
    assert run.manifest["optimizer"]["method"] == "sgd"
    assert run.manifest["batch_size"] == 4
    assert run.manifest["risk"] == {"samples": 32, "parameters": 26, "mode": "train", "batch_dependent": False}
    assert steps_of(run, "lambda_max") == [0, 5, 10, 15, 20, 20]  # the last one is the careful reading
    assert steps_of(run, "batch_sharpness") == [5, 10, 15, 20, 20]  # the batch size is known from the first step on
    assert steps_of(run, "edge_ratio") == [5, 10, 15, 20]
    assert steps_of(run, "learning_rate") == [0]
    assert float(run["loss"].latest) > 0
    assert 0 < float(run["monitor_share"].latest) <= 1
    assert all(e.status in ("ok", "few_samples", "not_converged") for _, _, e in run.rows)


def test_the_batch_size_given_measures_the_initial_weights_too(tmp_path):
    problem = Problem()
    problem.train(Monitor(problem.risk, problem.optimizer, every=5, batch_size=4, out=tmp_path / "a"))
    assert steps_of(open_run(tmp_path / "a"), "batch_sharpness")[0] == 0


@pytest.mark.parametrize("every", [48, 64, 100, 128])
def test_the_stream_writes_a_row_for_each_reading(tmp_path, every):
    problem = Problem()
    problem.train(Monitor(problem.risk, problem.optimizer, every=every, final=False, out=tmp_path / "a"), 3 * every + 5)
    found = steps_of(open_run(tmp_path / "a"), "edge_ratio")
    assert [step // every for step in found] == [1, 2, 3]
    assert all(step % every < max(1, every // 32) for step in found)


def test_the_same_seed_gives_the_same_rows(tmp_path):
    for name, seed in (("a", 2**70), ("b", 2**70), ("c", -3)):  # any whole number will do
        problem = Problem()
        problem.train(Monitor(problem.risk, problem.optimizer, every=5, seed=seed, out=tmp_path / name))
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    assert rows(tmp_path / "a") != rows(tmp_path / "c")


def test_a_reading_depends_on_seed_and_step_and_not_on_what_was_read_before(tmp_path):
    for name, every in (("often", 4), ("seldom", 8)):
        problem = Problem()
        problem.train(Monitor(problem.risk, problem.optimizer, every=every, batch_size=4, out=tmp_path / name))
    often, seldom = open_run(tmp_path / "often"), open_run(tmp_path / "seldom")
    for name in NAMES:
        for step in (0, 8, 16):
            a, b = (next(e for s, _, e in run.rows if (s, e.name) == (step, name)) for run in (often, seldom))
            # λ_max starts from the vectors of the reading before: the same within its residual
            assert float(a) == pytest.approx(float(b), rel=0.02 if name == "lambda_max" else 1e-12)


def test_a_schedule_of_the_learning_rate_is_recorded(tmp_path):
    problem = Problem()
    scheduler = torch.optim.lr_scheduler.StepLR(problem.optimizer, 5, gamma=0.5)
    with Monitor(problem.risk, problem.optimizer, every=5, out=tmp_path / "a") as monitor:
        for step in range(10):
            batch, loss = problem.step(step)
            scheduler.step()
            monitor.observe(batch, loss=loss)
    series = open_run(tmp_path / "a")["learning_rate"]
    assert list(zip(series.steps.tolist(), series.values.tolist(), strict=True))[:2] == [(0, 0.1), (5, 0.05)]


def test_steps_with_a_closure_are_steps():
    problem = Problem()
    with Monitor(problem.risk, problem.optimizer, every=5, final=False) as monitor:
        for step in range(10):
            batch = problem.batch(step)

            def closure(batch=batch):
                problem.optimizer.zero_grad()
                loss = loss_fn(problem.model, batch)
                loss.backward()
                return loss

            loss = problem.optimizer.step(closure)
            monitor.observe(batch, loss=loss)
    assert monitor.step == 10
    assert monitor.latest["edge_ratio"].settings["method"] == "one forward pass"


def test_without_observe_it_says_what_is_missing_a_few_times(tmp_path):
    problem = Problem()
    problem.train(Monitor(problem.risk, problem.optimizer, out=tmp_path / "a"), steps=300, observe=False)
    run = open_run(tmp_path / "a")
    failed = [e for _, _, e in run.rows if e.name == "batch_sharpness"]
    assert 1 <= len(failed) < 12
    assert failed[0].reason == "the batch size is not known: give batch_size, or call observe(batch) in the loop"
    assert float(run["lambda_max"].latest) > 0
    assert "edge_ratio" not in run


def test_a_run_by_budget_has_no_failed_first_readings(tmp_path):
    problem = Problem()
    problem.train(Monitor(problem.risk, problem.optimizer, out=tmp_path / "a"), steps=40)
    assert [e for _, _, e in open_run(tmp_path / "a").rows if e.status == "failed"] == []


def test_two_monitors_on_one_optimizer(tmp_path):
    problem = Problem()
    with Monitor(problem.risk, problem.optimizer, every=5, out=tmp_path / "a"):
        problem.train(Monitor(problem.risk, problem.optimizer, every=5, out=tmp_path / "b"))
    # the outer one was told no batch: it has what needs none
    assert steps_of(open_run(tmp_path / "a"), "lambda_max") == steps_of(open_run(tmp_path / "b"), "lambda_max")


def test_detached_it_rests_and_measures_by_hand():
    problem = Problem()
    monitor = Monitor(problem.risk, problem.optimizer, every=5, batch_size=4).attach().attach()
    problem.step(0)
    monitor.detach()
    problem.step(1)
    assert monitor.step == 1
    assert monitor.measure_now("lambda_max").value[0] > 0
    monitor.record(Estimate("mine", 1.0))
    assert float(monitor.latest["mine"]) == 1
    with pytest.raises(ValueError, match="expected one of batch_sharpness, lambda_max, gradient_noise_interaction, "
                                         "gradient_noise, balance, edge_map, spectrum, batch_line, full_loss_step, got "
                                         "'sharpness'"):  # fmt: skip
        monitor.measure_now("sharpness")


def test_state_carries_over(tmp_path):
    problem = Problem()
    first = problem.train(Monitor(problem.risk, problem.optimizer, budget=0.5, final=False), 30)
    second = Monitor(problem.risk, problem.optimizer, budget=0.5)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert (second.step, second.batch_size) == (30, 4)
    assert second.measuring_seconds == pytest.approx(first.measuring_seconds)
    assert second.recorder.loss_due == first.recorder.loss_due


# -- the budget, by a clock of our own ------------------------------------------------------------------------------


class Clock:
    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.mark.parametrize("cost", [0.5, 20.0])
def test_measuring_stays_within_its_budget(monkeypatch, cost):
    clock = Clock()
    for part in (module, account_module, agenda_module, stream_module):
        monkeypatch.setattr(part, "time", clock)
    monkeypatch.setattr(account_module, "_AFTER", 0.0)  # this clock has no caches

    def take(self, name, step, batch_size, *, careful):
        clock.now += 100 * cost if careful else cost
        return Estimate(name, 1.0)

    value = Risk.value

    def slow_value(self, *args, **named):
        clock.now += 0.3
        return value(self, *args, **named)

    monkeypatch.setattr(Readings, "take", take)
    monkeypatch.setattr(Readings, "shape", lambda *_: iter(()))
    monkeypatch.setattr(Readings, "along_gradient", lambda *_, careful: None)
    monkeypatch.setattr(Risk, "value", slow_value)
    problem = Problem()
    monitor = Monitor(problem.risk, problem.optimizer, budget=0.05, batch_size=4)
    clock.now = 0.0
    with monitor:
        for step in range(2000):
            clock.now += 1.0
            batch, loss = problem.step(step)
            monitor.observe(batch, loss=loss)
    missed = 1.2 * cost / monitor.seconds  # second readings are expected to take less than first ones; here they do not
    assert 0.03 < monitor.share <= 0.05 + missed  # first readings included
    assert monitor.final_seconds == pytest.approx(len(NAMES) * 100 * cost)  # kept apart from the share
    assert monitor.seconds == pytest.approx(clock.now - monitor.final_seconds)
    assert monitor.step_seconds == pytest.approx(1.0, rel=1e-6)


def test_a_common_step_is_left_alone(monkeypatch):
    clock = Clock()
    for part in (module, account_module, agenda_module, stream_module):
        monkeypatch.setattr(part, "time", clock)
    visits, half = [], 0
    timed = account_module.Account.timed
    monkeypatch.setattr(
        account_module.Account, "timed", lambda self, action, *a: visits.append(action) or timed(self, action, *a)
    )
    value = Risk.value

    def slow_value(self, *args, **named):
        clock.now += 1e-4
        return value(self, *args, **named)

    monkeypatch.setattr(Risk, "value", slow_value)
    problem = Problem()
    with Monitor(problem.risk, problem.optimizer, batch_size=4, final=False) as monitor:
        for step in range(2000):
            clock.now += 2e-4
            batch, loss = problem.step(step)
            monitor.observe(batch, loss=loss)
            half = len(visits) if step == 1000 else half
    assert monitor.step == 2000
    hooks = [visit for visit in visits[half:] if visit.__name__ != "_observe"]
    assert len(hooks) < 200  # of two thousand: one that has nothing to do does nothing
    assert monitor.latest["edge_ratio"].settings["stride"] > 16


# -- what never ends a run ------------------------------------------------------------------------------------------


def test_measurements_that_raise_become_a_few_rows(tmp_path):
    def failing(model, batch):
        if started:
            raise RuntimeError("no kernel\nfor this")
        return loss_fn(model, batch)

    started = False
    problem = Problem(loss=failing)
    started = True
    problem.train(Monitor(problem.risk, problem.optimizer, out=tmp_path / "a"), steps=400)
    run = open_run(tmp_path / "a")
    assert run.status == "finished"
    for name in (*NAMES, "edge_ratio"):
        failed = [e for _, _, e in run.rows if e.name == name]
        assert 1 <= len(failed) < 15
        assert failed[-1].reason == "RuntimeError: no kernel"
    assert float(run["loss"].latest) > 0  # all else goes on


def test_a_logger_that_raises_is_warned_about_once(tmp_path):
    def logger(step, numbers):
        raise OSError("no network")

    problem = Problem()
    monitor = Monitor(problem.risk, problem.optimizer, every=5, log=logger, out=tmp_path / "a")
    with pytest.warns(RuntimeWarning, match="sgdscope: no network") as caught:
        problem.train(monitor)
    assert len(caught) == 1
    assert len(open_run(tmp_path / "a")["lambda_max"].steps) == 6


def test_where_warnings_are_errors_training_goes_on_all_the_same():
    problem = Problem()

    def logger(step, numbers):
        raise OSError("no network")

    monitor = problem.train(Monitor(problem.risk, problem.optimizer, every=5, log=logger))  # warnings raise in pytest
    assert monitor.step == 20
    assert str(monitor.recorder.failure) == "no network"


def test_a_full_disk_loses_rows_and_nothing_else(tmp_path, monkeypatch):
    problem = Problem()
    monitor = Monitor(problem.risk, problem.optimizer, every=5, out=tmp_path / "a")
    write = RunWriter.append
    full = iter([False] * 3 + [True] * 4 + [False] * 1000)

    def append(self, step, estimate):
        if next(full):
            raise RecordsError(f"cannot write a row in {self.path}: {errno.errorcode[errno.ENOSPC]}")
        write(self, step, estimate)

    monkeypatch.setattr(RunWriter, "append", append)
    with pytest.warns(RuntimeWarning, match="cannot write a row"):
        problem.train(monitor)
    assert isinstance(monitor.recorder.failure, RecordsError)
    run = open_run(tmp_path / "a")
    assert run.status == "finished"
    assert run.last_step == 20  # written again once there was space


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 1e200, torch.tensor(float("nan"))])
def test_a_loss_that_blows_up_is_a_row(tmp_path, loss):
    problem = Problem()
    with Monitor(problem.risk, problem.optimizer, every=5, final=False, out=tmp_path / "a") as monitor:
        for step in range(10):
            batch, _ = problem.step(step)
            monitor.observe(batch, loss=loss)
    assert monitor.latest["loss"].status == "diverged"
    assert monitor.latest["loss"].reason == "the training loss is not finite"


def test_a_learning_rate_that_is_nan_is_one_row(tmp_path):
    problem = Problem()
    with Monitor(problem.risk, problem.optimizer, every=2, final=False, out=tmp_path / "a"):
        for step in range(10):
            if step == 4:
                problem.optimizer.param_groups[0]["lr"] = float("nan")
            problem.step(step)
    failed = [(s, e.reason) for s, _, e in open_run(tmp_path / "a").rows if e.name == "learning_rate" and not e.value]
    assert failed == [(4, "the learning rate is nan")]


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt, "interrupted"), (SystemExit, "interrupted"), (RuntimeError, "failed")]
)
def test_what_ends_the_loop_ends_the_run(tmp_path, error, status):
    def loop():
        problem = Problem()
        with Monitor(problem.risk, problem.optimizer, every=5, out=tmp_path / "a") as monitor:
            for step in range(20):
                batch, loss = problem.step(step)
                monitor.observe(batch, loss=loss)
                if step == 11:
                    raise error

    with pytest.raises(error):
        loop()
    run = open_run(tmp_path / "a")
    assert run.status == status
    assert run.last_step == 12
    assert steps_of(run, "lambda_max") == [0, 5, 10]  # no final readings


def test_an_impatient_interrupt_loses_the_final_readings_only(tmp_path, monkeypatch):
    take = Readings.take

    def impatient(self, name, step, batch_size, *, careful):
        if careful:
            raise KeyboardInterrupt
        return take(self, name, step, batch_size, careful=careful)

    monkeypatch.setattr(Readings, "take", impatient)
    problem = Problem()
    with pytest.raises(KeyboardInterrupt):
        problem.train(Monitor(problem.risk, problem.optimizer, every=5, out=tmp_path / "a"))
    run = open_run(tmp_path / "a")
    assert (run.status, run.last_step) == ("finished", 20)
    assert "monitor_share" in run


# -- what is refused at the door ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "expected every ≥ 1, got 0"),
        ({"budget": 0}, r"expected a budget in \(0, 1\], the share of time for measuring, got 0"),
        ({"budget": 1.5}, r"expected a budget in \(0, 1\]"),
        ({"k": 0}, r"expected k between 1 and 26 \(the number of parameters\), got 0"),
        ({"batch_size": 33}, r"expected a batch size between 1 and 32 \(the number of samples\), got 33"),
        ({"log": 3}, "expected a callable"),
    ],
)
def test_wrong_settings_leave_no_folder_behind(tmp_path, options, message):
    problem = Problem()
    with pytest.raises(ValueError, match=message):
        Monitor(problem.risk, problem.optimizer, out=tmp_path / "a", **options)
    assert not (tmp_path / "a").exists()


def test_the_optimizer_must_be_of_the_risks_parameters():
    one, other = Problem(), Problem()
    with pytest.raises(ValueError, match=r"but 4 of the risk's 4 parameters are not in it \(first: 0.weight\)"):
        Monitor(one.risk, other.optimizer)
    both = torch.optim.SGD([*one.model.parameters(), *other.model.parameters()], lr=0.1)
    with pytest.raises(ValueError, match="but it also steps 4 parameters that the risk does not have"):
        Monitor(one.risk, both)
    with pytest.raises(ValueError, match=r"expected a torch.optim.Optimizer or a wrapper of one, got float"):
        Monitor(one.risk, 0.1)


def test_a_folder_that_holds_a_run_is_refused(tmp_path):
    problem = Problem()
    problem.train(Monitor(problem.risk, problem.optimizer, every=5, out=tmp_path / "a"))
    with pytest.raises(RecordsError, match=r"expected a new folder, but .*a already holds a run"):
        Monitor(problem.risk, problem.optimizer, out=tmp_path / "a")


def test_one_monitor_watches_one_run():
    problem = Problem()
    monitor = problem.train(Monitor(problem.risk, problem.optimizer, every=5))
    monitor.close()  # twice does nothing
    with pytest.raises(ValueError, match="expected a monitor that was not closed yet: one monitor watches one run"):
        problem.train(monitor)


def test_what_observe_refuses():
    problem = Problem()
    monitor = Monitor(problem.risk, problem.optimizer, every=5)
    with pytest.raises(ValueError, match="expected the batch of the step just taken, got none"):
        monitor.observe()
    with pytest.raises(ValueError, match=r"expected batches as the risk's loss_fn takes them \(tuple\), got several"):
        monitor.observe(*problem.batch(0))
    with pytest.raises(ValueError, match=r"expected loss, .* as one number, got shape \(4,\)"):
        monitor.observe(problem.batch(0), loss=torch.ones(4))


# -- optimizers -----------------------------------------------------------------------------------------------------


class Wrapper(torch.optim.Optimizer):
    """As Accelerate's: an Optimizer by name, without the tables of hooks."""

    def __init__(self, optimizer):
        self.optimizer = optimizer


def test_wrapped_optimizers_are_found():
    inner = Problem().optimizer
    assert unwrapped(Wrapper(inner)) is inner
    assert unwrapped(SimpleNamespace(optimizer=Wrapper(inner))) is inner
    assert unwrapped(inner) is inner


@pytest.mark.parametrize(
    ("make", "method"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1), "sgd"),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), "momentum"),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), "nesterov"),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5), "SGD with dampening"),
        (lambda p: torch.optim.SGD(p, lr=0.1, maximize=True), "SGD that maximises"),
        (lambda p: torch.optim.AdamW(p, lr=0.1), "AdamW"),
        (lambda p: torch.optim.SGD([{"params": [q], "lr": 0.1 * i} for i, q in enumerate(p)]),
         "SGD with unequal parameter groups"),
    ],
)  # fmt: skip
def test_methods_are_named_and_theory_claims_only_its_own(make, method):
    found = description(make(Problem().model.parameters()), full_batch=False)
    assert found["method"] == method
    json.dumps(found)


def test_groups_with_rates_of_their_own_are_streamed_all_the_same():
    def make(parameters):
        first, *rest = parameters
        return torch.optim.SGD([{"params": [first], "lr": 0.2}, {"params": rest}], lr=0.05)

    problem = Problem(make)
    monitor = problem.train(Monitor(problem.risk, problem.optimizer, every=5, final=False))
    assert monitor.latest["edge_ratio"].settings["method"] == "one forward pass"


def test_batches_larger_than_the_data_are_drawn_with_replacement():
    problem = Problem()
    monitor = Monitor(problem.risk, problem.optimizer, batch_size=50, replacement=True)
    problem.train(monitor, steps=5)
    assert [e.reason for e in monitor.latest.values() if e.status == "failed"] == []


def test_dear_first_readings_wait_though_the_batch_size_is_not_known_yet(monkeypatch):
    monkeypatch.setattr("sgdscope.monitor.agenda._AT_ONCE", 2e-4)  # seconds: all readings are too dear
    with torch.random.fork_rng([]):
        model = torch.nn.Linear(3, 2)
        data = (torch.randn(40, 3), torch.randn(40, 2))
    risk = Risk(model, lambda m, b: (m(b[0]) - b[1]).square().mean(), data)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(risk, optimizer, final=False) as monitor:
        risk.loss_fn(model, data).backward()
        optimizer.step()
        assert "lambda_max" not in monitor.latest
