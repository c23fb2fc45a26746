"""Share: what one side of one symmetry owns of one parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from sgdscope.measure.symmetries.part import Part
from sgdscope.measure.symmetries.symmetry import Symmetry


@dataclass(frozen=True, eq=False)
class Share:
    """A part with powers ≥ 0, and the side it is on: u (positive powers) or w (negative ones)."""

    side: str
    part: Part

    @property
    def weights(self) -> Tensor | None:
        """Powers element by element; None where there is one for all."""
        return self.part.power if isinstance(self.part.power, Tensor) else None


def shares_of(symmetry: Symmetry) -> list[Share]:
    """The parts of a symmetry by side; one with powers of both signs is in both."""
    shares = []
    for part in symmetry.parts:
        if not isinstance(part.power, Tensor):
            shares.append(Share("u" if part.power > 0 else "w", replace(part, power=abs(part.power))))
            continue
        for side, powers in (("u", part.power.clamp(min=0)), ("w", (-part.power).clamp(min=0))):
            if bool(powers.any()):
                shares.append(Share(side, replace(part, power=powers)))
    return shares


def weights_by_name(shares: Sequence[Share]) -> dict[str, list[Tensor | None]]:
    """For each parameter the different weights under which sums over its elements are asked for."""
    found: dict[str, list[Tensor | None]] = {}
    for share in shares:
        known = found.setdefault(share.part.name, [])
        if not any(w is share.weights for w in known):
            known.append(share.weights)
    return found
