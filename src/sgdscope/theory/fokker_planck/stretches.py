"""Stretches: how much of the stationary law a piece of the line holds, and how it resists flow, by Gauss quadrature.

With drift a and diffusion D the flux that vanishes in equilibrium is ``J = (a + α D') p − ∂(D p)``, α = 0 for Itô,
½ for Stratonovich, 1 for anti-Itô. Its density is ``ρ = exp(∫ a/D) / D^(1−α)``, and between two points that exchange
the flux J, ``p/ρ`` falls by ``J ∫ dx / (D ρ)``. Both integrals are all that a finite-volume generator needs to know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Function = Callable[[Array], Array]
"""A function of position, vectorised: an array in, an array of the same shape out."""

_NODES = 0.5 + np.sqrt(0.15) * np.array([-1.0, 0.0, 1.0])
_POWERS = np.vander(_NODES, increasing=True)
_WEIGHTS = np.linalg.solve(_POWERS.T, 1 / np.arange(1, 4))
_PARTIAL = (_NODES[:, None] * _POWERS / np.arange(1, 4)) @ np.linalg.inv(_POWERS)
"""Row i integrates the parabola through the three nodes from 0 to node i."""


_STEEP = 2.0
"""Rise of ln ρ over one stretch from which the exponential is integrated as such rather than as a polynomial."""


@dataclass(frozen=True)
class Stretches:
    """Integrals over stretches of the line, each in units of exp(∫ a/D) at its left end, shape (stretches,).

    Attributes:
        rise: ∫ a/D.
        log_mass: ln ∫ ρ dx.
        log_resistance: ln ∫ dx / (D ρ).
    """

    rise: Array
    log_mass: Array
    log_resistance: Array

    @classmethod
    def between(cls, points: Array, drift: Function, diffusion: Function, share: float) -> Stretches:
        """Of the stretches between consecutive points; `share` is α. Three evaluations of each function per stretch.

        The error is of sixth order in the stretch where ln ρ changes by less than 2 over it; on steeper ones, a/D is
        taken as constant. No function is asked at the points themselves, so a jump of the diffusion at a point costs
        no accuracy. Raises ValueError where a function is not finite, or D not positive.
        """
        width = np.diff(points)
        x = points[:-1, None] + width[:, None] * _NODES
        a, d = evaluated(drift, x, "drift"), evaluated(diffusion, x, "diffusion", positive=True)
        climb = width[:, None] * ((a / d) @ _PARTIAL.T)
        rise = width * ((a / d) @ _WEIGHTS)
        flat, resisting = width[:, None] * d ** (share - 1), width[:, None] * d**-share
        climb[np.abs(rise) > _STEEP] = 0
        steep = np.where(np.abs(rise) > _STEEP, rise, 0.0)
        growth = np.exp(climb)
        return cls(
            rise,
            np.log((flat * growth) @ _WEIGHTS) + _log_mean_exponential(steep),
            np.log((resisting / growth) @ _WEIGHTS) + _log_mean_exponential(-steep),
        )


def _log_mean_exponential(rise: Array) -> Array:
    """``ln ∫₀¹ e^(rise s) ds``."""
    size = np.abs(rise)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(size > 0, np.log(-np.expm1(-size) / size), 0.0)
    return np.asarray(np.maximum(rise, 0) + mean)


def evaluated(function: Function, x: Array, what: str, *, positive: bool = False) -> Array:
    """The function at x, broadcast to the shape of x. Raises ValueError with the position of the first bad value."""
    value = np.asarray(function(x), dtype=np.float64)
    try:
        value = np.broadcast_to(value, x.shape)
    except ValueError:
        raise ValueError(
            f"expected a {what} that maps an array of shape {x.shape} to the same shape, got {value.shape}"
        ) from None
    good = np.isfinite(value) & (value > 0) if positive else np.isfinite(value)
    if not good.all():
        where = np.unravel_index(np.argmin(good), x.shape)
        wish = "positive and finite" if positive else "finite"
        raise ValueError(f"expected a {what} that is {wish}, got {value[where]:.6g} at x = {x[where]:.6g}")
    return value
