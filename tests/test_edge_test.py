"""Edge test: forks blow up exactly where theory says on quadratics; nothing that is forked is touched."""

import copy
import json
import math
from itertools import chain

import pytest
import torch
from torch import nn

from sgdscope.cli import main
from sgdscope.config import RunConfig
from sgdscope.edge_test import DIVERGED, EdgeTest, Fork, Origin, edge_test
from sgdscope.records import RecordsError
from sgdscope.risk import Risk
from sgdscope.sampler import Sampler
from sgdscope.train import train
from tests.cases import CASES, quadratics


def at(lr, *, curvatures=(3.0,) * 8, batch_size=2, **settings):
    """Plain SGD on ½ h_i θ², with 2 / lr against the curvature 3."""
    risk = quadratics(list(curvatures))
    return Origin(risk, torch.optim.SGD(risk.parameters, lr=lr, **settings), batch_size)


def test_below_the_edge_of_a_quadratic():
    found = edge_test(at(0.5), lr_factor=1.2, steps=20)
    assert found.verdict.outcome == "disagrees"
    assert (found.excess.value, found.excess.standard_error, found.diverged) == (1, 0, 0)
    assert [fork.seed for fork in found.forks] == [0, 1, 2, 3]
    assert str(found).startswith("Not at the edge: with the learning rate 0.5 → 0.6, the loss peaks at 1.00 times")


def test_at_the_edge_of_a_quadratic():
    found = edge_test(at(0.6), lr_factor=1.2, steps=40)  # 2 / 3 lies between 0.6 and 0.72
    assert found.verdict.outcome == "agrees"
    # (1 − 0.72 · 3)² per step: ten thousandfold after 31, looked at every step
    assert {fork.diverged_at for fork in found.forks} == {math.ceil(math.log(DIVERGED) / math.log((1 - 2.16) ** 2))}
    assert found.excess.value == DIVERGED
    assert "training diverges" in str(found)
    assert json.loads(json.dumps(found.to_row()))["diverged"] == 4


def test_a_smaller_batch_is_felt_where_curvatures_differ():
    # all data: 0.7 · 2 < 2; one sample at a time: a factor of 1 or of 1 − 2.8, each half of the time
    found = edge_test(at(0.7, curvatures=(0.0, 4.0) * 8, batch_size=16), batch_size=1, steps=50)
    assert (found.diverged, found.forks[0].control, found.verdict.outcome) == (4, 1, "agrees")
    assert found.settings["batch_size_after"] == 1
    assert found.change == "with batches of 16 → 1"


def test_controls_that_diverge_leave_the_question_open():
    found = edge_test(at(0.7), lr_factor=1.2, steps=90)
    assert found.verdict.outcome == "unassessed"
    assert found.verdict.measured.reason == "4 of 4 controls diverged with nothing changed"
    assert str(found).startswith("No answer")


def test_both_see_the_data_in_the_same_order():
    seen = []
    data = torch.arange(12, dtype=torch.float64)

    def function(parameters, batch):
        if torch.is_grad_enabled():
            seen.append(batch.tolist())
        return 0.5 * parameters[0].square().mean() + 0 * batch.mean()

    risk = Risk.of_function(function, [torch.ones(1, dtype=torch.float64)], data)
    origin = Origin(risk, torch.optim.SGD(risk.parameters, lr=0.1), 4)
    assert risk.chunk_size == 12  # asks the loss
    seen.clear()
    edge_test(origin, lr_factor=1.1, seeds=2, steps=6)
    control, fork, other, _ = (list(chain(*seen[start : start + 6])) for start in (0, 6, 12, 18))
    assert control == fork
    assert sorted(control) == sorted([*range(12)] * 2)
    assert other != control
    seen.clear()
    edge_test(origin, batch_size=3, seeds=1, steps=4)
    control, fork = list(chain(*seen[:4])), list(chain(*seen[4:]))
    assert fork[:12] == control[:12]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_peaks_are_those_of_a_loop_by_hand(momentum):
    risk = CASES[0].risk()
    optimizer = torch.optim.SGD(risk.parameters, lr=0.3, momentum=momentum)
    x, y = CASES[0].data()

    def taken(optimizer, model, steps, sampler):
        highest = 1.0
        for _ in range(steps):
            rows = sampler.next()
            optimizer.zero_grad()
            risk.loss_fn(model, (x[rows], y[rows])).backward()
            optimizer.step()
            highest = max(highest, float(risk.loss_fn(model, (x, y)).detach()) / before)
        optimizer.zero_grad()
        return highest

    before = 1.0
    taken(optimizer, risk.model, 10, Sampler(12, 3, replacement=False, seed=9))  # fills the momentum
    before = risk.value()
    found = edge_test(Origin(risk, optimizer, 3), lr_factor=1.5, seeds=2, steps=20)
    for fork in found.forks:
        for factor, peak in ((1, fork.control), (1.5, fork.peak)):
            model, own = copy.deepcopy((risk.model, optimizer))
            own.param_groups[0]["lr"] *= factor
            assert peak == pytest.approx(taken(own, model, 20, Sampler(12, 3, replacement=False, seed=fork.seed)))
    assert found.excess.value == pytest.approx(sum(f.peak / f.control for f in found.forks) / 2)


@pytest.mark.parametrize(("every", "seen_at"), [(1, 32), (7, 35), (33, 33), (40, 40), (90, 40)])
def test_looks_come_as_often_as_asked_for_and_at_the_end(every, seen_at):
    found = edge_test(at(0.6), lr_factor=1.2, seeds=1, steps=40, look_every=every)  # ten thousandfold after 32
    assert found.forks[0].diverged_at == seen_at
    assert found.settings["look_every"] == every
    assert found.cost == pytest.approx(40 * 2 + 2 * math.ceil(40 / every) * 8 / 6)  # eight forward, batches of two


@pytest.mark.parametrize(("every", "said"), [(1, "every step"), (2, "every 2nd step"), (13, "every 13th step")])
def test_how_often_and_at_what_was_looked_is_said(every, said):
    found = str(edge_test(at(0.5, curvatures=(3.0,) * 300), lr_factor=1.2, seeds=1, steps=20, look_every=every))
    assert found.splitlines()[-1] == f"  looked    after {said}, at the loss of 128 samples"


def test_nothing_is_disturbed():
    case = next(case for case in CASES if case.name == "BatchNorm")
    risk = case.risk()
    optimizer = torch.optim.SGD(risk.parameters, lr=0.1, momentum=0.9)
    risk.loss_fn(risk.model, case.data()).backward()
    optimizer.step()
    risk.model.eval()
    before = copy.deepcopy((risk.model.state_dict(), optimizer.state_dict(), [p.grad for p in risk.parameters]))
    random = torch.get_rng_state()
    edge_test(Origin(risk, optimizer, 4), lr_factor=1.2, seeds=1, steps=5)
    after = (risk.model.state_dict(), optimizer.state_dict(), [p.grad for p in risk.parameters])
    assert torch.equal(random, torch.get_rng_state())
    assert not risk.model.training
    for a, b in zip((before[0], before[1]["state"]), (after[0], after[1]["state"]), strict=True):
        flat_a, flat_b = (torch.utils._pytree.tree_leaves(tree) for tree in (a, b))
        assert all(torch.equal(x, y) for x, y in zip(flat_a, flat_b, strict=True) if isinstance(x, torch.Tensor))
    assert all(torch.equal(x, y) for x, y in zip(before[2], after[2], strict=True))
    assert before[1]["param_groups"] == after[1]["param_groups"]


def test_dropout_masks_are_the_same_with_the_change_and_without():
    risk = next(case for case in CASES if case.name == "dropout").risk()
    origin = Origin(risk, torch.optim.SGD(risk.parameters, lr=1e-9), 4)
    one = edge_test(origin, lr_factor=2, seeds=1, steps=5)
    assert one.forks[0].peak == pytest.approx(one.forks[0].control, abs=1e-6)
    assert one == edge_test(origin, lr_factor=2, seeds=1, steps=5)


def test_the_median_and_what_it_says():
    def tested(*pairs):
        forks = tuple(Fork(i, peak, control, 3 if peak == DIVERGED else None, None)
                      for i, (peak, control) in enumerate(pairs))  # fmt: skip
        return EdgeTest("with x", 1.0, forks, {"steps": 9, "look_every": 1, "loss_samples": 8}, 10.0)

    assert tested((8, 2), (9, 2), (2, 1)).verdict.outcome == "agrees"  # 4, 4.5, 2
    assert tested((6, 2), (9, 2), (2, 1)).verdict.outcome == "undecided"
    assert tested((3, 2), (9, 2), (1, 1)).verdict.outcome == "disagrees"
    mixed = tested((3, 2), (DIVERGED, 2), (5, 1))
    assert (mixed.excess.value, mixed.diverged) == (5, 1)
    assert mixed.excess.standard_error > 5  # an outlier of that size is no certainty
    alone = tested((3, 2)).excess
    assert (alone.standard_error, alone.status) == (None, "few_samples")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "a"
    config = RunConfig(data="digits", subset=64, steps=60, checkpoint_every=20, keep_checkpoints=0, every=50)
    train(config, path)
    return path


def test_a_run_folder(folder):
    rows = (folder / "rows.jsonl").read_bytes()
    random = torch.get_rng_state()
    calls = []
    found = edge_test(folder, lr_factor=1.2, seeds=1, steps=10, progress=lambda done, of: calls.append((done, of)))
    assert (found.settings["step"], found.settings["lr_before"], found.settings["batch_size_before"]) == (60, 0.7, 8)
    assert calls == [(0, 2), (1, 2), (2, 2)]
    assert (folder / "rows.jsonl").read_bytes() == rows
    assert torch.equal(random, torch.get_rng_state())
    earlier = edge_test(folder, batch_size=4, seeds=1, steps=5, step=59)
    assert earlier.settings["step"] == 40
    assert earlier.loss_before > found.loss_before
    with pytest.raises(RecordsError, match="there is none up to step 3"):
        edge_test(folder, lr_factor=2, step=3)


def test_on_the_command_line(folder, capsys):
    assert main(["edge-test", str(folder), "--seeds", "1", "--steps", "5", "--quiet"]) == 0
    assert "with the learning rate 0.7 → 0.84" in capsys.readouterr().out
    assert main(["edge-test", str(folder), "--batch-size", "4", "--seeds", "1", "--steps", "5"]) == 0
    shown = capsys.readouterr()
    assert "with batches of 8 → 4" in shown.out
    assert "2/2" in shown.err
    assert main(["edge-test", str(folder), "--seeds", "1", "--steps", "5", "--look-every", "3", "--quiet"]) == 0
    shown = capsys.readouterr()
    assert "after every 3rd step" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize(
    ("wrong", "code", "said"),
    [
        (["--lr-factor", "-1"], 2, "expected lr_factor > 0, got -1.0"),
        (["--batch-size", "65"], 2, "expected a batch size between 1 and 64"),
        (["--seeds", "0"], 2, "expected seeds ≥ 1, got 0"),
        (["--look-every", "0"], 2, "expected look_every ≥ 1, got 0"),
        (["--step", "3"], 1, "expected a readable checkpoint in"),
    ],
)
def test_an_error_comes_without_a_progress_bar(folder, capsys, wrong, code, said):
    assert main(["edge-test", str(folder), *wrong]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"sgdscope: {said}")


def test_wrong_use_is_told():
    origin = at(0.5)
    for wrong, words in (
        ({}, "expected a change to test"), ({"batch_size": 2}, "expected a change to test"),
        ({"lr_factor": 0}, "expected lr_factor > 0"), ({"lr_factor": math.inf}, "expected lr_factor > 0"),
        ({"lr_factor": 2, "seeds": 0}, "expected seeds ≥ 1, got 0"),
        ({"lr_factor": 2, "steps": -1}, "expected steps ≥ 1, got -1"),
        ({"lr_factor": 2, "loss_samples": 0}, "expected loss_samples ≥ 1, got 0"),
        ({"lr_factor": 2, "look_every": 0}, "expected look_every ≥ 1, got 0"),
        ({"batch_size": 9}, "expected a batch size between 1 and 8"), ({"lr_factor": 2, "step": 3}, "a run folder"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            edge_test(origin, **wrong)
    still = quadratics([1.0, 1.0], start=0.0)
    with pytest.raises(ValueError, match="not zero where the forks begin"):
        edge_test(Origin(still, torch.optim.SGD(still.parameters, lr=0.1), 1), lr_factor=2)
    uneven = Risk(nn.Linear(2, 1), lambda model, batch: model(batch).mean(), [torch.ones(3, 2), torch.ones(2, 2)],
                  check=False)  # fmt: skip
    lists = Risk(nn.Linear(2, 1), lambda model, batch: model(batch[0]).mean(),
                 [[torch.ones(3, 2), torch.ones(1)], [torch.ones(2, 2), torch.ones(2)]], check=False)  # fmt: skip
    assert uneven.source.batch_lengths is None
    with pytest.raises(ValueError, match="drawn sample by sample"):
        edge_test(Origin(lists, torch.optim.SGD(lists.parameters, lr=0.1), 3), lr_factor=2)
