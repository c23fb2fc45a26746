"""Charges: a step of plain SGD changes each by lr² ĝᵀAĝ exactly, and nothing else changes it."""

from __future__ import annotations

import pytest
import torch
from tests.measure.symmetries.networks import NETWORKS

from sgdscope import measure

EXACT = [n for n in NETWORKS if n.exact]
STEPS, LR = 20, 0.05


@pytest.mark.parametrize("network", EXACT, ids=lambda n: n.name)
def test_charge_of_every_unit_after_real_steps(network):
    risk = network.risk()
    found = measure.symmetries(risk)
    optimizer = torch.optim.SGD(risk.parameters, lr=LR)
    generator = torch.Generator().manual_seed(3)
    risk.model.train(network.mode == "train")
    followed = {name: charge.clone() for name, charge in measure.charges(risk, found).items()}
    start = {name: charge.clone() for name, charge in followed.items()}
    for _ in range(STEPS):
        optimizer.zero_grad()
        risk.loss_fn(risk.model, risk.draw(6, generator)).backward()
        gradient = [torch.zeros_like(p) if p.grad is None else p.grad for p in risk.parameters]
        for name, change in measure.charges(risk, found, at=gradient).items():
            followed[name] += LR**2 * change
        optimizer.step()
    after = measure.charges(risk, found)
    for name in network.exact:
        moved = (after[name] - start[name]).abs().max()
        assert moved > 1e-7  # far above rounding
        assert (after[name] - followed[name]).abs().max() <= 1e-8 * moved


def test_charges_by_hand():
    risk = next(n for n in NETWORKS if n.name == "depthwise and grouped").risk()
    found = measure.symmetries(risk)
    charge = measure.charges(risk, found)
    first, second, third = (risk.model[i] for i in (0, 2, 4))
    for c in range(4):
        w = first.weight[c].square().sum() + first.bias[c] ** 2
        assert charge["0 → 2"][c].item() == pytest.approx((second.weight[2 * c : 2 * c + 2].square().sum() - w).item())
    for c in range(8):
        w = second.weight[c].square().sum() + second.bias[c] ** 2
        group, within = divmod(c, 4)
        u = third.weight[3 * group : 3 * group + 3, within].square().sum()
        assert charge["2 → 4"][c].item() == pytest.approx((u - w).item())
    assert charge["0 → 2"].tolist() == list(found["0 → 2"].charges)


def test_momentum_breaks_the_identity():
    risk = next(n for n in NETWORKS if n.name == "mlp").risk()
    found = measure.symmetries(risk)
    optimizer = torch.optim.SGD(risk.parameters, lr=LR, momentum=0.9)
    for _ in range(2):
        before = measure.charges(risk, found)["1 → 3"]
        optimizer.zero_grad()
        risk.loss_fn(risk.model, risk.draw(6, torch.Generator().manual_seed(0))).backward()
        expected = before + LR**2 * measure.charges(risk, found, at=[p.grad for p in risk.parameters])["1 → 3"]
        optimizer.step()
        after = measure.charges(risk, found)["1 → 3"]
    assert (after - expected).abs().max() > 0.1 * (after - before).abs().max()


def test_another_shape_is_refused():
    risk = next(n for n in NETWORKS if n.name == "mlp").risk()
    with pytest.raises(ValueError, match="a vector"):
        measure.charges(risk, at=[torch.ones(2)])
