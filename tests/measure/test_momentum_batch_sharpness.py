"""Batch sharpness along the step of momentum: the step is torch's own, and the numbers are those of dense algebra."""

import copy
import math

import pytest
import torch
from tests.cases import CASES, dense, flat, quadratics

from sgdscope.batches import draw_indices
from sgdscope.measure import batch_sharpness, edge_ratio_of_step, momentum_batch_sharpness

OPTIMIZERS = {
    "plain": {},
    "heavy ball": {"momentum": 0.9},
    "dampened": {"momentum": 0.9, "dampening": 0.4},
    "Nesterov": {"momentum": 0.8, "nesterov": True},
    "weight decay": {"momentum": 0.9, "weight_decay": 0.3},
}


def stepped(risk, optimizer, batch):
    """One step of the optimizer on a batch; returns how the parameters moved."""
    before = [p.detach().clone() for p in risk.parameters]
    optimizer.zero_grad()
    risk.loss_fn(risk.model, batch).backward()
    optimizer.step()
    optimizer.zero_grad()
    return [p.detach() - q for p, q in zip(risk.parameters, before, strict=True)]


@pytest.mark.parametrize("taken", [0, 3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_along_the_very_step_that_torch_makes(name, taken):
    risk, g = CASES[0].risk(), torch.Generator().manual_seed(5)
    optimizer = torch.optim.SGD(risk.parameters, lr=0.1, **OPTIMIZERS[name])
    for _ in range(taken):
        stepped(risk, optimizer, risk.draw(5, g))
    g.manual_seed(7)
    found = momentum_batch_sharpness(risk, 5, optimizer, tolerance=1e-9, min_batches=2, max_batches=3, generator=g)
    start = [p.detach().clone() for p in risk.parameters]
    state = copy.deepcopy(optimizer.state_dict())
    g.manual_seed(7)
    curvatures, descents, ratios = [], [], []
    for _ in range(3):
        batch = risk.source.take(draw_indices(12, 5, g))
        gradient, matrix = dense(risk, batch)
        s = -flat(stepped(risk, optimizer, batch)) / 0.1
        with torch.no_grad():
            for p, q in zip(risk.parameters, start, strict=True):
                p.copy_(q)
        optimizer.load_state_dict(copy.deepcopy(state))
        curvatures.append(float(s @ matrix @ s))
        descents.append(float(s @ gradient))
        ratios.append(curvatures[-1] / descents[-1])
    assert found.value == pytest.approx(sum(curvatures) / sum(descents), rel=1e-9)
    assert found.beside["expectation_of_ratio"].value == pytest.approx(sum(ratios) / 3, rel=1e-8)
    assert (found.status, found.count, found.cost) == ("few_samples", 3, 6)


def test_without_momentum_it_is_batch_sharpness():
    risk = CASES[0].risk()
    optimizer = torch.optim.SGD(risk.parameters, lr=0.1)
    settings = {"tolerance": 1e-9, "max_batches": 30, "statistic": "expectation_of_ratio"}
    found, plain = momentum_batch_sharpness(risk, 4, optimizer, **settings), batch_sharpness(risk, 4, **settings)
    assert found.value == pytest.approx(plain.value, rel=1e-9)
    assert found.standard_error == pytest.approx(plain.standard_error, rel=1e-6)
    assert found.beside["step_alignment"].value == pytest.approx(1)
    roe = "ratio_of_expectations"
    assert found.beside[roe].value == pytest.approx(plain.beside[roe].value, rel=1e-9)


def test_it_is_the_edge_ratio_of_the_step_over_the_learning_rate():
    risk, g = CASES[0].risk(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(risk.parameters, lr=0.05, momentum=0.9)
    for _ in range(5):
        stepped(risk, optimizer, risk.draw(4, g))
    found = momentum_batch_sharpness(risk, 12, optimizer)  # all data: one batch
    assert (found.status, found.standard_error) == ("ok", 0)
    batch = risk.source.take(torch.arange(12))
    start = [p.detach().clone() for p in risk.parameters]
    step = stepped(risk, optimizer, batch)
    with torch.no_grad():
        for p, q in zip(risk.parameters, start, strict=True):
            p.copy_(q)
    curvature, descent = edge_ratio_of_step(risk, batch, step)
    assert 0.05 * found.value == pytest.approx(curvature / descent, rel=1e-9)


def test_what_cannot_be_had_says_why():
    risk = CASES[0].risk()
    optimizer = torch.optim.SGD(risk.parameters, lr=0.1, momentum=0.9)
    for p in risk.parameters:  # uphill, and by far more than the gradient
        optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    _, gradient = risk.gradient()
    for p, g in zip(risk.parameters, gradient, strict=True):
        optimizer.state[p]["momentum_buffer"] = -100 * g
    uphill = momentum_batch_sharpness(risk, 4, optimizer)
    assert (uphill.value, uphill.status) == (None, "failed")
    assert "does not descend" in uphill.reason
    bad = quadratics([1.0, math.nan])
    lost = momentum_batch_sharpness(bad, 1, torch.optim.SGD(bad.parameters, lr=0.1))
    assert (lost.value, lost.status) == (None, "diverged")
    with pytest.raises(ValueError, match="got AdamW"):
        momentum_batch_sharpness(risk, 4, torch.optim.AdamW(risk.parameters))
    with pytest.raises(ValueError, match="of the risk's own parameters"):
        momentum_batch_sharpness(risk, 4, torch.optim.SGD(bad.parameters, lr=0.1))
    for wrong, words in (({"statistic": "mean"}, "expected statistic"), ({"tolerance": 0}, "expected tolerance"),
                         ({"batch_size": 13}, "expected a batch size")):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            momentum_batch_sharpness(risk, **{"batch_size": 4, "optimizer": optimizer, **wrong})
