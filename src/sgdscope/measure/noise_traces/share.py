"""Share: what one side of one symmetry owns of one parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def weights_by_name(shares: Sequence[Share]) -> dict[str, list[Tensor | None]]:
    """For each parameter the different weights under which sums over its elements are asked for."""
    found: dict[str, list[Tensor | None]] = {}
    for share in shares:
        known = found.setdefault(share.part.name, [])
        if not any(w is share.weights for w in known):
            known.append(share.weights)
    return found
