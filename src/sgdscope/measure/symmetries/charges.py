"""Charges: the quadratic forms θᵀAθ that symmetries of the loss conserve under gradient flow.

A step of plain SGD without weight decay changes each by exactly lr² ĝᵀAĝ, ĝ the minibatch gradient, since θᵀAĝ = 0.
Source: Ziyin, Li & Ueda 2308.06671 (the per-sample identity, Eq. 26).
"""

from __future__ import annotations

from torch import Tensor

from sgdscope.measure.points import Point, here, vector_of
from sgdscope.measure.symmetries.find import symmetries
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
