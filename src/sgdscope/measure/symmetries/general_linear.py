"""General linear: units that only meet in sums can be mixed by any invertible matrix, and have a matrix of charges.

With U the slices that read the units (as columns) and W those that write them (as rows, biases included), the loss is
the same at U G⁻¹, G W for every invertible G: for two linear layers in a row, for queries and keys, for values and what
reads them. Gradient flow conserves UᵀU − WWᵀ, and a step of plain SGD without weight decay changes it by exactly
lr² (Ĝ_Uᵀ Ĝ_U − Ĝ_W Ĝ_Wᵀ). Source: Ziyin, Wang, Li & Wu 2402.07193.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sgdscope.measure.symmetries.candidate import Candidate
from sgdscope.measure.symmetries.evidence import Evidence, Sums, Tensors
from sgdscope.measure.symmetries.part import Part

_SPREAD = 0.25
"""Norm of the logarithm of the matrices that are really applied: enough to turn a unit's sign of activation."""


def coordinates(part: Part, values: Tensor, blocks: int) -> Tensor:
    """Slices of a tensor like the parameter by coordinate: shape (blocks, coordinates of a block, numbers of one)."""
    assert part.owners is not None
    dims = part.unit_dims
    rows = values.detach().reshape(part.view).movedim(dims, tuple(range(len(dims)))).flatten(0, len(dims) - 1)
    rows = rows.reshape(len(part.owners), -1)
    owned = part.owners >= 0
    if not bool(owned.all()) or not bool((part.owners[1:] >= part.owners[:-1]).all()):
        order = part.owners.argsort(stable=True)[int((~owned).sum()) :]
        rows = rows.index_select(0, order.to(rows.device))
    count = int(part.owners.max()) + 1
    return rows.reshape(blocks, count // blocks, -1)


def even(parts: Sequence[Part]) -> bool:
    """Whether every coordinate owns as much of each parameter as the others."""
    for part in parts:
        assert part.owners is not None
        owned = torch.bincount(part.owners[part.owners >= 0])
        if not bool((owned == owned[0]).all()):
            return False
    return True


class Mixed(Evidence):
    """What a few samples say of a candidate whose coordinates are mixed by random symmetric matrices ssᵀ, per block."""

    wanted = 4

    def __init__(self, candidate: Candidate) -> None:
        super().__init__(replace(candidate, units=candidate.blocks))
        self._generator = torch.Generator().manual_seed(candidate.blocks)

    def look(self, theta: Tensors, gradient: Tensors) -> None:
        """Take in one sample, with a matrix of its own."""
        candidate = self.candidate
        direction = torch.randn(candidate.blocks, 1, candidate.size, generator=self._generator, dtype=torch.float64)
        above, below, terms = (torch.zeros_like(self.gap) for _ in range(3))
        for part in candidate.coordinates:
            point, slope = (coordinates(part, named[part.name], candidate.blocks) for named in (theta, gradient))
            s = direction.to(point.device)
            along = s @ point.double()
            share = float(part.power) * (along * (s @ slope.double())).sum((1, 2)).cpu()
            (above if part.power > 0 else below).add_(share)
            terms += (along.abs() * (s.abs() @ slope.double().abs())).sum((1, 2)).cpu()
        self.take(above + below, above.abs() + below.abs(), terms)

    def add(self, sums: Sums) -> None:
        """Sums over slices say nothing of mixing."""


def mix(candidate: Candidate, moved: dict[str, Tensor], generator: torch.Generator) -> None:
    """Apply the exponential of a random symmetric matrix to the coordinates of each block, in place."""
    blocks, size = candidate.blocks, candidate.size
    random = torch.randn(blocks, size, size, generator=generator, dtype=torch.float64)
    symmetric = random + random.mT
    symmetric *= _SPREAD / torch.linalg.matrix_norm(symmetric, 2).reshape(-1, 1, 1)
    for part in candidate.coordinates:
        value = moved[part.name]
        places = coordinates(part, torch.arange(value.numel(), device=value.device).reshape(value.shape), blocks)
        matrix = torch.linalg.matrix_exp(float(part.power) * symmetric).to(value.device)
        mixed = matrix @ coordinates(part, value, blocks).double()
        moved[part.name] = (
            value.reshape(-1).scatter(0, places.reshape(-1), mixed.to(value).reshape(-1)).reshape(value.shape)
        )


def matrix_of_charges(parts: Sequence[Part], vector: Mapping[str, Tensor], blocks: int) -> Tensor:
    """UᵀU − WWᵀ of each block, shape (blocks, n, n), float64 on the CPU."""
    total = torch.zeros(())
    for part in parts:
        rows = coordinates(part, vector[part.name], blocks).double()
        total = total + float(part.power) * (rows @ rows.mT).cpu()
    return total
