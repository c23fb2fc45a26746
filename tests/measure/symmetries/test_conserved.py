"""Charges: a step of plain SGD changes each by lr² ĝᵀAĝ exactly, and nothing else changes it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.measure.symmetries.architectures import ARCHITECTURES
from tests.measure.symmetries.networks import NETWORKS
from tests.measure.symmetries.sequences import SEQUENCES
from torch import nn

from sgdscope import measure
from sgdscope.risk import Risk
from sgdscope.theory.balance import two_layer

EXACT = [n for n in (*NETWORKS, *SEQUENCES, *ARCHITECTURES) if n.exact]
MIXED = [n for n in (*NETWORKS, *SEQUENCES, *ARCHITECTURES) if n.mixed]
STEPS, LR = 20, 0.05


def batch_gradient(risk: Risk, generator: torch.Generator) -> list[torch.Tensor]:
    for p in risk.parameters:
        p.grad = None
    risk.loss_fn(risk.model, risk.draw(6, generator)).backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in risk.parameters]


@pytest.mark.parametrize("network", EXACT, ids=lambda n: n.name)
def test_charge_of_every_unit_after_real_steps(network):
    risk = network.risk()
    found = measure.symmetries(risk)
    optimizer = torch.optim.SGD(risk.parameters, lr=LR)
    generator = torch.Generator().manual_seed(3)
    risk.model.train(network.mode != "eval")
    followed = {name: charge.clone() for name, charge in measure.charges(risk, found).items()}
    start = {name: charge.clone() for name, charge in followed.items()}
    for _ in range(STEPS):
        gradient = batch_gradient(risk, generator)
        for name, change in measure.charges(risk, found, at=gradient).items():
            followed[name] += LR**2 * change
        optimizer.step()
    after = measure.charges(risk, found)
    for name in network.exact:
        moved = (after[name] - start[name]).abs().max()
        assert moved > 1e-7  # far above rounding
        assert (after[name] - followed[name]).abs().max() <= 1e-8 * moved


@pytest.mark.parametrize("network", MIXED, ids=lambda n: n.name)
def test_matrix_of_charges_after_real_steps(network):
    risk = network.risk()
    found = measure.symmetries(risk)
    optimizer = torch.optim.SGD(risk.parameters, lr=LR)
    generator = torch.Generator().manual_seed(3)
    risk.model.train(network.mode != "eval")
    start = measure.matrix_charges(risk, found)
    assert set(start) == set(network.mixed)
    followed = {name: matrix.clone() for name, matrix in start.items()}
    for _ in range(STEPS):
        gradient = batch_gradient(risk, generator)
        for name, change in measure.matrix_charges(risk, found, at=gradient).items():
            followed[name] += LR**2 * change
        optimizer.step()
    charges = measure.charges(risk, found)
    for name, after in measure.matrix_charges(risk, found).items():
        moved = (after - start[name]).abs().max()
        assert moved > 1e-7
        assert (after - followed[name]).abs().max() <= 1e-8 * moved
        diagonal = after.diagonal(dim1=-2, dim2=-1)
        of_units = diagonal.sum(-1) if found[name].units == len(diagonal) and diagonal.dim() == 2 else diagonal
        assert torch.allclose(of_units, charges[name], rtol=1e-12)


def test_matrix_of_charges_is_that_of_theory():
    """Of a linear network of two layers; and its mean change in a step, over all single samples."""
    g = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 2, bias=False)).double()
    x, y = (torch.randn(30, n, generator=g, dtype=torch.float64) for n in (4, 2))
    risk = Risk(model, lambda m, b: (m(b[0]) - b[1]).square().sum(-1).mean(), (x, y))
    found = measure.symmetries(risk)
    W, U = (p.detach().numpy() for p in risk.parameters)
    np.testing.assert_allclose(measure.matrix_charges(risk, found)["0 → 1"], two_layer.charges(U, W), rtol=1e-12)
    changes = [
        measure.matrix_charges(risk, found, at=risk.gradient((x[i : i + 1], y[i : i + 1]))[1])["0 → 1"]
        for i in range(30)
    ]  # fmt: skip
    mean = two_layer.expected_change(U, W, x.numpy(), y.numpy(), lr=LR, batch_size=1)
    np.testing.assert_allclose(LR**2 * torch.stack(changes).mean(0), mean, rtol=1e-10)


def test_matrix_of_charges_of_a_head_by_hand():
    """Queries and keys with their biases, values and the columns that read them."""
    network = next(n for n in SEQUENCES if n.name == "attention by hand")
    risk = network.risk()
    matrices = measure.matrix_charges(risk)
    q, k, v, out = (getattr(risk.model, name) for name in ("q", "k", "v", "out"))
    rows = slice(4, 8)  # the second head

    def written(layer):
        with_bias = torch.cat([layer.weight, layer.bias[:, None]], dim=1)[rows]
        return with_bias @ with_bias.T

    read = out.weight[:, rows].T @ out.weight[:, rows]
    assert torch.allclose(matrices["q · k"][1], (written(q) - written(k)).detach(), rtol=1e-12)
    assert torch.allclose(matrices["v → out"][1], (read - written(v)).detach(), rtol=1e-12)


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
    for function in (measure.charges, measure.matrix_charges):
        with pytest.raises(ValueError, match="a vector"):
            function(risk, at=[torch.ones(2)])
