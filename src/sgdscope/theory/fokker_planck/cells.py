"""Cells: the finite volumes of a line, as masses and as resistances between them.

The mass of a cell is the integral of the stationary density ρ over it, and its resistance that of 1/(Dρ), so the
stationary law and the resistance of barriers are exact to quadrature. Between two neighbours lies the share θ of the
first cell's resistance that its mass has before it on the way out to the right, and the share 1 − θ of the second's.
Where a/D is constant this is the flux of Scharfetter and Gummel (Chang and Cooper), which moves mass at the exact speed
whatever the cell's Péclet number; in general it is of second order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sgdscope.theory.fokker_planck.chain import Chain
from sgdscope.theory.fokker_planck.stretches import Array, Function, Stretches


@dataclass(frozen=True)
class Cells:
    """Logarithms of masses (sum 1) and resistances of n cells, each of shape (n,).

    Attributes:
        faces: positions, shape (n + 1,).
        rise: ∫ a/D over each cell.
        log_mass: of each cell.
        log_to_left, log_to_right: from where the mass of each cell is to its own faces.
    """

    faces: Array
    rise: Array
    log_mass: Array
    log_to_left: Array
    log_to_right: Array

    @classmethod
    def between(cls, faces: Array, drift: Function, diffusion: Function, share: float) -> Cells:
        """Build from the faces; see `Stretches.between` for the functions and `share`. Three evaluations a cell."""
        cell = Stretches.between(faces, drift, diffusion, share)
        height = np.append(0.0, np.cumsum(cell.rise[:-1]))
        mass = cell.log_mass + height
        total = np.log(np.exp(mass - mass.max()).sum()) + mass.max()
        resistance = cell.log_resistance - height + total
        return cls(
            faces,
            cell.rise,
            mass - total,
            resistance + _log_share_before_right(-cell.rise),
            resistance + _log_share_before_right(cell.rise),
        )

    def chain(self, start: int, stop: int, *, open_left: bool, open_right: bool) -> Chain:
        """The cells start … stop − 1 as a chain; its walls, at the outer faces, absorb where they are open."""
        return Chain(
            self.log_mass[start:stop],
            np.concatenate([
                [self.log_to_left[start] if open_left else np.inf],
                np.logaddexp(self.log_to_right[start : stop - 1], self.log_to_left[start + 1 : stop]),
                [self.log_to_right[stop - 1] if open_right else np.inf],
            ]),
        )  # fmt: skip

    def needed(self) -> int:
        """How many equal cells resolve each well and barrier: four per thermal width ``√(D/|U''|)``, for rates to 1 %.

        A well against a wall must not fall by more than half a noise unit in a cell.
        """
        before, after = self.rise[:-1], self.rise[1:]
        turns = np.where(before * after < 0, np.abs(after - before), 0.0)
        ends = 2 * max(-self.rise[0], self.rise[-1], 0.0)
        return int(np.ceil(max(4 * np.sqrt(turns.max(initial=0.0)), ends) * len(self.rise)))


def _log_share_before_right(rise: Array) -> Array:
    """``ln θ``: the share of a cell's resistance on the way right, averaged over its mass, where ln ρ rises linearly.

    θ = (δ − 1 + e^−δ) / (2 sinh(δ/2))²: ½ on flat ground, little if the mass is heaped up on the right.
    """
    size = np.maximum(np.abs(rise), 1e-3)
    decay = -np.expm1(-size)
    uphill = np.log(size - decay) - size - 2 * np.log(decay)
    downhill = np.log(decay - size * np.exp(-size)) - 2 * np.log(decay)
    small = np.clip(rise, -1e-3, 1e-3)
    return np.where(np.abs(rise) < 1e-3, np.log(0.5 - small / 6 + small**3 / 180), np.where(rise > 0, uphill, downhill))
