"""Second moment: exact in one dimension and on small random quadratics, the bias of finite sets, the boundary."""

import math

import pytest
import torch
from tests.cases import CASES, dense, quadratics

from sgdscope.batches import draw_indices
from sgdscope.measure import second_moment_contraction
from sgdscope.risk import Risk
from sgdscope.theory import stability


def random_quadratics(count=6, dimension=4, seed=0):
    """½ θᵀ H_i θ with positive H_i: all about them is known."""
    g = torch.Generator().manual_seed(seed)
    roots = torch.randn(count, dimension, 2, generator=g, dtype=torch.float64)
    matrices = roots @ roots.transpose(1, 2)
    start = torch.randn(dimension, generator=g, dtype=torch.float64)
    risk = Risk.of_function(lambda p, batch: 0.5 * torch.einsum("i,bij,j->b", p[0], batch, p[0]).mean(), [start],
                            matrices)  # fmt: skip
    return risk, matrices


def moment(matrices, lr):
    steps = torch.eye(matrices.shape[-1], dtype=torch.float64) - lr * matrices
    return (steps @ steps).mean(0)


@pytest.mark.parametrize("lr", [0.1, 0.8, 1.2])
def test_one_dimension(lr):
    found = second_moment_contraction(quadratics([1.0, 3.0]), 1, lr, batches=400)
    truth = ((1 - lr) ** 2 + (1 - 3 * lr) ** 2) / 2
    assert found.value == pytest.approx(truth, abs=4 * found.standard_error + 1e-12)
    assert found.standard_error == pytest.approx(abs((1 - lr) ** 2 - (1 - 3 * lr) ** 2) / 2 / 20, rel=0.02)
    assert found.beside["contraction_rate"].value == pytest.approx(1 - found.value)
    assert found.beside["curvature_along"].value == pytest.approx(2, abs=0.2)
    assert found.status == "ok"


def test_the_boundary_in_one_dimension():
    lr = stability.mean_square_boundary(2.0, 5.0)
    found = second_moment_contraction(quadratics([1.0, 3.0]), 1, lr, batches=400)
    assert found.value == pytest.approx(1, abs=4 * found.standard_error)


@pytest.mark.parametrize("replacement", [False, True])
def test_on_its_own_batches_it_is_the_dense_eigenvalue(replacement):
    risk, matrices = random_quadratics()
    g = torch.Generator().manual_seed(3)
    found = second_moment_contraction(
        risk, 2, 0.7, batches=12, eigenvalue_tolerance=1e-8, replacement=replacement, generator=g
    )
    g.manual_seed(3)
    drawn = torch.stack([matrices[draw_indices(6, 2, g, replacement=replacement)].mean(0) for _ in range(12)])
    assert found.value == pytest.approx(float(torch.linalg.eigvalsh(moment(drawn, 0.7))[-1]), rel=1e-7)
    assert found.residual < 1e-6


def test_the_truth_lies_between_what_was_fitted_and_what_was_held_out():
    risk, matrices = random_quadratics(count=8, dimension=5)
    truth = float(torch.linalg.eigvalsh(moment(matrices, 0.6))[-1])  # b = 1: all batches there are
    fitted, held_out, hits = [], [], 0
    for seed in range(20):
        g = torch.Generator().manual_seed(seed)
        found = second_moment_contraction(risk, 1, 0.6, batches=16, generator=g)
        fitted.append(found.value)
        held_out.append(found.beside["held_out_growth"].value)
        hits += abs(found.value - truth) <= 2 * found.standard_error
    fitted, held_out = torch.tensor(fitted), torch.tensor(held_out)
    assert fitted.mean() > truth  # by 3 % here
    assert held_out.mean() < truth + 2 * held_out.std() / 20**0.5
    assert held_out.mean() < fitted.mean()
    assert hits >= 15


def test_a_network_against_dense():
    risk, g = CASES[0].risk(), torch.Generator().manual_seed(3)
    arguments = {"batches": 3, "eigenvalue_tolerance": 1e-7, "max_products": 200}
    found = second_moment_contraction(risk, 4, 0.5, generator=g, **arguments)
    g.manual_seed(3)
    drawn = torch.stack([dense(risk, risk.source.take(draw_indices(12, 4, g)))[1] for _ in range(3)])
    assert found.value == pytest.approx(float(torch.linalg.eigvalsh(moment(drawn, 0.5))[-1]), rel=1e-6)
    narrow = CASES[0].risk(chunk_size=4)  # graphs are then not kept
    again = second_moment_contraction(narrow, 4, 0.5, generator=g.manual_seed(3), **arguments)
    assert again.value == pytest.approx(found.value, rel=1e-9)
    assert again.cost > found.cost
    straight = second_moment_contraction(risk, 4, 0.01, kind="gauss_newton", generator=g, **arguments)
    assert straight.value <= 1 + 1e-6  # no negative curvature, and small steps


def test_of_all_data_nothing_is_sampled():
    risk, matrices = random_quadratics()
    found = second_moment_contraction(risk, 6, 0.3, eigenvalue_tolerance=1e-8)
    mean = matrices.mean(0, keepdim=True)
    assert found.value == pytest.approx(float(torch.linalg.eigvalsh(moment(mean, 0.3))[-1]), rel=1e-7)
    assert (found.standard_error, found.count, found.status) == (0, 1, "ok")


def test_what_cannot_be_had_says_why():
    risk, _ = random_quadratics()
    short = second_moment_contraction(risk, 2, 0.7, batches=4, eigenvalue_tolerance=1e-9, max_products=1)
    assert short.status == "not_converged"
    lost = second_moment_contraction(quadratics([1.0, math.inf]), 1, 0.1)
    assert (lost.value, lost.status) == (None, "diverged")
    for wrong, words in (
        ({"lr": 0}, "expected a learning rate > 0"), ({"batches": 1}, "at least 2 batches"),
        ({"tolerance": 0}, "expected tolerances > 0"), ({"batch_size": 7}, "expected a batch size"),
        ({"kind": "fisher"}, "expected kind"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            second_moment_contraction(risk, **{"batch_size": 2, "lr": 0.1, **wrong})
