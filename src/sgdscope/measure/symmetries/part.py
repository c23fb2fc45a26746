"""Part: the slices of one parameter that the units of a symmetry scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Part:
    """One parameter, seen as ``view``, in which a unit owns slices along ``unit_dims``.

    Attributes:
        name: of the parameter, as in `Risk.names`.
        view: shape in which the units have dimensions of their own; as many elements as the parameter.
        unit_dims: those dimensions; none if all is one unit.
        power: the slice is multiplied by λ to this power: +1 or −1, or a tensor of powers if given by hand.
        owners: by index along `unit_dims` (flattened) the unit that owns the slice, −1 where none does; long, on the
            CPU. None: index i belongs to unit i, and the units own the whole parameter.
    """

    name: str
    view: tuple[int, ...]
    unit_dims: tuple[int, ...] = ()
    power: float | Tensor = field(default=1.0)
    owners: Tensor | None = None

    @property
    def whole(self) -> bool:
        """Whether every element of the parameter belongs to some unit, and has the one power there is."""
        return not isinstance(self.power, Tensor) and (self.owners is None or bool((self.owners >= 0).all()))

    @property
    def slices(self) -> str:
        """Where unit i is found, in words: ``3.weight[:, i]``, ``qkv.weight[i in 0:64]``."""
        if isinstance(self.power, Tensor) or not self.unit_dims:
            return self.name
        shown = range(max(self.unit_dims) + 1)
        return f"{self.name}[{', '.join(self._index if d in self.unit_dims else ':' for d in shown)}]"

    @property
    def _index(self) -> str:
        if self.owners is None or self.whole:
            return "i"
        owned = self.owners.ge(0).nonzero()
        return f"i in {int(owned.min())}:{int(owned.max()) + 1}"

    def sums(self, values: Tensor) -> Tensor:
        """Sums of a tensor like the parameter over each unit's slice, powers included: shape ``(units,)``, float64."""
        weighted = values.detach().double()
        if isinstance(self.power, Tensor):
            weighted = weighted * self.power.to(weighted)
        weighted = weighted.reshape(self.view)
        others = [d for d in range(weighted.dim()) if d not in self.unit_dims]
        summed = (weighted.sum(others) if others else weighted).reshape(-1)
        if self.owners is not None:
            owners = self.owners.to(summed.device)
            owned = owners >= 0
            units = torch.zeros(int(self.owners.max()) + 1, dtype=summed.dtype, device=summed.device)
            summed = units.index_add_(0, owners[owned], summed[owned])
        return summed if isinstance(self.power, Tensor) else summed * self.power

    def factors(self, scales: Tensor, like: Tensor) -> Tensor:
        """λ to the power of each element, in the shape of the parameter; `scales` has shape ``(units,)``."""
        if isinstance(self.power, Tensor):
            return torch.pow(scales, self.power.to(scales)).expand(like.shape).to(like)
        factors = scales.pow(self.power)
        if self.owners is not None:
            owners = self.owners.to(factors.device)
            factors = torch.where(owners >= 0, factors[owners.clamp(min=0)], 1.0)
        shape = [n if d in self.unit_dims else 1 for d, n in enumerate(self.view)]
        return factors.reshape(shape).expand(self.view).reshape(like.shape).to(like)


def part(name: str, parameter: Tensor, dim: int, units: int, power: float) -> Part:
    """The part whose units are equal runs of indices along one dimension."""
    shape = tuple(parameter.shape)
    if units == 1:
        return Part(name, (math.prod(shape),), (), power)
    view = (*shape[:dim], units, shape[dim] // units, *shape[dim + 1 :])
    return Part(name, view, (dim,), power)


def quadratic(parts: tuple[Part, ...], vector: Mapping[str, Tensor], units: int) -> Tensor:
    """vᵀAv of each unit."""
    total = torch.zeros(units, dtype=torch.float64)
    for part in parts:
        total += part.sums(vector[part.name].detach().double().square()).cpu()
    return total
