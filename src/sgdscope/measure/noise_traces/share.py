"""Share: what one side of one symmetry owns of one parameter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sgdscope.measure.symmetries.part import Part
from sgdscope.measure.symmetries.symmetry import Symmetry


@dataclass(frozen=True, eq=False)
class Share:
    """A part with powers ≥ 0, and the side it is on.

    Attributes:
        side: u (positive powers) or w (negative ones).
        part: with the size of the powers.
        weights: powers element by element, 0 where no unit owns the element; None if one power holds for the whole
            parameter.
    """

    side: str
    part: Part
    weights: Tensor | None


def shares_of(symmetry: Symmetry, parameters: Mapping[str, Tensor]) -> list[Share]:
    """The parts of a symmetry by side; one with powers of both signs is in both."""
    shares = []
    for part in symmetry.parts:
        if isinstance(part.power, Tensor):
            for side, powers in (("u", part.power.clamp(min=0)), ("w", (-part.power).clamp(min=0))):
                if bool(powers.any()):
                    shares.append(Share(side, replace(part, power=powers), powers))
            continue
        sized = replace(part, power=abs(part.power))
        weights = None if part.whole else _owned(part, parameters[part.name]) * sized.power
        shares.append(Share("u" if part.power > 0 else "w", sized, weights))
    return shares


def _owned(part: Part, parameter: Tensor) -> Tensor:
    """1 where some unit owns the element, else 0."""
    assert part.owners is not None
    zeros = torch.zeros(int(part.owners.max()) + 1, device=parameter.device)
    return 1 - replace(part, power=1.0).factors(zeros, parameter.detach())


def by_name(shares: Iterable[Share]) -> dict[str, list[Share]]:
    """The shares of each parameter."""
    found: dict[str, list[Share]] = {}
    for share in shares:
        found.setdefault(share.part.name, []).append(share)
    return found


def along(part: Part, shape: torch.Size) -> tuple[int, Part] | None:
    """Which sums of a matrix, by row (0) or by column (1), the sums of a part can be had from, and by what part."""
    if isinstance(part.power, Tensor):
        return None
    if not part.unit_dims:
        return 0, replace(part, view=(shape[0],))
    for place in range(len(part.view) + 1):
        if math.prod(part.view[:place]) == shape[0]:
            if max(part.unit_dims) < place:
                return 0, replace(part, view=part.view[:place])
            if min(part.unit_dims) >= place:
                own = tuple(d - place for d in part.unit_dims)
                return 1, replace(part, view=part.view[place:], unit_dims=own)
    return None


def squared_norms(share: Share, value: Tensor) -> Tensor:
    """‖v‖² of each unit of a share, in the precision of v: of large matrices no copy in another is made."""
    matrix = value.detach().square()
    found = along(share.part, matrix.shape) if matrix.dim() == 2 else None
    if found is None:
        return share.part.sums(matrix).cpu()
    place, part = found
    return part.sums(matrix.sum(1 - place)).cpu()
