"""Steps along a batch's gradient, as rows of a run: what is read, when, in which unit, and what is left out."""

import json

import pytest
import torch
from torch.nn import functional as F

from sgdscope.measure import full_loss_step
from sgdscope.models import build
from sgdscope.monitor import Monitor, along_gradient, portion
from sgdscope.records import open_run
from sgdscope.risk import Risk

SAMPLES, LR = 64, 0.2


def loss_fn(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def watched(folder, *, optimizer="SGD", steps=12, batch=8, lr=LR, norm=None, **options):
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(3, (SAMPLES,), generator=generator)
    inputs = torch.randn(SAMPLES, 6, generator=generator) + F.one_hot(labels, 6)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    momentum = options.pop("momentum", None)
    named = {} if momentum is None else {"momentum": momentum}
    made = getattr(torch.optim, optimizer)(model.parameters(), lr=lr, **named)
    risk = Risk(model, loss_fn, (inputs, labels))
    with Monitor(risk, made, out=folder, **{"every": 6, "batch_size": batch, **options}) as monitor:
        for step in range(steps):
            rows = torch.arange(batch).add(batch * step) % SAMPLES
            made.zero_grad()
            loss_fn(model, (inputs[rows], labels[rows])).backward()
            made.step()
    return open_run(folder), monitor


def of(run, name):
    return [(step, e) for step, _, e in run.rows if e.name == name]


def test_both_are_read_at_the_end_as_plain_rows(tmp_path):
    run, monitor = watched(tmp_path / "a")
    ((step, line),) = of(run, "batch_line")
    ((also, full),) = of(run, "full_loss_step")
    assert step == also == 12
    assert line.unit == full.unit == "learning rates of the run"
    json.dumps(line.to_row(), allow_nan=False)
    curves = line.settings["curves"]
    assert len({len(curves[name]) for name in ("steps", "batch", "unseen", "unseen_error", "full")}) == 1
    assert curves["steps"][0] == 0
    assert float(line.beside["loss_before"]) == curves["batch"][0]
    assert float(line.beside["loss_reached"]) <= min(curves["batch"]) + float(line.beside["loss_reached"].residual)
    assert 0 < float(line) < curves["steps"][-1]
    assert 0.9 < float(line.beside["batch_r_squared"]) <= 1
    assert curves["full"][0] == pytest.approx(monitor.risk.value(), rel=1e-5)
    assert line.cost > 0
    assert full.count == along_gradient.MANY
    assert full.settings["expected"] == 0.5


def test_the_best_step_is_that_of_the_measurement_in_learning_rates(tmp_path):
    run, monitor = watched(tmp_path / "a", momentum=0.9, lr=0.02)
    ((_, full),) = of(run, "full_loss_step")
    exact = full_loss_step(monitor.risk, 8, batches=400)
    assert abs(float(full) - float(exact) / 0.02) < 4 * (full.standard_error + exact.standard_error / 0.02)
    assert full.settings["expected"] == pytest.approx(5.0)


def test_a_cadence_reads_the_same_batch_along_the_run(tmp_path):
    run, _ = watched(tmp_path / "a", cadence={"batch_line": 4, "full_loss_step": 6}, momentum=0.0)
    assert [step for step, _ in of(run, "batch_line")] == [0, 4, 8, 12, 12]
    assert [step for step, _ in of(run, "full_loss_step")] == [0, 6, 12, 12]
    (_, before), (_, after) = of(run, "batch_line")[-2:]
    assert before.value == after.value  # same weights, same batch
    (_, quick), (_, careful) = of(run, "full_loss_step")[-2:]
    assert (quick.count, careful.count) == (along_gradient.FEW, along_gradient.MANY)


def test_the_line_reaches_the_learning_rate_where_that_is_not_far(tmp_path):
    reach = {}
    for lr in (1e-3, 3.0, 300.0):
        _, monitor = watched(tmp_path / f"{lr}", lr=1e-9, steps=1, final=False)
        monitor.optimizer.param_groups[0]["lr"] = lr
        line = monitor.measure_now("batch_line")
        reach[lr] = line.settings["curves"]["steps"][-1], float(line)
    assert reach[1e-3][0] == pytest.approx(2 * reach[1e-3][1], rel=0.5)  # far beyond the learning rate
    assert reach[3.0][0] >= 1
    assert reach[300.0][0] < 1
    newtons = [best * lr for lr, (_, best) in reach.items()]
    assert newtons == pytest.approx([newtons[0]] * 3, rel=0.05)  # one batch, whatever the unit


def test_other_optimizers_have_the_line_in_the_unit_of_sgd(tmp_path):
    run, _ = watched(tmp_path / "a", optimizer="AdamW", lr=1e-3)
    ((_, line),) = of(run, "batch_line")
    assert line.unit == "learning rate"
    assert line.settings["lr"] is None
    assert of(run, "full_loss_step") == []


def test_a_batch_of_all_data_has_neither(tmp_path):
    run, monitor = watched(tmp_path / "a", batch=SAMPLES)
    assert of(run, "batch_line") == of(run, "full_loss_step") == []
    assert [e for e in monitor.latest.values() if "Error" in e.reason] == []


@pytest.mark.parametrize(
    ("what", "batch", "reasons"),
    [
        ("nothing", 40, {"batch_line": "the data hold less than two batches, so none is unseen"}),
        ("time", 8, {"batch_line": along_gradient._TOO_DEAR, "full_loss_step": along_gradient._TOO_DEAR}),
        ("memory", 8, {"full_loss_step": along_gradient._TOO_DEAR}),
    ],
)
def test_what_cannot_be_had_is_a_row_with_its_reason(tmp_path, monkeypatch, what, batch, reasons):
    if what == "time":
        monkeypatch.setattr(portion, "ALLOWED", {"cpu": 1.0})
    elif what == "memory":
        monkeypatch.setattr(along_gradient, "_MEMORY", 10)
    run, _ = watched(tmp_path / "a", batch=batch)
    names = ("batch_line", "full_loss_step")
    assert {name: e.reason for name in names for _, e in of(run, name) if e.value is None} == reasons
    assert all(of(run, name) for name in names)


def test_a_part_of_the_data_is_named(tmp_path, monkeypatch):
    one = portion.operations(Risk(build("mlp", input_shape=(6,), classes=3, width=8, depth=1), loss_fn,
                                  (torch.zeros(4, 6), torch.zeros(4, dtype=torch.long))))  # fmt: skip
    monkeypatch.setattr(portion, "ALLOWED", {"cpu": 40 * along_gradient.LINE * one})
    run, _ = watched(tmp_path / "a")
    ((_, line),) = of(run, "batch_line")
    assert (line.settings["samples"], line.settings["of"]) == (32, SAMPLES)
    assert of(run, "full_loss_step")[0][1].reason == along_gradient._TOO_DEAR  # on a part it would come out too large


def test_without_a_batch_size_the_reason_is_told(tmp_path):
    run, _ = watched(tmp_path / "a", batch_size=None)
    for name in ("batch_line", "full_loss_step"):
        assert [e.reason.split(":")[0] for _, e in of(run, name)] == ["the batch size is not known"]


def test_a_gradient_of_zero_is_a_failed_row(tmp_path):
    weights = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(weights.weight)
    data = (torch.zeros(16, 1), torch.zeros(16, 1))
    risk = Risk(weights, lambda model, batch: F.mse_loss(model(batch[0]), batch[1]), data)
    monitor = Monitor(risk, torch.optim.SGD(weights.parameters(), lr=0.1), batch_size=4)
    assert monitor.measure_now("batch_line").reason == "the batch's gradient is zero"
    assert "does not curve upwards" in monitor.measure_now("full_loss_step").reason
