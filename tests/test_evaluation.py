"""Undisturbed: after every measurement all is bit-equal to what it was before."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from sgdscope import measure
from sgdscope.risk import Risk
from tests.cases import CASES, by_case, mlp, squared

MEASUREMENTS = {
    "batch_sharpness": lambda r: measure.batch_sharpness(r, 4, max_batches=3),
    "gradient_difference": lambda r: measure.batch_sharpness(r, 4, max_batches=3, method="gradient_difference"),
    "leading_eigenvalues": lambda r: measure.leading_eigenvalues(r, max_products=4),
    "gradient_noise_interaction": lambda r: measure.gradient_noise_interaction(r, 4, batches=2, curvature_samples=6),
    "edge_ratio": lambda r: measure.edge_ratio(r, 4, 0.1, batches=2),
}


def state(model):
    numpy = np.random.get_state()  # noqa: NPY002
    return (
        {k: v.clone() for k, v in model.state_dict().items()},
        [id(p) for p in model.parameters()],
        [p.grad.clone() if p.grad is not None else None for p in model.parameters()],
        [m.training for m in model.modules()],
        [(len(m._forward_hooks), len(m._backward_hooks)) for m in model.modules()],
        torch.get_rng_state(),
        random.getstate(),
        (numpy[0], numpy[1].tolist(), *numpy[2:]),
        (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")),
    )


def assert_same(a, b):
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for k in a:
            assert_same(a[k], b[k])
    elif isinstance(a, list | tuple) and a and isinstance(a[0], torch.Tensor):
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert type(a) is type(b)
        assert str(a) == str(b)


@pytest.mark.parametrize(**by_case())
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_nothing_is_disturbed(case, name):
    risk = case.risk(check=False)
    model = risk.model
    np.random.randn()  # noqa: NPY002  (leaves a cached normal behind)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    next(iter(model.children())).eval()  # mixed flags
    fired = []
    model.parameters().__next__().requires_grad and risk.parameters[0].register_hook(lambda g: fired.append(1))
    handle = model.register_full_backward_hook(lambda *_: fired.append(2))
    before = state(model)
    MEASUREMENTS[name](risk)
    for x, y in zip(before, state(model), strict=True):
        assert_same(x, y)
    assert not fired
    handle.remove()
    copy.deepcopy(model)  # no tensor of ours is left inside


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_inside_leaves_no_trace(error):
    calls = []

    def failing(model, batch):
        calls.append(model.train(False))
        if len(calls) > 2:
            random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
            raise error("stop")
        return squared(model, batch)

    risk = Risk(next(c for c in CASES if c.name == "BatchNorm").model().double(), failing, CASES[0].data(), check=False)
    before = state(risk.model)
    with pytest.raises(error):
        measure.edge_ratio(risk, 4, 0.1)
    for x, y in zip(before, state(risk.model), strict=True):
        assert_same(x, y)


@pytest.mark.parametrize(
    "ambient", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)]
)
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_ambient_modes_do_not_matter(ambient, name):
    risk = CASES[0].risk()
    plain = MEASUREMENTS[name](risk)
    again = CASES[0].risk()
    with ambient():
        assert MEASUREMENTS[name](again) == plain


def test_old_weight_norm_and_its_attribute():
    with pytest.warns(FutureWarning):
        layer = nn.utils.weight_norm(nn.Linear(16, 3))
    model = nn.Sequential(nn.Flatten(), layer).double()
    model(CASES[0].data()[0])
    kept = layer.weight
    risk = Risk(model, squared, CASES[0].data())
    risk.gradient()
    assert layer.weight is kept


def test_wrappers_are_taken_off():
    model = mlp("tanh").double()
    assert Risk(nn.DataParallel(model), squared, CASES[0].data()).model is model
    assert Risk(torch.compile(model), squared, CASES[0].data()).model is model
