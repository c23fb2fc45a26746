"""Traces: exact against dense matrices, unbiased signs and probes, errors, fall-backs."""

import pytest
import torch
import torch.nn.functional as F
from tests.cases import CASES, by_case, cross_entropy, dense, diagonal, mlp
from torch import nn

from sgdscope import vectors
from sgdscope.hessian import Hessian
from sgdscope.measure import gauss_newton_trace, hessian_trace
from sgdscope.risk import Risk

LAYERED = {"mlp tanh", "mlp relu", "mlp gelu", "linear", "cnn", "attention", "BatchNorm", "dict", "mapping"}


def dense_trace(risk, kind):
    total = 0.0
    with Hessian(risk, kind=kind, method="graph") as matrix:
        for index, p in enumerate(risk.parameters):
            for entry in range(p.numel()):
                unit = [torch.zeros_like(q) for q in risk.parameters]
                unit[index].view(-1)[entry] = 1
                total += vectors.dot(unit, matrix.product(unit))
    return total


@pytest.mark.parametrize(**by_case(only=lambda case: case.name not in ("dropout", "MultiheadAttention")))
@pytest.mark.parametrize("chunk_size", [None, 5])
def test_against_dense(case, chunk_size):
    risk = case.risk(mode="eval", chunk_size=chunk_size)
    truth = dense_trace(case.risk(mode="eval"), "gauss_newton")
    found = gauss_newton_trace(risk, tolerance=0.05)
    if case.name in LAYERED:
        assert found.settings["method"] == "exact"
        assert found.value == pytest.approx(truth, rel=1e-9)
        assert found.standard_error == 0
        signs = gauss_newton_trace(risk, method="signs")
        assert abs(signs.value - truth) <= 4 * signs.standard_error + 1e-9 * truth
        assert signs.standard_error < 0.5 * truth
    else:
        assert found.settings["method"].startswith("probes: ")
        assert abs(found.value - truth) <= 4 * found.standard_error


@pytest.mark.parametrize(**by_case(only=lambda case: case.name not in ("dropout", "MultiheadAttention")))
def test_hessian_trace_against_dense(case):
    risk = case.risk(mode="eval")
    with torch.random.fork_rng([]):
        _, matrix = dense(risk, case.data())
    found = hessian_trace(risk, max_probes=200)
    assert abs(found.value - float(matrix.trace())) <= 4 * found.standard_error + 1e-10
    if case.name in ("mlp relu", "linear"):
        assert found.settings["method"] == "Gauss-Newton, the rest is zero"
        assert found.standard_error == 0
        assert found.value == pytest.approx(float(matrix.trace()), rel=1e-9)


def test_signs_are_unbiased_and_their_error_is_right():
    risk = Risk(mlp("tanh").double(), cross_entropy, CASES[0].data())
    truth = gauss_newton_trace(risk, method="exact").value
    draws = [gauss_newton_trace(risk, method="signs", generator=torch.Generator().manual_seed(s)) for s in range(300)]
    values = torch.tensor([d.value for d in draws])
    spread = float(values.std())
    assert float(values.mean()) == pytest.approx(truth, abs=4 * spread / 300**0.5)
    stated = torch.tensor([d.standard_error for d in draws]).square().mean().sqrt()
    assert float(stated) == pytest.approx(spread, rel=0.15)


def not_convex(model, batch):
    """A loss whose Hessian by the output has both signs."""
    f = model(batch[0])
    return (f[:, 0] * f[:, 1] + 0.1 * f.square().sum(1)).mean()


@pytest.mark.parametrize("loss", [not_convex, cross_entropy])
def test_losses_that_are_not_convex(loss):
    risk = Risk(mlp("tanh").double(), loss, CASES[0].data())
    truth = dense_trace(risk, "gauss_newton")
    assert gauss_newton_trace(risk).value == pytest.approx(truth, rel=1e-9)
    draws = [gauss_newton_trace(risk, method="signs", generator=torch.Generator().manual_seed(s)) for s in range(200)]
    mean = sum(d.value for d in draws) / 200
    spread = float(torch.tensor([d.value for d in draws]).std())
    assert mean == pytest.approx(truth, abs=4 * spread / 200**0.5)


def test_many_outputs():
    """More outputs than a loss Hessian is formed for: 100 per sample."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 100)).double()
        data = torch.randn(40, 4).double(), torch.randint(100, (40,))
    risk = Risk(model, lambda m, b: F.cross_entropy(m(b[0]), b[1]), data)
    truth = dense_trace(risk, "gauss_newton")
    draws = [gauss_newton_trace(risk, generator=torch.Generator().manual_seed(s)) for s in range(60)]
    assert draws[0].settings["method"] == "signs"
    mean = sum(d.value for d in draws) / 60
    spread = float(torch.tensor([d.value for d in draws]).std())
    assert mean == pytest.approx(truth, abs=4 * spread / 60**0.5)
    with pytest.raises(
        ValueError, match="100 outputs per sample, at most 64 can be taken one by one\nhint: method='probes'"
    ):
        gauss_newton_trace(risk, method="exact")


def test_what_cannot_be():
    with pytest.raises(ValueError, match="expected method 'auto', 'exact', 'signs' or 'probes', got 'hutchinson'"):
        gauss_newton_trace(CASES[0].risk(), method="hutchinson")
    tied = next(c for c in CASES if c.name == "tied")
    with pytest.raises(ValueError, match="got one that cannot: tied parameters\nhint: method='probes'"):
        gauss_newton_trace(tied.risk(), method="exact")


def test_a_function_has_no_gauss_newton_part_but_a_trace():
    risk = diagonal([3.0, 1.0, -0.5])
    found = hessian_trace(risk)
    assert found.settings["method"] == "probes"
    assert found.value == pytest.approx(3.5, rel=1e-9)  # probes of signs are exact on a diagonal matrix


def test_batch_norm_in_train_mode_is_probed():
    case = next(c for c in CASES if c.name == "BatchNorm")
    risk = case.risk(mode="train")
    found = gauss_newton_trace(risk, tolerance=0.1, max_probes=60)
    assert found.settings["method"] == "probes: BatchNorm2d in train mode mixes the samples"
    assert abs(found.value - dense_trace(risk, "gauss_newton")) <= 4 * found.standard_error


def test_few_probes_say_so():
    tied = next(c for c in CASES if c.name == "tied")
    found = hessian_trace(tied.risk(), max_probes=3, tolerance=1e-6)
    assert found.status == "few_samples"
    assert "after 3 probes" in found.reason
