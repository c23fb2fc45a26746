"""Quadratic fit: a parabola through losses along a line, and how much of their variation it holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_LEAST = 4
"""Losses that a parabola needs to be tested: it goes through any three."""
_ROUNDING = 16 * np.finfo(np.float64).eps


@dataclass(frozen=True)
class QuadraticFit:
    """``constant + slope · x + ½ curvature · x²``, by least squares.

    Attributes:
        constant: fitted loss at x = 0.
        slope: fitted first derivative there.
        curvature: fitted second derivative.
        r_squared: share of the losses' variance that the parabola holds, 1 for a quadratic; None where the losses do
            not vary beyond rounding.
    """

    constant: float
    slope: float
    curvature: float
    r_squared: float | None

    def at(self, x: float) -> float:
        """The fitted loss at x."""
        return self.constant + self.slope * x + 0.5 * self.curvature * x * x

    @property
    def lowest(self) -> float | None:
        """Where the parabola is lowest; None if it does not open upwards."""
        return -self.slope / self.curvature if self.curvature > 0 else None

    def to_row(self) -> dict[str, Any]:
        """Plain JSON types; `from_row` gives the same fit back."""
        return {
            "constant": self.constant,
            "slope": self.slope,
            "curvature": self.curvature,
            "r_squared": self.r_squared,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> QuadraticFit:
        """Rebuild from `to_row`."""
        share = row["r_squared"]
        constant, slope, curvature = (float(row[name]) for name in ("constant", "slope", "curvature"))
        return cls(constant, slope, curvature, None if share is None else float(share))


def fit_quadratic(coordinates: Sequence[float], losses: Sequence[float | None]) -> QuadraticFit | None:
    """The parabola closest to the losses; those that are None are left out.

    None where fewer than four different coordinates have a loss, so that nothing would be tested. Exact for a true
    quadratic: R² differs from 1 by rounding only.
    """
    known = [(x, z) for x, z in zip(coordinates, losses, strict=True) if z is not None and math.isfinite(z)]
    if len({x for x, _ in known}) < _LEAST:
        return None
    x, z = np.asarray(known, dtype=np.float64).T
    centre, half = (x.max() + x.min()) / 2, (x.max() - x.min()) / 2
    u, level = (x - centre) / half, z.mean()
    c0, c1, c2 = np.polynomial.polynomial.polyfit(u, z - level, 2)  # in scaled coordinates, where it is well posed
    left = z - level - (c0 + c1 * u + c2 * u * u)
    varied = bool(z.max() - z.min() > _ROUNDING * np.abs(z).max())
    share = 1 - float(left @ left) / float((z - level) @ (z - level)) if varied else None
    curvature = 2 * c2 / half**2
    slope = c1 / half - curvature * centre
    constant = level + c0 - c1 * centre / half + 0.5 * curvature * centre**2
    return QuadraticFit(float(constant), float(slope), float(curvature), share)
