"""Vectors: against the same on flat tensors."""

import math

import pytest
import torch

from sgdscope import vectors
from sgdscope.vectors import Basis
from tests.cases import flat

G = torch.Generator().manual_seed(0)
LIKE = [torch.zeros(3, 2, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)]


def test_products_and_sums():
    a, b = vectors.random_like(LIKE, G), vectors.random_like(LIKE, G)
    assert vectors.dot(a, b) == pytest.approx(float(flat(a) @ flat(b)), rel=1e-14)
    assert vectors.norm(a) == pytest.approx(float(flat(a).norm()), rel=1e-14)
    assert torch.equal(flat(vectors.plus(a, b, -2.0)), flat(a) - 2 * flat(b))
    assert vectors.norm(vectors.normalised(a)) == pytest.approx(1)
    assert vectors.normalised(LIKE) is None


def test_dot_of_what_is_not_finite_or_mixed():
    inf = [torch.tensor([math.inf]), torch.tensor([1.0])]
    assert math.isnan(vectors.dot(inf, [torch.ones(1), torch.tensor([-math.inf])]))
    assert vectors.normalised(inf) is None
    mixed = [torch.ones(2), torch.ones(3, dtype=torch.float64)]
    assert vectors.dot(mixed, mixed) == 5


def test_basis():
    basis = Basis(LIKE, 10)
    for _ in range(10):
        basis.append(basis.orthogonalise(vectors.random_like(LIKE, G)))
    rows = torch.stack([flat(basis.row(i)) for i in range(10)])
    torch.testing.assert_close(rows @ rows.T, torch.eye(10, dtype=torch.float64))
    v = vectors.random_like(LIKE, G)
    torch.testing.assert_close(basis.coefficients(v), rows @ flat(v))
    torch.testing.assert_close(flat(basis.combine(basis.coefficients(v))), flat(v))
    assert basis.orthogonalise(v) is None
    with pytest.raises(ValueError, match="expected at most 10 basis vectors, got one more"):
        basis.append(v)
    basis.compress(torch.eye(10, dtype=torch.float64)[:, :3])
    assert basis.size == 3
