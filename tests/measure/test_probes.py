"""Probes: method errors of eoss.md §8.4 on small trained networks, against exact curvature of the same batches."""

import pytest
import torch
from tests.cases import squared

from sgdscope.measure import batch_sharpness
from sgdscope.models import build
from sgdscope.risk import Risk

LR = 0.3


def trained(activation, dtype):
    g = torch.Generator().manual_seed(2)
    x = torch.randn(64, 8, generator=g)
    y = torch.tanh(x @ torch.randn(8, 3, generator=g))
    model = build("mlp", input_shape=(8,), classes=3, width=16, depth=1, activation=activation).double()
    data = x.double(), y.double()
    for step in range(300):
        rows = torch.randint(64, (8,), generator=g)
        grads = torch.autograd.grad(squared(model, tuple(t[rows] for t in data)), list(model.parameters()))
        with torch.no_grad():
            torch._foreach_add_(list(model.parameters()), grads, alpha=-LR * min(1, step / 50))
    return Risk(model.to(dtype), squared, tuple(t.to(dtype) for t in data))


@pytest.mark.parametrize(
    ("activation", "dtype", "method", "allowed"),
    [
        ("tanh", torch.float64, "gradient_difference", 2e-3),
        ("tanh", torch.float64, "central_difference", 2e-4),
        ("tanh", torch.float64, "loss_change", 0.02),
        ("tanh", torch.float32, "gradient_difference", 2e-3),
        ("tanh", torch.float32, "central_difference", 2e-3),
        ("relu", torch.float64, "gradient_difference", 0.08),
        ("relu", torch.float64, "central_difference", 0.04),
        ("relu", torch.float64, "loss_change", 0.06),
        ("relu", torch.float32, "loss_change", 0.06),
    ],
)
def test_error_of_the_method(activation, dtype, method, allowed):
    risk = trained(activation, dtype)
    exact, probed = (
        batch_sharpness(risk, 8, method=m, lr=LR, tolerance=1e-9, max_batches=128,
                        generator=torch.Generator().manual_seed(0)).beside["ratio_of_expectations"].value
        for m in ("exact", method)
    )  # fmt: skip
    assert exact * LR / 2 > 0.1
    assert probed == pytest.approx(exact, rel=allowed)


def test_without_a_learning_rate_the_probe_finds_its_own_scale():
    risk = trained("tanh", torch.float64)
    exact, probed = (
        batch_sharpness(risk, 8, method=m, max_batches=30, generator=torch.Generator().manual_seed(0)).value
        for m in ("exact", "gradient_difference")
    )
    assert probed == pytest.approx(exact, rel=5e-3)
