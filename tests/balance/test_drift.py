"""Drift: real steps of SGD move charges as the exact discrete law says."""

from itertools import combinations, product

import pytest
import torch
from tests.balance.networks import reference, squared, two_layer_relu
from torch import nn

from sgdscope import measure
from sgdscope.balance import drift_along, drift_test, standing
from sgdscope.balance.training import Training
from sgdscope.balance.walk import Walk
from sgdscope.risk import Risk


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("weight_decay", [0.0, 0.4])
def test_all_batches_there_are_have_the_mean_of_the_law(replacement, weight_decay):
    risk = reference()
    training = Training(0.1, 2, weight_decay, replacement)
    walk = Walk(risk, measure.symmetries(risk), training)
    start = walk.charges()
    changes = []
    for indices in product(range(4), repeat=2) if replacement else combinations(range(4), 2):
        walk.restart()
        walk.step(risk.source.take(torch.tensor(indices)), seed=0)
        changes.append(float(walk.charges() - start))
    row = standing(risk, lr=0.1, batch_size=2, replacement=replacement, weight_decay=weight_decay)
    assert sum(changes) / len(changes) == pytest.approx(row.beside["expected_change"].value[0], rel=1e-12)
    if replacement and not weight_decay:
        assert sum(changes) / len(changes) == pytest.approx(0.1 * -0.40296375, rel=1e-12)


def test_one_step_drift_is_that_of_the_discrete_law_and_not_of_the_continuous_one():
    """With batches of 64 the mean gradient moves the charge more than noise does; the continuous law does not know."""
    tested = drift_test(two_layer_relu(signal=4.0), lr=0.05, batch_size=64, forks=400)
    (pair,) = tested.pairs
    assert abs(pair.z) < 3
    assert abs(pair.z_continuous) > 10
    assert tested.probability > 0.003
    assert tested.chi_square == pytest.approx(pair.z**2, rel=1e-6)
    assert tested.identity_residual < 1e-8
    assert pair.verdict.outcome == "agrees"
    assert pair.verdict.measured.count == 400


def test_a_wrong_law_is_found_out(monkeypatch):
    """The test can fail: with the noise of a quarter of the batch size the same forks disagree."""
    right = Training.expected_change

    def wrong(self, risk, traces, totals=None):
        return right(Training(self.lr, self.batch_size // 4, self.weight_decay, self.replacement), risk, traces, totals)

    monkeypatch.setattr(Training, "expected_change", wrong)
    tested = drift_test(two_layer_relu(), lr=0.1, batch_size=8, forks=200)
    assert abs(tested.pairs[0].z) > 5
    assert tested.probability < 1e-6
    assert tested.pairs[0].verdict.outcome == "disagrees"


def test_sampled_predictions_bring_their_error():
    exact = drift_test(two_layer_relu(), lr=0.1, batch_size=8, forks=20)
    sampled = drift_test(two_layer_relu(), lr=0.1, batch_size=8, forks=20, samples=50)
    assert exact.pairs[0].predicted.standard_error == 0
    assert sampled.pairs[0].predicted.standard_error > 0
    assert sampled.settings["samples"] == 50


def test_what_is_printed():
    text = str(drift_test(two_layer_relu(), lr=0.1, batch_size=32, forks=100))
    lines = text.splitlines()
    assert lines[0].split() == ["layers", "measured", "ΔC", "per", "step", "discrete", "law", "z", "continuous", "law",
                                "z", "verdict"]  # fmt: skip
    assert lines[1].startswith("0 → 2")
    assert "χ² =" in lines[2]
    assert lines[3].startswith("100 forks of one step from the same weights; each moves the charges as the identity")


def test_rows_are_plain():
    row = drift_test(two_layer_relu(), lr=0.1, batch_size=8, forks=10).to_row()
    assert row["settings"]["forks"] == 10
    assert row["pairs"][0]["layers"] == "0 → 2"
    assert row["pairs"][0]["verdict"]["outcome"] in ("agrees", "disagrees", "undecided")


def test_forks_that_diverge_are_said():
    double = two_layer_relu()
    x, y = double.source.batch
    single = Risk(double.model.float(), squared, (x.float(), y.float()))
    tested = drift_test(single, lr=3e38, batch_size=8, forks=4)
    assert tested.pairs[0].measured.status == "diverged"
    assert tested.pairs[0].verdict.outcome == "unassessed"
    assert tested.pairs[0].z is None
    assert tested.chi_square is None
    assert "diverged" in str(tested)


def test_batch_norm_moves_charges_by_the_noise_of_its_batches():
    """Samples have no gradients of their own; scale-invariant weights grow."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 6), nn.ReLU(),
            nn.Linear(6, 3),
        ).double()  # fmt: skip
        data = torch.randn(64, 1, 4, 4).double(), torch.randn(64, 3).double()
    tested = drift_test(Risk(model, squared, data), lr=0.1, batch_size=8, forks=200, samples=8 * 200)
    assert [pair.layers for pair in tested.pairs] == ["0 → 1", "1 → 4", "4 → 6"]
    assert float(tested.pairs[0].measured) > 5 * tested.pairs[0].measured.standard_error
    assert all(abs(pair.z) < 3 for pair in tested.pairs)
    assert all(pair.predicted.standard_error > 0 for pair in tested.pairs)
    assert tested.identity_residual < 0.01  # the eps of the norm


def test_undisturbed():
    risk = two_layer_relu()
    before = [p.detach().clone() for p in risk.parameters]
    state = torch.get_rng_state()
    drift_test(risk, lr=0.1, batch_size=8, forks=5)
    drift_along(risk, lr=0.1, batch_size=8, steps=6, every=3)
    assert all(torch.equal(a, b) for a, b in zip(before, risk.parameters, strict=True))
    assert all(p.grad is None for p in risk.parameters)
    assert torch.equal(state, torch.get_rng_state())


def test_along_a_run_the_law_adds_up():
    along = drift_along(two_layer_relu(), lr=0.02, batch_size=8, steps=120, every=10, samples=200)
    (pair,) = along.pairs
    assert along.steps == tuple(range(0, 121, 10))
    assert abs(pair.z) < 3
    assert abs(float(pair.measured)) > 5 * pair.measured.standard_error  # the drift shows
    assert 0 < pair.predicted.standard_error < pair.measured.standard_error
    assert along.charges[0][-1] - along.charges[0][0] == pytest.approx(float(pair.measured))
    assert along.predicted[0][-1] - along.predicted[0][0] == pytest.approx(float(pair.predicted))


def test_looked_at_every_step_the_sum_is_exact():
    along = drift_along(two_layer_relu(), lr=0.02, batch_size=8, steps=20, every=1, samples=200)
    assert along.pairs[0].predicted.standard_error == 0
    assert along.steps == tuple(range(21))
    assert str(along).endswith("noise measured at 21 places along the run")
    assert along.to_row()["charges"][0][0] == along.charges[0][0]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda risk: drift_test(risk, lr=0.1, batch_size=8, forks=3), "at least 4 forks, got 3"),
        (lambda risk: drift_test(risk, [], lr=0.1, batch_size=8), "in which none holds"),
        (lambda risk: drift_along(risk, [], lr=0.1, batch_size=8), "in which none holds"),
        (lambda risk: drift_along(risk, lr=0.1, batch_size=8, steps=1), "at least 2 steps"),
        (lambda risk: drift_along(risk, lr=-1, batch_size=8), "a learning rate > 0, got -1"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call(two_layer_relu())
