"""Compact vectors: same inner products and eigenvalues, there and back, where samples are fewer than features."""

import pytest
import torch
from tests.cases import dense, flat, squared
from torch import nn

from sgdscope import vectors
from sgdscope.chain import span as module
from sgdscope.hessian import Hessian
from sgdscope.measure import EigenvalueTracker, leading_eigenvalues
from sgdscope.risk import Risk

SAMPLES, FEATURES = 6, 20


def wide_risk(*, samples=SAMPLES, features=FEATURES, dtype=torch.float64, outputs=5, loss=squared, **options):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(features, outputs), nn.Tanh(), nn.Linear(outputs, 3)).to(dtype)
        data = torch.randn(samples, features, dtype=dtype), torch.randn(samples, 3, dtype=dtype)
    return Risk(model, loss, data, **options)


def test_products_commute_with_the_change_of_coordinates():
    risk = wide_risk()
    with torch.random.fork_rng([]):
        gradient, matrix = dense(risk, tuple(risk.source.take(torch.arange(SAMPLES))))
    with Hessian(risk, compact=True) as hessian:
        assert [x.shape[-1] for x in hessian.gradient] == [SAMPLES, 5, 5, 3]
        torch.testing.assert_close(flat(hessian.lift(hessian.gradient)), gradient, rtol=1e-9, atol=1e-12)
        v = vectors.random_like(hessian.gradient, torch.Generator().manual_seed(1))
        image = hessian.product(v)
        lifted, lifted_image = flat(hessian.lift(v)), flat(hessian.lift(image))
        torch.testing.assert_close(lifted_image, matrix @ lifted, rtol=1e-9, atol=1e-11)
        assert float(lifted @ lifted) == pytest.approx(vectors.dot(v, v), rel=1e-9)
        torch.testing.assert_close(flat(hessian.restrict(hessian.lift(v))), flat(v), rtol=1e-9, atol=1e-11)
    assert hessian.span is None


def test_the_spectrum_is_the_same_but_for_zeros():
    risk = wide_risk()
    with torch.random.fork_rng([]):
        _, matrix = dense(risk, tuple(risk.source.take(torch.arange(SAMPLES))))
    with Hessian(risk, compact=True) as hessian:
        like = hessian.gradient
        count = sum(x.numel() for x in like)
        columns = []
        for row in torch.eye(count, dtype=torch.float64):
            parts = row.split([x.numel() for x in like])
            columns.append(flat(hessian.product([p.view_as(x) for p, x in zip(parts, like, strict=True)])))
    compact = torch.linalg.eigvalsh(torch.stack(columns))
    full = torch.linalg.eigvalsh(matrix)
    zeros = torch.zeros(len(full) - len(compact), dtype=torch.float64)
    torch.testing.assert_close(torch.cat([compact, zeros]).sort().values, full, rtol=1e-9, atol=1e-11)


def test_duplicates_and_single_precision():
    risk = wide_risk(samples=4, dtype=torch.float32)
    x, y = risk.source.take(torch.tensor([0, 1, 1, 1, 2, 3]))
    twice = Risk(risk.model, squared, (x, y))
    exact = Risk(risk.model.double(), squared, (x.double(), y.double()))
    with torch.random.fork_rng([]):
        _, matrix = dense(exact, (x.double(), y.double()))
    risk.model.float()
    found = leading_eigenvalues(twice, 2, tolerance=1e-4)
    assert found.value == pytest.approx(torch.linalg.eigvalsh(matrix).flip(0)[:2].tolist(), rel=1e-4)


@pytest.mark.parametrize(
    "options",
    [{"samples": 18}, {"outputs": 1, "samples": 12}, {"chunk_size": 3}],
    ids=["as many samples as features", "hardly any outputs", "chunks"],
)
def test_where_it_does_not_pay(options):
    risk = wide_risk(**options)
    with Hessian(risk, compact=True) as hessian:
        assert hessian.span is None
        v = vectors.random_like(risk.parameters, torch.Generator().manual_seed(0))
        assert [x.shape for x in hessian.product(v)] == [p.shape for p in risk.parameters]
        assert all(torch.equal(a, b) for a, b in zip(hessian.lift(hessian.restrict(v)), v, strict=True))


def test_one_factor_for_the_same_data(monkeypatch):
    """Made once per risk; other data (a loss that shifts its inputs) are noticed, and the tracker starts anew."""
    shift = [0.0]

    def shifted(model, batch):
        return squared(model, (batch[0] + shift[0] * torch.arange(FEATURES), batch[1]))

    risk = wide_risk(loss=shifted)
    made = []
    cholesky = torch.linalg.cholesky
    monkeypatch.setattr(module.torch.linalg, "cholesky", lambda a: made.append(1) or cholesky(a))
    tracker = EigenvalueTracker(tolerance=1e-6)
    first, again = tracker.update(risk), tracker.update(risk)
    assert len(made) == 1
    assert again.value == pytest.approx(first.value, rel=1e-9)
    shift[0] = 0.1
    moved = tracker.update(risk)
    assert len(made) == 2
    assert moved.value == pytest.approx(EigenvalueTracker(tolerance=1e-6).update(risk).value, rel=1e-9)
    assert abs(moved.value[0] - first.value[0]) > 1e-3 * first.value[0]


def test_zero_inputs():
    risk = wide_risk()
    blank = Risk(risk.model, squared, (torch.zeros(3, FEATURES).double(), torch.ones(3, 3).double()), check=False)
    with Hessian(blank, compact=True) as hessian:
        assert hessian.span is None
