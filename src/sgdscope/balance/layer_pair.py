"""Layer pair: how unequal the two sides of one rescaling symmetry are, in norm and in noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sgdscope.estimate import Estimate, with_error
from sgdscope.measure.noise_traces import NoiseTraces, Totals
from sgdscope.measure.symmetries import Symmetry


@dataclass(frozen=True, eq=False)
class LayerPair:
    """The two sides of one symmetry: u, which is multiplied by λ, and w, which is divided.

    Imbalances are (u − w) / (u + w), between −1 and 1. "Of a unit" is the median over units of their size: a pair can
    be balanced as a whole though its units are not.

    Attributes:
        name: of the symmetry.
        squared_norm_u: ‖u‖² of each unit, in float64 on the CPU.
        squared_norm_w: ‖w‖² of each unit.
        noise: traces of the covariance of per-sample gradients on both sides; None if it was not looked at.
    """

    name: str
    squared_norm_u: Tensor
    squared_norm_w: Tensor
    noise: NoiseTraces | None = None

    @classmethod
    def of(cls, symmetry: Symmetry, parameters: Mapping[str, Tensor], noise: NoiseTraces | None = None) -> LayerPair:
        """The pair as it stands at the parameters."""
        u, w = (torch.zeros(symmetry.units, dtype=torch.float64) for _ in range(2))
        for part in symmetry.parts:
            squares = parameters[part.name].detach().double().square()
            powers = torch.as_tensor(part.power, dtype=torch.float64)
            for side, of_side in ((u, powers.clamp(min=0)), (w, (-powers).clamp(min=0))):
                power = of_side if isinstance(part.power, Tensor) else float(of_side)
                side += replace(part, power=power).sums(squares).cpu()
        return cls(symmetry.name, u, w, noise)

    @property
    def units(self) -> int:
        """How many are rescaled one by one."""
        return len(self.squared_norm_u)

    @property
    def ratio(self) -> float | None:
        """‖u‖ / ‖w‖; None if w is zero."""
        u, w = float(self.squared_norm_u.sum()), float(self.squared_norm_w.sum())
        return math.sqrt(u / w) if w else None

    @property
    def norm_imbalance(self) -> float:
        """Of ‖u‖² and ‖w‖²; 0 if both are zero."""
        return _imbalance(float(self.squared_norm_u.sum()), float(self.squared_norm_w.sum()))

    @property
    def norm_imbalance_of_a_unit(self) -> float | None:
        """None if all units are zero."""
        return _of_a_unit(self.squared_norm_u, self.squared_norm_w)

    @property
    def noise_imbalance(self) -> Estimate:
        """Of the traces of the covariance of per-sample gradients; ``failed`` where there is none, with the reason."""
        noise, name = self.noise, "noise_imbalance"
        if noise is None:
            return Estimate.failed(name, "not looked at")
        if not noise.total.noise_u + noise.total.noise_w:
            return Estimate.failed(name, "no noise on either side")

        def of(totals: Totals) -> float:
            return _imbalance(totals.noise_u, totals.noise_w)

        return Estimate(name, of(noise.total), noise.error(of), count=noise.samples)

    @property
    def noise_imbalance_of_a_unit(self) -> float | None:
        """None if it was not looked at, or no unit has noise."""
        return None if self.noise is None else _of_a_unit(self.noise.noise_u, self.noise.noise_w)


def _imbalance(u: float, w: float) -> float:
    return (u - w) / (u + w) if u + w else 0.0


def _of_a_unit(u: Tensor, w: Tensor) -> float | None:
    there = u + w > 0
    return float(((u - w).abs() / (u + w))[there].median()) if bool(there.any()) else None


COLUMNS = ("layers", "units", "‖u‖/‖w‖", "norm imbalance", "noise imbalance", "of a unit")


def row(before: LayerPair, after: LayerPair, *, noise: bool) -> list[str]:
    """Before → after under `COLUMNS`; the last is the imbalance of a unit in noise, or in norm."""
    texts = [[_three(p.ratio), _places(p.norm_imbalance), _with_error(p.noise_imbalance), _places(
        p.noise_imbalance_of_a_unit if noise else p.norm_imbalance_of_a_unit)] for p in (before, after)]  # fmt: skip
    return [before.name, str(before.units), *(f"{one} → {other}" for one, other in zip(*texts, strict=True))]


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _places(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" if abs(value) >= 5e-4 else "0"


def _with_error(estimate: Estimate) -> str:
    if estimate.value is None:
        return "–"
    error = estimate.standard_error
    if isinstance(error, float) and error > 0:
        return with_error(float(estimate), error, digits=1)
    return _places(float(estimate))
