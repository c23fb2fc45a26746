"""Networks and data for the law of balance, small enough for its sums to be written down."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn

from sgdscope.risk import Risk


def squared(model: nn.Module, batch: Sequence[Tensor]) -> Tensor:
    x, y = batch
    return (model(x) - y).square().sum(-1).mean()


def linear_pair(u: Sequence[float], w: Sequence[float]) -> nn.Module:
    """f = u (w · x), one hidden unit."""
    model = nn.Sequential(nn.Linear(len(w), 1, bias=False), nn.Identity(), nn.Linear(1, len(u), bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([w], dtype=torch.float64))
        model[2].weight.copy_(torch.tensor(u, dtype=torch.float64)[:, None])
    return model


def reference() -> Risk:
    """ℓ = (u w x − y)² with u = 1.2, w = 0.5 on four samples."""
    x = torch.tensor([1, 2, -1, 0.5], dtype=torch.float64)[:, None]
    y = torch.tensor([0.5, 1, 1.5, -0.3], dtype=torch.float64)[:, None]
    return Risk(linear_pair([1.2], [0.5]), squared, (x, y))


def crossed(variances: Sequence[float], u: float, w: float) -> Risk:
    """Inputs ±√variance and unit label noise in all combinations: y = (x₁, 0) + ε, at the minimum u w = 1."""
    signs = torch.tensor(list(product((-1.0, 1.0), repeat=4)), dtype=torch.float64)
    x = signs[:, :2] * torch.tensor(variances, dtype=torch.float64).sqrt()
    y = torch.stack([x[:, 0], torch.zeros(len(x), dtype=torch.float64)], 1) + signs[:, 2:]
    return Risk(linear_pair([u, 0.0], [w, 0.0]), squared, (x, y))


def two_layer_relu(samples: int = 200, *, signal: float = 0.3) -> Risk:
    """10 → 8 → 4 with biases; labels of a linear teacher of strength `signal`, with unit noise."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 4)).double()
        x = torch.randn(samples, 10, dtype=torch.float64)
        y = signal * x @ torch.randn(10, 4, dtype=torch.float64) + torch.randn(samples, 4, dtype=torch.float64)
    return Risk(model, squared, (x, y))
