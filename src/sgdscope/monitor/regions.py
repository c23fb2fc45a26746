"""Regions: whole parameters, or slices of them, whose squared norms the charges of all layers are made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sgdscope.measure.symmetries import Part


@dataclass(frozen=True)
class Region:
    """A parameter, or of its elements in the shape `view` those at `length` indices from `start` on along `dim`.

    Attributes:
        name: of the parameter.
        view: empty for the whole parameter.
    """

    name: str
    view: tuple[int, ...] = ()
    dim: int = 0
    start: int = 0
    length: int = 0

    def of(self, tensor: Tensor) -> Tensor:
        """That region of a tensor like the parameter; no copy where the memory allows."""
        if tensor.is_sparse:
            tensor = tensor.to_dense()
        return tensor.reshape(self.view).narrow(self.dim, self.start, self.length) if self.view else tensor


def regions_of(part: Part) -> list[Region]:
    """The regions that the units of a part own, all units together. Raises ValueError for powers given by hand."""
    if isinstance(part.power, Tensor):
        raise ValueError(f"expected one power for all of {part.name}, got a tensor of powers")
    if part.whole or part.owners is None:
        return [Region(part.name)]
    # dimensions of units are neighbours as a rule; what lies between two of them belongs to every index
    first, last = min(part.unit_dims), max(part.unit_dims)
    shape = [n if d in part.unit_dims else 1 for d, n in enumerate(part.view)]
    owned = (part.owners >= 0).reshape(shape[first : last + 1]).expand(part.view[first : last + 1]).reshape(-1)
    view = (*part.view[:first], len(owned), *part.view[last + 1 :])
    edges = torch.diff(owned.int(), prepend=torch.zeros(1, dtype=torch.int32), append=torch.zeros(1, dtype=torch.int32))
    starts, ends = (edges > 0).nonzero().flatten().tolist(), (edges < 0).nonzero().flatten().tolist()
    return [Region(part.name, view, first, a, b - a) for a, b in zip(starts, ends, strict=True)]
