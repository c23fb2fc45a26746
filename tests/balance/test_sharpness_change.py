"""Sharpness before and after a rescaling: known by formula on two scalars, told where it cannot be measured."""

import pytest
import torch
from torch import nn

from sgdscope.balance import rescale, sharpness_change
from sgdscope.measure import symmetries
from sgdscope.risk import Risk


def two_scalars(u=3.0, w=0.5):
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.fill_(w)
        model[1].weight.fill_(u)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, 1, generator=generator, dtype=torch.float64)
    y = x + torch.randn(32, 1, generator=generator, dtype=torch.float64)

    def loss_fn(model, batch):
        return 0.5 * (model(batch[0]) - batch[1]).square().mean()

    return Risk(model, loss_fn, (x, y)), x, y


def test_two_scalars_as_the_formula_says():
    risk, x, y = two_scalars()
    found = rescale(risk, to="norm")
    changes = sharpness_change(found, batch_size=4)
    assert set(changes) == {"λ_max", "Gauss-Newton trace", "batch sharpness"}
    scale = (3.0 * 0.5) ** 0.5
    second, slope = float(x.square().mean()), float(((1.5 * x - y) * x).mean())
    for (u, w), trace, top in zip(((3.0, 0.5), (scale, scale)), changes["Gauss-Newton trace"], changes["λ_max"],
                                  strict=True):  # fmt: skip
        assert float(trace) == pytest.approx(second * (u * u + w * w), rel=1e-9)
        hessian = torch.tensor([[second * w * w, second * u * w + slope], [second * u * w + slope, second * u * u]])
        assert float(top) == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-3)
    before, after = changes["batch sharpness"]
    assert float(after) < float(before)
    assert before.standard_error > 0


def test_without_a_batch_size_batch_sharpness_is_left_out():
    found = rescale(two_scalars()[0], to="norm")
    assert set(sharpness_change(found)) == {"λ_max", "Gauss-Newton trace"}


def test_what_cannot_be_measured_is_told():
    risk, x, y = two_scalars()
    of_weights = Risk(
        risk.model, lambda model, _: (model[1].weight * model[0].weight - 1).square().sum(), (x, y), check=False
    )
    found = rescale(of_weights, symmetries(risk), to="norm", samples=0)
    before, after = sharpness_change(found)["Gauss-Newton trace"]
    assert before.status == after.status == "failed"
    assert before.reason
