"""Candidate: generators that are to be verified together, one per unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sgdscope.measure.symmetries.part import Part


@dataclass(frozen=True, eq=False)
class Candidate:
    """A generator for each unit: what it scales, and why it cannot hold if that is known.

    Attributes:
        name, kind, units, parts: as in `Symmetry`.
        reason: why it is none, known without looking at numbers.
        unit: what a unit is, in the plural.
        coordinates: the parts again with a unit for each coordinate, where these may be mixed; `blocks` of them, of
            equal size, are mixed among themselves only.
    """

    name: str
    kind: str
    units: int
    parts: tuple[Part, ...]
    reason: str = ""
    unit: str = "units"
    coordinates: tuple[Part, ...] = ()
    blocks: int = 1

    @property
    def one_sided(self) -> bool:
        """Whether nothing is divided, or nothing multiplied, so that u·∇_u ℓ has nothing to balance it."""
        powers = [torch.as_tensor(p.power) for p in self.parts]
        return not (any(bool((p > 0).any()) for p in powers) and any(bool((p < 0).any()) for p in powers))

    @property
    def size(self) -> int:
        """Number of coordinates that are mixed among themselves."""
        return size_of(self.coordinates, self.blocks)


def size_of(coordinates: Sequence[Part], blocks: int) -> int:
    """Number of coordinates of a block; 0 where there are none."""
    counts = [int(part.owners.max()) + 1 for part in coordinates if part.owners is not None]
    return max(counts, default=0) // blocks
