"""Verify: all together first, in halves where that fails; cost; constants made small."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.measure.symmetries.networks import NETWORKS, squared
from torch import nn

from sgdscope import measure
from sgdscope.measure.symmetries.candidate import Candidate
from sgdscope.measure.symmetries.small_constants import SmallConstantsShrunk
from sgdscope.measure.symmetries.verify import Trial, twofold
from sgdscope.risk import Risk


def deep(layers: int) -> Risk:
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(0)
        steps = [step for _ in range(layers) for step in (nn.Linear(5, 5), nn.ReLU())]
        model = nn.Sequential(*steps, nn.Linear(5, 2)).double()
    x, y = (torch.randn(20, n, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in (5, 2))
    return Risk(model, squared, (x, y))


def candidates(risk: Risk) -> list[Candidate]:
    return [Candidate(s.name, s.kind, s.units, s.parts) for s in measure.symmetries(risk)]


def test_all_together_in_one_run():
    risk = deep(8)
    trial = Trial(risk, [risk.draw(4, torch.Generator().manual_seed(0))])
    assert max(trial.differences(candidates(risk), 1e-9, twofold)) <= 1e-15
    assert trial.losses == 2


def test_the_one_that_fails_is_told_from_the_others():
    risk = deep(8)
    asked = candidates(risk)
    asked[5] = replace(asked[5], parts=asked[5].parts[:1])
    trial = Trial(risk, [risk.draw(4, torch.Generator().manual_seed(0))])
    differences = trial.differences(asked, 1e-9, twofold)
    assert differences[5] > 1e-3
    assert max(d for i, d in enumerate(differences) if i != 5) <= 1e-15
    assert trial.losses == 1 + 1 + 2 * 3  # halves of eight, of four, of two


@pytest.mark.parametrize(("name", "gradients", "losses"), [
    ("mlp", 16, 8), ("linear layers", 16, 12), ("LayerNorm", 20, 16), ("tanh", 16, 0),
])  # fmt: skip
def test_cost_is_what_was_spent(name, gradients, losses, monkeypatch):
    risk = next(n for n in NETWORKS if n.name == name).risk()
    spent = {"gradient": 0, "loss": 0}
    gradient, loss = risk.gradient, risk.loss
    monkeypatch.setattr(risk, "gradient", lambda *a, **k: (_count(spent, "gradient"), gradient(*a, **k))[1])
    monkeypatch.setattr(risk, "loss", lambda *a, **k: (_count(spent, "loss"), loss(*a, **k))[1])
    found = measure.symmetries(risk)
    assert spent == {"gradient": gradients, "loss": gradients + losses + 1}
    assert found.cost == pytest.approx(gradients + losses / 3 + 4 / 3)


def _count(spent: dict[str, int], what: str) -> None:
    spent[what] += 1


@pytest.mark.parametrize("norm", [
    lambda x: nn.functional.layer_norm(x, (4,), eps=1e-3), lambda x: nn.functional.rms_norm(x, (4,), eps=1e-3),
    lambda x: nn.functional.batch_norm(x, None, None, training=True, eps=1e-3),
    lambda x: nn.functional.normalize(1e-4 * x, eps=1e-3),
    lambda x: x / (x.square().sum(-1, keepdim=True) + 1e-3).sqrt(),
], ids=["layer", "rms", "batch", "normalize", "by hand"])  # fmt: skip
def test_small_constants_vanish_inside_a_block(norm):
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    before = norm(x)
    with SmallConstantsShrunk():
        assert torch.allclose(norm(x), norm(3 * x), rtol=1e-9)
    assert not torch.allclose(before, norm(3 * x), rtol=1e-5)
    assert torch.equal(before, norm(x))


def test_a_constant_that_matters_stays():
    x = torch.ones(3).double()
    with SmallConstantsShrunk():
        assert (x + 0.5).tolist() == [1.5] * 3
        assert (x + 0.0).clamp_min(2.0).tolist() == [2.0] * 3
