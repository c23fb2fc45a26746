"""Part: the slices of one parameter that the units of a symmetry scale."""

from __future__ import annotations

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
        power: the slice is multiplied by λ to this power: +1 or −1 mostly, or a tensor of powers if given by hand.
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
        """Where unit i is found, in words: ``3.weight[:, i]``, ``qkv.weight[i in 0:64]``; powers other than ±1 too."""
        if isinstance(self.power, Tensor):
            return self.name
        power = "" if abs(self.power) == 1 else f"^{abs(self.power):.3g}"
        if not self.unit_dims:
            return self.name + power
        shown = range(max(self.unit_dims) + 1)
        return f"{self.name}[{', '.join(self._index if d in self.unit_dims else ':' for d in shown)}]{power}"

    @property
    def _index(self) -> str:
        if self.owners is None or self.whole:
            return "i"
        owned = self.owners.ge(0).nonzero()
        first, last = int(owned.min()), int(owned.max())
        return f"i {'in' if len(owned) == last - first + 1 else 'within'} {first}:{last + 1}"

    def sums(self, values: Tensor) -> Tensor:
        """Sums of a tensor like the parameter over each unit's slice, powers included: shape ``(units,)``, float64."""
        if isinstance(self.power, Tensor):
            return (values.detach().double() * self.power.to(values.device)).sum().reshape(1)
        return self.power * self.gathered(self.collapsed(values))

    def collapsed(self, values: Tensor, dtype: torch.dtype | None = torch.float64) -> Tensor:
        """Sums over all but the unit dimensions, flattened: what all parts of one layout have in common.

        None sums in the precision of the values, which on CPUs is some fifty times as fast.
        """
        laid_out = values.detach().reshape(self.view)
        others = [d for d in range(laid_out.dim()) if d not in self.unit_dims]
        return (laid_out.sum(others, dtype=dtype) if others else laid_out.to(dtype or values.dtype)).reshape(-1)

    def gathered(self, collapsed: Tensor) -> Tensor:
        """Sums by index along the unit dimensions added up for each unit: shape ``(units,)``."""
        if self.owners is None:
            return collapsed
        owners = self.owners.to(collapsed.device)
        units = torch.zeros(int(self.owners.max()) + 2, dtype=collapsed.dtype, device=collapsed.device)
        return units.index_add_(0, owners + 1, collapsed)[1:]

    def product(self, one: Tensor, other: Tensor) -> Tensor:
        """oneᵀ A other for each unit, of tensors like the parameter: shape ``(units,)``, float64."""
        return self.sums(one.detach().double() * other.detach().double())

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

    def applied(self, scales: Tensor, values: Tensor) -> Tensor:
        """The parameter after λ^A, λ being each unit's scale."""
        return values * self.factors(scales.to(values.device), values)


@dataclass(frozen=True, eq=False)
class MatrixPart(Part):
    """One parameter on which a symmetric matrix acts along one dimension; one unit.

    Attributes:
        matrix: A, symmetric, shape (n, n), float64.
        dim: dimension of the parameter, of size n, that it acts along.
    """

    matrix: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    dim: int = 0

    @property
    def whole(self) -> bool:
        """Never: it does not scale elements."""
        return False

    def times(self, values: Tensor, matrix: Tensor | None = None) -> Tensor:
        """A (or another matrix of its shape) times a tensor like the parameter, in float64."""
        matrix = self.matrix if matrix is None else matrix
        moved = values.detach().double().movedim(self.dim, 0)
        turned: Tensor = torch.tensordot(matrix.to(moved.device), moved, dims=1)
        return turned.movedim(0, self.dim)

    def sums(self, values: Tensor) -> Tensor:
        """Raises ValueError: a matrix weighs products of elements, see `product`."""
        raise ValueError(f"expected a generator that scales elements of {self.name}, got one that mixes them\n"
                         "hint: use Part.product")  # fmt: skip

    def factors(self, scales: Tensor, like: Tensor) -> Tensor:
        """Raises ValueError: see `applied`."""
        return self.sums(like)

    def product(self, one: Tensor, other: Tensor) -> Tensor:
        """oneᵀ A other, shape ``(1,)``, float64."""
        return (one.detach().double() * self.times(other)).sum().reshape(1)

    def applied(self, scales: Tensor, values: Tensor) -> Tensor:
        """The parameter after λ^A = e^{A ln λ}."""
        return self.times(values, torch.linalg.matrix_exp(float(scales.log()) * self.matrix)).to(values)


def quadratic(parts: tuple[Part, ...], vector: Mapping[str, Tensor], units: int) -> Tensor:
    """vᵀAv of each unit."""
    total = torch.zeros(units, dtype=torch.float64)
    for part in parts:
        total += part.product(vector[part.name], vector[part.name]).cpu()
    return total
