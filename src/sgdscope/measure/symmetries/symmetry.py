"""Symmetry: a continuous symmetry of the loss that multiplies parameters, its charges and how well it holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sgdscope.measure.symmetries.part import Part
from sgdscope.measure.symmetries.table import table

Status = Literal["exact", "up to eps", "rejected"]


@dataclass(frozen=True, eq=False)
class Symmetry:
    """One generator A per unit: the loss of every sample is the same at ``e^{λA} θ``.

    Attributes:
        name: the layers that write the rescaled activations → those that read them, or → the norm that forgets their
            scale; of two that are multiplied with each other, such as queries · keys, u · w. Further ones of the same
            layers are numbered.
        kind: ``rescaling`` (u → λu, w → w/λ), ``scale invariance`` (u → λu) or ``custom``.
        units: neurons, channels, heads or groups of them that are rescaled one by one.
        parts: slices of parameters, u (power +1, the reading side) before w (power −1, the writing side, with biases);
            other powers where degrees are other than one. A parameter that units write and read has a part for each.
        charges: θᵀAθ of each unit, ‖u‖² − ‖w‖² for a rescaling; what gradient flow conserves.
        residual: largest of |u·∇_u ℓ − w·∇_w ℓ| over the samples, relative to the largest |u·∇_u ℓ| + |w·∇_w ℓ|, for
            the worst unit; where there is one side only, relative to the sum of magnitudes of its terms. None if no
            gradient reaches any unit, or if it was not looked at.
        difference: largest relative change of the outputs (of losses, if that is less) when units are really rescaled,
            by 2 or ½ at random, all symmetries together; None if the residual had rejected it before.
        silent: units that no gradient reaches in the samples looked at, such as dead ReLUs.
        status: ``exact``; ``up to eps``: exact but for the small number a norm adds to the variance (single precision
            may not see it); ``rejected``.
        reason: why it is rejected, or what to bear in mind.
        unit: what a unit is, in the plural: ``units`` (neurons, channels), ``heads``.
        group: ``general linear`` if units (or the coordinates inside each head) may be mixed by any invertible matrix,
            not only scaled: then there is a matrix of charges, see `matrix_charges`. Empty if that was not found.
        coordinates: the parts again with a unit for each coordinate that may be mixed; empty without a group.
        blocks: in how many blocks of equal size, such as heads, coordinates are mixed among themselves.
    """

    name: str
    kind: str
    units: int
    parts: tuple[Part, ...]
    charges: tuple[float, ...] = ()
    residual: float | None = None
    difference: float | None = None
    silent: int = 0
    status: Status = "exact"
    reason: str = ""
    unit: str = "units"
    group: str = ""
    coordinates: tuple[Part, ...] = ()
    blocks: int = 1

    @property
    def holds(self) -> bool:
        """Whether it is exact, or exact but for a norm's eps."""
        return self.status != "rejected"

    @property
    def u(self) -> tuple[Part, ...]:
        """The side that is multiplied by λ."""
        return tuple(p for p in self.parts if not isinstance(p.power, float) or p.power > 0)

    @property
    def w(self) -> tuple[Part, ...]:
        """The side that is divided by λ."""
        return tuple(p for p in self.parts if isinstance(p.power, float) and p.power < 0)


@dataclass(frozen=True, eq=False, repr=False)
class Symmetries(Sequence[Symmetry]):
    """All symmetries that were proposed, those that failed too; printed as a table.

    Attributes:
        found: in the order of the model.
        samples: how many losses each was verified on.
        cost: gradient evaluations spent, each of one sample (or small batch).
        notes: what to bear in mind.
    """

    found: tuple[Symmetry, ...]
    samples: int = 0
    cost: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def holding(self) -> tuple[Symmetry, ...]:
        """Those that hold."""
        return tuple(s for s in self.found if s.holds)

    @property
    def rejected(self) -> tuple[Symmetry, ...]:
        """Those that do not, each with its reason."""
        return tuple(s for s in self.found if not s.holds)

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        """By place, or by name."""
        if isinstance(index, str):
            for symmetry in self.found:
                if symmetry.name == index:
                    return symmetry
            raise KeyError(f"expected one of {', '.join(s.name for s in self.found)}, got {index!r}")
        return self.found[index]

    def __iter__(self) -> Iterator[Symmetry]:
        return iter(self.found)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return table(self)
