"""Mini-batch sharpness: against dense spectra batch by batch, the stop rule, and what no start vector may hide."""

import math

import numpy as np
import pytest
import torch
from tests.cases import CASES, by_case, dense, quadratics

from sgdscope.batches import draw_indices
from sgdscope.hessian import Hessian
from sgdscope.measure import batch_sharpness, leading_eigenvalues, mini_batch_sharpness
from sgdscope.risk import Risk


@pytest.mark.parametrize(**by_case(only=lambda case: case.name not in ("mapping", "dict", "LSTM")))
def test_against_dense_batch_by_batch(case):
    risk, g = case.risk(), torch.Generator().manual_seed(5)
    found = mini_batch_sharpness(
        risk, 5, eigenvalue_tolerance=1e-6, tolerance=1e-9, max_batches=3, max_products=200, generator=g
    )
    g.manual_seed(5)
    tops = []
    for index in range(3):
        batch = risk.source.take(draw_indices(12, 5, g))
        with torch.random.fork_rng([]):
            tops.append(float(torch.linalg.eigvalsh(dense(risk, batch, seed=index + 1)[1])[-1]))
    assert found.value == pytest.approx(sum(tops) / 3, rel=1e-6)
    assert found.standard_error == pytest.approx(float(torch.tensor(tops).std()) / math.sqrt(3), rel=1e-3)
    assert (found.status, found.count) == ("few_samples", 3)
    assert "after 3 batches" in found.reason


def test_gauss_newton_by_products_of_autograd():
    risk, g = CASES[0].risk(), torch.Generator().manual_seed(5)
    found = mini_batch_sharpness(risk, 5, kind="gauss_newton", eigenvalue_tolerance=1e-7, max_batches=2, generator=g)
    g.manual_seed(5)
    tops = []
    for _ in range(2):
        batch = risk.source.take(draw_indices(12, 5, g))
        with Hessian(risk, batch, method="graph", kind="gauss_newton") as matrix:
            size = risk.parameter_count
            tops.append(float(np.linalg.eigvalsh(matrix.linear_operator().matmat(np.eye(size)))[-1]))
    assert found.name == "gauss_newton_mini_batch_sharpness"
    assert found.value == pytest.approx(sum(tops) / 2, rel=1e-6)


def test_one_dimension_and_the_stop_rule():
    found = mini_batch_sharpness(quadratics([1.0, 3.0]), 1, tolerance=0.05, max_batches=500)
    assert found.status == "ok"
    assert found.value == pytest.approx(2, abs=4 * found.standard_error)
    assert 0.03 < found.standard_error / found.value <= 0.05
    assert found.count == pytest.approx((0.5 / 0.05) ** 2, rel=0.3)


def test_of_all_data_it_is_the_largest_eigenvalue():
    risk = CASES[0].risk()
    found = mini_batch_sharpness(risk, 12, eigenvalue_tolerance=1e-6)
    assert found.value == pytest.approx(leading_eigenvalues(risk, tolerance=1e-6).value[0], rel=1e-6)
    assert (found.standard_error, found.count, found.status) == (0, 1, "ok")


def test_the_vector_of_the_batch_before_hides_nothing():
    # each batch is sharp along an axis of its own: the carried vector is an exact eigenvector, and the wrong one
    curvatures = torch.eye(4, dtype=torch.float64) * 5 + torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    risk = Risk.of_function(
        lambda p, batch: 0.5 * (batch.mean(0) * p[0].square()).sum(), [torch.ones(4, dtype=torch.float64)], curvatures
    )
    found = mini_batch_sharpness(risk, 1, max_batches=40, eigenvalue_tolerance=1e-4, tolerance=1e-6)
    assert 5.1 < found.value < 5.4
    assert found.standard_error < 0.03


def test_order_of_the_sharpnesses():
    risk = CASES[0].risk()
    mini = mini_batch_sharpness(risk, 3, tolerance=0.05)
    assert mini.value > batch_sharpness(risk, 3).value
    assert mini.value > leading_eigenvalues(risk).value[0]


def test_what_cannot_be_had_says_why():
    risk = CASES[0].risk()
    short = mini_batch_sharpness(risk, 3, max_products=1, max_batches=2)
    assert short.status == "not_converged"
    assert "of 2 batches is not certain to 2 % after 1 products" in short.reason
    one = mini_batch_sharpness(risk, 3, max_batches=1)
    assert (one.standard_error, one.status, one.reason) == (None, "few_samples", "one batch only")
    lost = mini_batch_sharpness(quadratics([1.0, math.nan]), 1)
    assert (lost.value, lost.status) == (None, "diverged")
    for wrong, words in (
        ({"kind": "fisher"}, "expected kind"), ({"tolerance": 0}, "expected tolerances > 0"),
        ({"max_products": 0}, "max_products ≥ 1"), ({"batch_size": 13}, "expected a batch size"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            mini_batch_sharpness(risk, **{"batch_size": 3, **wrong})
