"""Risk: what it refuses at the door, and what it evaluates."""

import pytest
import torch
from torch import nn

from sgdscope.risk import Risk
from tests.cases import CASES, mlp, squared


def changing(model, batch):
    batch[0].mul_(0.5)
    return squared(model, batch)


class Counter:
    calls = 0


def drifting(model, batch):
    Counter.calls += 1
    return squared(model, batch) * Counter.calls


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda m, b: (m(b[0]) - b[1]).square().sum(-1), "expected loss_fn to return a scalar, the mean loss of the"),
        (lambda m, b: 1.0, "expected loss_fn to return a scalar, the mean loss of the batch, got float\nhint: reduct"),
        (lambda m, b: (m(b[0]) - b[1]).square().sum(), "expected the mean loss of a batch, got what looks like a sum"),
        (lambda m, b: squared(m, b).detach(), "expected a loss that depends on the trainable parameters, got one with"),
        (
            lambda m, b: torch.ones((), requires_grad=True) * 2,
            "expected a loss that depends on the trainable parameters",
        ),
        (changing, "expected loss_fn to leave its batch as it is, got one that changes it in place\nhint: write x ="),
        (drifting, "expected the same loss for the same parameters, batch and seed, got "),
    ],
)
def test_losses_refused(loss, said):
    with pytest.raises(ValueError) as error:
        Risk(mlp("tanh").double(), loss, CASES[0].data())
    assert str(error.value).startswith(said)


def test_other_refusals():
    model, data = mlp("tanh").double(), CASES[0].data()
    with pytest.raises(ValueError, match="expected mode 'train', 'eval' or 'current', got 'test'"):
        Risk(model, squared, data, mode="test")
    with pytest.raises(ValueError, match="expected chunk_size ≥ 1, got 0"):
        Risk(model, squared, data, chunk_size=0)
    with pytest.raises(ValueError, match="got none with requires_grad\nhint: unfreeze at least one parameter"):
        Risk(model.requires_grad_(False), squared, data)


def test_losses_of_both_signs_are_no_sum():
    x = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    Risk(nn.Linear(1, 1, bias=False), lambda m, b: m(b).mean(), x)


def test_a_diverged_model_may_enter():
    model = mlp("tanh").double()
    nn.init.constant_(next(model.parameters()), float("nan"))
    value, _ = Risk(model, squared, CASES[0].data()).gradient()
    assert value != value


def test_chunks_follow_memory():
    risk = CASES[0].risk(memory=1)
    assert risk.chunk_size == 1
    assert CASES[0].risk().chunk_size == 12
    assert risk.value() == pytest.approx(CASES[0].risk().value(), rel=1e-12)
