"""Custom generators: symmetric matrices that act along one dimension of a parameter."""

from __future__ import annotations

import pytest
import torch
from tests.measure.symmetries.networks import NETWORKS
from tests.measure.symmetries.sequences import SEQUENCES

from sgdscope import measure

LINEAR = next(n for n in NETWORKS if n.name == "linear layers")
RELU = next(n for n in NETWORKS if n.name == "mlp")
HEADS = next(n for n in SEQUENCES if n.name == "attention by hand")


def symmetric(size: int, seed: int = 0) -> torch.Tensor:
    matrix = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return matrix + matrix.T


def between(matrix: torch.Tensor) -> dict:
    """G acts on what is written, its inverse on what reads."""
    return {"1.weight": (-matrix, 0), "1.bias": (-matrix, 0), "3.weight": (matrix, 1)}


def test_any_symmetric_matrix_between_linear_layers():
    risk = LINEAR.risk()
    matrix = symmetric(6)
    found = measure.symmetries(risk, custom={"turn": between(matrix), "half": dict([*between(matrix).items()][1:])})
    assert found["turn"].status == "exact"
    assert found["half"].status == "rejected"
    of_units = measure.matrix_charges(risk, found)["1 → 3"]
    assert found["turn"].charges[0] == pytest.approx(float((matrix * of_units).sum()), rel=1e-12)
    assert measure.charges(risk, found)["turn"].tolist() == list(found["turn"].charges)


def test_between_relus_only_diagonal_ones():
    found = measure.symmetries(
        RELU.risk(), custom={"mixed": between(symmetric(6)), "diagonal": between(symmetric(6).diag().diag())}
    )
    assert found["mixed"].status == "rejected"
    assert found["mixed"].residual > 1e-2
    assert found["diagonal"].status == "exact"


def test_inside_one_head():
    inside, across = torch.zeros(8, 8).double(), torch.zeros(8, 8).double()
    inside[4:, 4:], across[2:6, 2:6] = symmetric(4), symmetric(4)
    risk = HEADS.risk()
    custom = {
        name: {key: (sign * matrix, 0) for layer, sign in (("q", 1), ("k", -1)) for key in
               (f"{layer}.weight", f"{layer}.bias")}
        for name, matrix in (("inside", inside), ("across", across))
    }  # fmt: skip
    found = measure.symmetries(risk, custom=custom)
    assert found["inside"].status == "exact"
    assert found["across"].status == "rejected"
    of_head = measure.matrix_charges(risk, found)["q · k"][1]
    assert found["inside"].charges[0] == pytest.approx(float((inside[4:, 4:] * of_head).sum()), rel=1e-12)


def test_a_step_changes_the_charge_by_the_gradients():
    risk = LINEAR.risk()
    found = measure.symmetries(risk, custom={"turn": between(symmetric(6))})
    before = measure.charges(risk, found)["turn"]
    _, gradient = risk.gradient(risk.draw(5, torch.Generator().manual_seed(0)))
    change = measure.charges(risk, found, at=gradient)["turn"]
    with torch.no_grad():
        for p, g in zip(risk.parameters, gradient, strict=True):
            p -= 0.1 * g
    after = measure.charges(risk, found)["turn"]
    assert torch.allclose(after - before, 0.01 * change, rtol=1e-8)


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        ((symmetric(5), 0), r"a matrix of shape \(6, 6\) for dimension 0 of 1.weight, got \(5, 5\) in 'a'"),
        ((symmetric(6).triu(), 0), "only those have a charge"),
        ((symmetric(6), 2), "one of the 2 dimensions"),
        ((symmetric(6) * float("inf"), 0), "finite"),
        ((torch.zeros(6, 6), 0), "scales something"),
    ],
)
def test_bad_matrices(generator, message):
    with pytest.raises(ValueError, match=message):
        measure.symmetries(LINEAR.risk(), custom={"a": {"1.weight": generator}})


def test_sums_of_squares_say_nothing_of_a_matrix():
    (part,) = (p for p in measure.symmetries(LINEAR.risk(), custom={"a": between(symmetric(6))})["a"].parts[:1])
    assert not part.whole
    with pytest.raises(ValueError, match=r"Part\.product"):
        part.sums(torch.ones(6, 64))
