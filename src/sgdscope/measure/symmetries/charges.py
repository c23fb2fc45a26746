"""Charges: the quadratic forms θᵀAθ that symmetries of the loss conserve under gradient flow.

A step of plain SGD without weight decay changes each by exactly lr² ĝᵀAĝ, ĝ the minibatch gradient, since θᵀAĝ = 0.
Source: Ziyin, Li & Ueda 2308.06671 (the per-sample identity, Eq. 26).
"""

from __future__ import annotations

from torch import Tensor

from sgdscope.measure.points import Point, here, vector_of
from sgdscope.measure.symmetries.find import symmetries
from sgdscope.measure.symmetries.general_linear import matrix_of_charges
from sgdscope.measure.symmetries.part import quadratic
from sgdscope.measure.symmetries.symmetry import Symmetries
from sgdscope.risk import Risk


def charges(risk: Risk, found: Symmetries | None = None, *, at: Point | None = None) -> dict[str, Tensor]:
    """The charges of every symmetry that holds: by name one number per unit, in float64 on the CPU.

    Args:
        risk: gives names and order of the parameters.
        found: from `symmetries`; looked for if None.
        at: any vector like the parameters (default: the parameters). At a minibatch gradient it is ĝᵀAĝ, the change
            of the charge in a step of plain SGD divided by lr².

    Cost: one pass over the parameters, no gradient, if `found` is given.
    Raises ValueError on a vector of another shape.
    """
    found = symmetries(risk) if found is None else found
    vector = here(risk) if at is None else vector_of(risk, at, "a vector")
    named = dict(zip(risk.names, vector, strict=True))
    return {symmetry.name: quadratic(symmetry.parts, named, symmetry.units) for symmetry in found.holding}


def matrix_charges(risk: Risk, found: Symmetries | None = None, *, at: Point | None = None) -> dict[str, Tensor]:
    """Matrices of charges UᵀU − WWᵀ of symmetries whose units may be mixed by any invertible matrix.

    By name of shape (units, units), or (heads, n, n) for the n coordinates of each head, in float64 on the CPU. U are
    the slices that are multiplied by λ (for queries and keys the queries), W those that are divided, biases included;
    the diagonal, summed over each unit, is what `charges` gives.

    Args:
        risk: gives names and order of the parameters.
        found: from `symmetries`; looked for if None.
        at: any vector like the parameters (default: the parameters). At a minibatch gradient it is the change in a step
            of plain SGD without weight decay divided by lr², exactly.

    Cost: one pass over the parameters and a product of each with itself, no gradient, if `found` is given.
    Source: Ziyin, Wang, Li & Wu 2402.07193. Raises ValueError on a vector of another shape.
    """
    found = symmetries(risk) if found is None else found
    vector = here(risk) if at is None else vector_of(risk, at, "a vector")
    named = dict(zip(risk.names, vector, strict=True))
    matrices = {}
    for symmetry in found.holding:
        if symmetry.group:
            matrix = matrix_of_charges(symmetry.coordinates, named, symmetry.blocks)
            matrices[symmetry.name] = matrix[0] if symmetry.blocks == 1 else matrix
    return matrices
