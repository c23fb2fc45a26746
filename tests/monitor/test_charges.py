"""Charges along a run: the exact law of every step, from training's own gradients, and who does not keep it."""

import json
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from tests.quick_readings import quick_readings
from torch import nn

from sgdscope.measure.symmetries import charges, symmetries
from sgdscope.monitor import Monitor
from sgdscope.monitor.charge_window import OTHERWISE
from sgdscope.monitor.charges import ChargeStream
from sgdscope.monitor.discovery import Discovery
from sgdscope.monitor.schedule import Stride
from sgdscope.records import open_run
from sgdscope.risk import Risk

SAMPLES = 40


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    quick_readings(monkeypatch)


def loss_fn(model, batch):
    return (model(batch[0]) - batch[1]).square().sum(1).mean()


def layers(between=nn.ReLU):
    return nn.Sequential(nn.Linear(5, 12), between(), nn.Linear(12, 8), between(), nn.Linear(8, 3))


def sgd(**options):
    return lambda model: torch.optim.SGD(model.parameters(), **{"lr": 0.05} | options)


class Problem:
    def __init__(self, optimizer=None, model=layers, dtype=torch.float64, loss=loss_fn, noted=False):
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.model = model().to(dtype)
            self.data = torch.randn(SAMPLES, 5, dtype=dtype), torch.randn(SAMPLES, 3, dtype=dtype)
        self.optimizer = (optimizer or sgd())(self.model)
        self.risk = Risk(self.model, loss, self.data)
        self.generator = torch.Generator().manual_seed(1)
        self.found = symmetries(self.risk) if noted else None
        self.noted = [] if noted else None

    def totals(self, at=None):
        """Charges by layer, or θᵀAθ of another vector."""
        return [float(c.sum()) for c in charges(self.risk, self.found, at=at).values()]

    def step(self, monitor=None, before=lambda model: None, parts=1):
        self.optimizer.zero_grad()
        batches = []
        for _ in range(parts):
            index = torch.randperm(SAMPLES, generator=self.generator)[:8]
            batches.append((self.data[0][index], self.data[1][index]))
            loss = loss_fn(self.model, batches[-1])
            loss.backward()
        before(self.model)
        if self.noted is not None:
            self.noted.append(self.totals())
        self.optimizer.step()
        if monitor is not None:
            monitor.observe(*batches, loss=loss)

    def train(self, monitor, steps, **options):
        for _ in range(steps):
            self.step(monitor, **options)


def rows(problem, folder, steps=120, **options):
    """The rows of the charges of a run, with their steps."""
    ways = {key: options.pop(key) for key in ("before", "parts") if key in options}
    options = {"cadence": {"charges": 1}} | options
    with Monitor(problem.risk, problem.optimizer, batch_size=8, final=False, out=folder, **options) as monitor:
        problem.train(monitor, steps, **ways)
    return [(step, e) for step, _, e in open_run(folder).rows if e.name == "charges"]


# -- the exact law --------------------------------------------------------------------------------------------------

UNEVEN = [{"lr": 0.02, "weight_decay": 0.3}, {"lr": 0.05, "weight_decay": 0.1}]


def by_pairs(model):
    """A group for each pair of layers that does not share a layer with another one: u and w have the same rates."""
    return torch.optim.SGD([{"params": list(m.parameters()), **g} for m, g in zip(model, UNEVEN, strict=True)])


class TwoPairs(nn.ModuleList):
    """Two networks side by side."""

    def __init__(self):
        super().__init__(nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)) for _ in range(2))

    def forward(self, x):
        return self[0](x) + self[1](x)


@pytest.mark.parametrize(
    ("model", "optimizer", "ways"),
    [
        (layers, sgd(), {}),
        (layers, sgd(weight_decay=0.2), {}),
        (layers, sgd(foreach=False, maximize=False), {}),
        (TwoPairs, by_pairs, {}),
        (layers, sgd(), {"before": lambda model: nn.utils.clip_grad_norm_(model.parameters(), 0.1)}),
        (layers, sgd(lr=0.01), {"parts": 3}),
    ],
    ids=["plain", "weight decay", "one by one", "groups", "clipped as a whole", "accumulated"],
)
def test_step_by_step_the_identity_holds(tmp_path, model, optimizer, ways):
    problem = Problem(optimizer, model, noted=True)
    found = rows(problem, tmp_path / "a", **ways)
    assert [step for step, _ in found] == [0, 50, 100, 120]
    first = found[0][1]
    assert first.value == pytest.approx(problem.noted[0])
    assert first.beside == {}
    assert (first.settings["samples"], first.cost > 0) == (0, True)  # what the search for symmetries took
    now = [*problem.noted, problem.totals()]
    for (before, _), (step, row) in pairwise(found):
        assert row.settings["law"] == []
        assert (row.settings["from_step"], row.settings["samples"], row.settings["every"]) == (before, step - before, 1)
        assert row.value == pytest.approx(now[step], rel=1e-12)
        moved = (np.array(now[step]) - now[before]) / (step - before)
        assert row.beside["measured_change"].value == pytest.approx(moved, rel=1e-6)
        assert row.beside["change"].value == pytest.approx(row.beside["measured_change"].value, rel=1e-8)
        assert float(row.beside["identity_residual"]) < 1e-8
        assert float(row.beside["identity_rounding"]) < 1e-8


def test_the_change_is_the_sum_of_gradient_charges(tmp_path):
    problem, gains = Problem(noted=True), []

    def note(model):
        gains.append([0.05**2 * c for c in problem.totals([p.grad for p in model.parameters()])])

    (_, row) = rows(problem, tmp_path / "a", steps=50, before=note)[-1]
    assert row.beside["change"].value == pytest.approx(np.mean(gains, 0), rel=1e-9)
    error = np.std(gains, 0, ddof=1) / np.sqrt(50)
    assert row.beside["change"].standard_error == pytest.approx(error, rel=1e-9)


def test_in_single_precision_rounding_is_told_from_another_law(tmp_path):
    found = rows(Problem(dtype=torch.float32), tmp_path / "a")
    for _, row in found[1:]:
        assert row.settings["law"] == []
        assert float(row.beside["identity_residual"]) < 1e-2 + float(row.beside["identity_rounding"])


def test_parameters_without_gradient_are_left_alone_by_weight_decay(tmp_path):
    def without(model):
        model[0].weight.grad = None

    problem = Problem(sgd(weight_decay=0.2), noted=True)
    (_, row) = rows(problem, tmp_path / "a", steps=50, before=without)[-1]
    # the layer that is not stepped is no side of the second pair, whose law goes on to hold
    moved = (problem.totals()[1] - problem.noted[0][1]) / 50
    assert row.beside["change"].value[1] == pytest.approx(moved, rel=1e-8)


def test_a_closure_computes_the_gradients_within_the_step(tmp_path):
    problem = Problem(sgd(weight_decay=0.1))
    with Monitor(problem.risk, problem.optimizer, cadence={"charges": 1}, final=False, out=tmp_path / "a") as monitor:
        for step in range(60):
            batch = tuple(t[step % 5 :: 5] for t in problem.data)

            def closure(batch=batch):
                problem.optimizer.zero_grad()
                loss = loss_fn(problem.model, batch)
                loss.backward()
                return loss

            problem.optimizer.step(closure)
            monitor.observe(batch)
    row = monitor.latest["charges"]
    assert row.settings["samples"] == 10
    assert float(row.beside["identity_residual"]) < 1e-8


# -- who does not keep it -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "reason"),
    [
        (sgd(lr=0.01, momentum=0.9), "momentum 0.9"),
        (lambda model: torch.optim.AdamW(model.parameters(), lr=0.01), "AdamW"),
        (
            lambda model: torch.optim.SGD(
                [{"params": model[0].parameters(), "lr": 0.01}, {"params": [*model[2].parameters()]},
                 {"params": [*model[4].parameters()]}], lr=0.05),
            "learning rates differ between parameter groups",
        ),
    ],
)  # fmt: skip
def test_what_is_known_of_the_optimizer_is_said_and_the_numbers_agree(tmp_path, optimizer, reason):
    found = rows(Problem(optimizer), tmp_path / "a")
    for _, row in found:
        assert row.settings["law"] == [reason]
    assert all(float(row.beside["identity_residual"]) > 0.05 for _, row in found[1:])


def clipped(model):
    nn.utils.clip_grad_value_(model.parameters(), 0.02)


def layer_by_layer(model):
    for module in model[::2]:
        nn.utils.clip_grad_norm_(module.parameters(), 0.1)


class Doubled(torch.optim.SGD):
    def step(self, closure=None):
        super().step(closure)
        super().step(closure)


@pytest.mark.parametrize("before", [clipped, layer_by_layer])
def test_gradients_that_no_loss_has_are_found_by_the_numbers(tmp_path, before):
    found = rows(Problem(), tmp_path / "a", before=before)
    assert found[0][1].settings["law"] == []
    assert all(row.settings["law"] == [OTHERWISE] for _, row in found[1:])


def test_weights_that_something_else_moves_are_found_by_the_numbers(tmp_path):
    def nudged(model):
        with torch.no_grad():
            model[2].weight.mul_(1.001)

    assert rows(Problem(), tmp_path / "a", before=nudged)[-1][1].settings["law"] == [OTHERWISE]


# -- sampled, by the budget and by steps ----------------------------------------------------------------------------


def test_sampled_its_means_are_those_of_all_steps(tmp_path):
    found = rows(Problem(sgd(weight_decay=0.1)), tmp_path / "a", steps=1500, cadence={"charges": 3})
    late = [row for _, row in found[2:]]
    assert all("identity_residual" not in row.beside and row.settings["every"] == 3 for row in late)
    assert all(row.settings["samples"] >= 16 for row in late[:-1])
    apart = [
        (np.array(row.beside["change"].value) - row.beside["measured_change"].value)
        / np.maximum(row.beside["change"].standard_error, 1e-300)
        for row in late
    ]
    assert len(apart) > 20
    assert np.abs(np.mean(apart, 0)).max() < 4 / np.sqrt(len(apart))  # they scatter about zero by their errors
    assert 0.5 < np.std(apart) < 2


def test_by_budget_it_follows_and_says_how_often(tmp_path):
    found = rows(Problem(), tmp_path / "a", steps=400, cadence={}, budget=1.0)
    assert found[0][1].settings["samples"] == 0
    assert found[-1][0] == 400
    assert [row.settings["from_step"] for _, row in found[1:]] == [step for step, _ in found[:-1]]


def test_by_steps_rows_fall_on_multiples(tmp_path):
    found = rows(Problem(), tmp_path / "a", steps=85, cadence={}, every=20)
    assert [step for step, _ in found] == [0, 20, 40, 60, 80, 85]
    assert [row.settings["every"] for _, row in found] == [1] * 6
    sparse = rows(Problem(), tmp_path / "b", steps=300, cadence={}, every=128)
    assert [row.settings["every"] for _, row in sparse] == [4] * 4
    assert [step // 128 for step, _ in sparse] == [0, 1, 2, 2]


def test_it_waits_until_the_search_can_be_paid():
    problem = Problem()
    discovery = Discovery(problem.risk)
    stream = ChargeStream(problem.risk, problem.optimizer, discovery, Stride(0.01), every=None)
    stream.look(3, 0.0)
    assert (stream.next_step, discovery.looked) == (sys.maxsize, False)
    assert discovery.expected > 0
    stream.look(5, 2 * discovery.expected)
    assert stream.next_step == 5
    problem.step()
    assert stream.before_step(5, 1e-3).settings["from_step"] == 5
    assert (discovery.looked, discovery.expected) == (True, 0.0)
    assert stream.seconds > 0


# -- where there is nothing to follow, or something breaks ----------------------------------------------------------


@pytest.mark.parametrize("options", [{"cadence": {"charges": 1}}, {"every": 10}, {}])
def test_a_model_without_symmetries_says_so_once(tmp_path, monkeypatch, options):
    looks = []
    look = Discovery._search
    monkeypatch.setattr(Discovery, "_search", lambda self: looks.append(1) or look(self))
    problem = Problem(model=lambda: layers(nn.Tanh))
    with Monitor(problem.risk, problem.optimizer, batch_size=8, out=tmp_path / "a", **options) as monitor:
        problem.train(monitor, 100)
        assert monitor.measure_now("balance") is None
    said = [e for _, _, e in open_run(tmp_path / "a").rows if e.name in ("charges", "balance")]
    assert [(e.name, e.reason) for e in said] == [
        ("balance", "no layers of the model can be rescaled unseen: 0 → 2: Tanh is not homogeneous (and 1 more)")
    ]
    assert len(looks) == 1
    assert monitor._charges.next_step == sys.maxsize


def test_a_model_in_which_nothing_is_even_proposed(tmp_path):
    problem = Problem(model=lambda: nn.Linear(5, 3))
    rows(problem, tmp_path / "a", steps=5)
    run = open_run(tmp_path / "a")
    assert run["balance"].latest is None or run["balance"].latest.value is None
    reason = next(e.reason for _, _, e in run.rows if e.name == "balance")
    assert reason == "no layers of the model were found that could be rescaled unseen"


def test_a_search_that_fails_is_a_row(tmp_path):
    def failing(model, batch):
        if started:
            raise RuntimeError("no kernel\nfor this")
        return loss_fn(model, batch)

    started = False
    problem = Problem(loss=failing)
    started = True
    rows(problem, tmp_path / "a", steps=5)
    said = [e for _, _, e in open_run(tmp_path / "a").rows if e.name in ("charges", "balance")]
    assert [(e.name, e.reason) for e in said] == [("balance", "RuntimeError: no kernel")]


def test_a_sample_that_fails_is_a_row_and_later_ones_go_on(tmp_path, monkeypatch):
    read, failures = ChargeStream._read, iter([True, False, True])

    def failing(self, window):
        if next(failures, False):
            raise RuntimeError("boom")
        read(self, window)

    monkeypatch.setattr(ChargeStream, "_read", failing)
    found = rows(Problem(), tmp_path / "a", steps=200)
    assert [(step, e.reason) for step, e in found if e.status == "failed"] == [
        (0, "RuntimeError: boom"), (33, "RuntimeError: boom")
    ]  # fmt: skip
    good = [(step, row) for step, row in found if row.value is not None]
    assert [(step, row.settings["samples"]) for step, row in good] == [(32, 0), (97, 0), (147, 50), (197, 50), (200, 3)]
    assert float(good[-1][1].beside["identity_residual"]) < 1e-8


def test_weights_that_blow_up_end_it(tmp_path):
    found = rows(Problem(sgd(lr=10.0)), tmp_path / "a", steps=400)
    ended = [(step, e) for step, e in found if e.status == "diverged"]
    assert [e.reason for _, e in ended] == ["weights or gradients are not finite"]
    assert found[-1] == ended[-1]


# -- state ----------------------------------------------------------------------------------------------------------


def test_it_goes_on_from_its_state(tmp_path):
    whole = rows(Problem(sgd(weight_decay=0.1)), tmp_path / "a")
    problem = Problem(sgd(weight_decay=0.1))
    options = {"batch_size": 8, "final": False, "cadence": {"charges": 1}}
    first = Monitor(problem.risk, problem.optimizer, **options).attach()
    problem.train(first, 70)
    first.detach()
    state = json.loads(json.dumps(first.state_dict()))
    second = Monitor(problem.risk, problem.optimizer, out=tmp_path / "b", **options)
    second.load_state_dict(state)
    assert json.loads(json.dumps(second.state_dict()))["charges"] == state["charges"]
    with second:
        problem.train(second, 50)
    resumed = [(step, e) for step, _, e in open_run(tmp_path / "b").rows if e.name == "charges"]
    assert [(s, e.value, e.settings) for s, e in resumed] == [(s, e.value, e.settings) for s, e in whole[2:]]
    for (_, a), (_, b) in zip(resumed, whole[2:], strict=True):
        assert a.beside["change"].value == pytest.approx(b.beside["change"].value, rel=1e-12)


def test_a_resumed_run_without_symmetries_does_not_look_again(monkeypatch):
    problem = Problem(model=lambda: layers(nn.Tanh))
    first = Monitor(problem.risk, problem.optimizer, cadence={"charges": 1}, final=False).attach()
    problem.train(first, 3)
    first.detach()
    second = Monitor(problem.risk, problem.optimizer, cadence={"charges": 1}, final=False)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    monkeypatch.setattr(Discovery, "_search", lambda self: pytest.fail("looked again"))
    with second:
        problem.train(second, 3)
    assert "balance" not in second.latest


def test_the_state_of_other_layers_begins_anew():
    problem = Problem()
    monitor = Monitor(problem.risk, problem.optimizer, cadence={"charges": 1}, final=False).attach()
    problem.train(monitor, 5)
    monitor.detach()
    state = monitor.state_dict()
    state["charges"]["window"]["layers"] = ["a → b"]
    again = Monitor(problem.risk, problem.optimizer, cadence={"charges": 1}, final=False)
    again.load_state_dict(state)
    with again:
        problem.train(again, 1)
    assert again.latest["charges"].settings["from_step"] == 5


# -- the reading beside it ------------------------------------------------------------------------------------------


def test_the_balance_is_read_along_the_run_and_at_its_end(tmp_path):
    problem = Problem(noted=True)
    with Monitor(problem.risk, problem.optimizer, batch_size=8, every=20, out=tmp_path / "a") as monitor:
        problem.train(monitor, 40)
    found = [(step, e) for step, _, e in open_run(tmp_path / "a").rows if e.name == "balance"]
    assert [step for step, _ in found] == [0, 20, 40, 40]
    for _, row in found:
        assert row.settings["layers"] == ["0 → 2", "2 → 4"]
        assert row.settings["law"] == []
        assert all(-1 <= value <= 1 for value in row.value)
    assert found[-1][1].beside["charge"].value == pytest.approx(problem.totals(), rel=1e-9)


def test_it_says_where_gradients_are_not_those_of_the_batch():
    problem = Problem()
    with Monitor(problem.risk, problem.optimizer, batch_size=8, every=20) as monitor:
        problem.train(monitor, 20, before=clipped)
    assert monitor.latest["balance"].settings["law"] == ["gradients are clipped, scaled or accumulated"]


def test_before_the_learning_rate_rises_nothing_is_claimed():
    problem = Problem(sgd(lr=0.0))
    monitor = Monitor(problem.risk, problem.optimizer, batch_size=8, every=20)
    assert monitor.measure_now("balance").reason == "nothing moves at a learning rate of 0"
