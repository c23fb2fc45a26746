"""Variances of single elements: as from the gradients of single samples, whatever way they were had."""

import pytest
import torch
from tests.measure.symmetries.networks import NETWORKS

from sgdscope.balance.element_noise import element_noise
from sgdscope.measure import noise_traces, symmetries

NAMED = {n.name: n for n in NETWORKS}


def measured(risk, **settings):
    given = {"samples": 100, "batch_size": None, "replacement": False, "generator": torch.Generator().manual_seed(0)}
    return element_noise(risk, risk.names, **(given | settings))


@pytest.mark.parametrize("name", ["mlp", "cnn", "LayerNorm", "written forward", "depthwise and grouped"])
def test_as_from_the_gradients_of_single_samples(name):
    risk = NAMED[name].risk()
    found, cost = measured(risk)
    gradients = [risk.gradient(risk.source.take(torch.tensor([i])))[1] for i in range(risk.size)]
    for key, rows in zip(risk.names, zip(*gradients, strict=True), strict=True):
        torch.testing.assert_close(found[key], torch.stack(rows).var(0, correction=0), rtol=1e-9, atol=1e-15)
    assert cost == 1


@pytest.mark.parametrize(
    ("name", "settings"),
    [("mlp", {"samples": 12}), ("dropout", {}), ("resnet with BatchNorm", {"samples": 16, "batch_size": 4})],
)
def test_it_sums_to_the_traces(name, settings):
    risk = NAMED[name].risk()
    found, _ = measured(risk, **settings)
    acting = symmetries(risk, samples=2)
    given = {"samples": 100, "generator": torch.Generator().manual_seed(0)} | settings
    for traces in noise_traces(risk, acting, **given):
        u = sum(part.sums(found[part.name]).sum() for part in traces.symmetry.u)
        if name == "dropout":  # masks differ
            assert float(u) == pytest.approx(traces.total.noise_u, rel=0.5)
        else:
            assert float(u) == pytest.approx(traces.total.noise_u, rel=1e-9)


def test_too_few_batches():
    with pytest.raises(ValueError, match="at least 2 batches"):
        measured(NAMED["resnet with BatchNorm"].risk(), samples=6, batch_size=4)


def test_what_is_not_finite_is_told():
    risk = NAMED["mlp"].risk()
    with torch.no_grad():
        risk.parameters[0][0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="not finite"):
        measured(risk)
