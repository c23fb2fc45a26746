"""Adapters as the library makes them, where it is installed."""

from __future__ import annotations

import pytest
import torch
from tests.measure.symmetries.networks import squared
from torch import nn

from sgdscope import measure
from sgdscope.risk import Risk

peft = pytest.importorskip("peft")


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True, "lora_dropout": 0.2}, {"use_dora": True}],
                         ids=["plain", "dropout", "magnitudes"])  # fmt: skip
def test_factors_of_an_adapter(settings):
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(0)
        layers = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2))
        model = peft.get_peft_model(layers, peft.LoraConfig(target_modules=["0"], r=3, **settings)).double()
        with torch.no_grad():  # the second factor begins at zero
            for p in model.parameters():
                p += 0.1 * torch.randn_like(p)
    x, y = (torch.randn(20, n, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in (6, 2))
    found = measure.symmetries(Risk(model, squared, (x, y)))
    layer = "base_model.model.0.lora_"
    assert [(s.name, s.units, s.status, s.group) for s in found.holding] == [
        (f"{layer}A.default → {layer}B.default", 3, "exact", "general linear")
    ]  # fmt: skip
