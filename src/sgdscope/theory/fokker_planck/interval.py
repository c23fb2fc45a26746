"""Interval: where on the line the stationary law lives."""

from __future__ import annotations

import numpy as np

from sgdscope.theory.fokker_planck.stretches import Array, Function, Stretches

_DEPTH = 40.0
"""Noise units below the outermost maxima of the law at which the line is cut: e⁻⁴⁰ of the density there."""
_WIDEST = 2.0**20
_POINTS = 4001


def confining_interval(drift: Function, diffusion: Function, share: float) -> tuple[float, float]:
    """The interval that holds all wells found and ends 40 noise units up the outer slopes.

    Windows [−w, w] are tried for w = 1, 2, 4, … until the law falls off to both sides, and goes on doing so in the
    window four times as wide. A well beyond that is not seen. Raises ValueError if no window up to 2²⁰ is wide enough.
    """
    width = 1.0
    while width <= _WIDEST:
        found = _ends(*_log_density(width, drift, diffusion, share))
        if found is not None:
            beyond = _ends(*_log_density(4 * width, drift, diffusion, share))
            if beyond is not None and max(-beyond[0], beyond[1]) <= width:
                return found
        width *= 2
    raise ValueError(
        f"the potential does not confine: within ±{_WIDEST:.0f} it does not rise by {_DEPTH:.0f} noise units on both "
        "sides; give interval=(left, right), whose ends then reflect"
    )


def _log_density(width: float, drift: Function, diffusion: Function, share: float) -> tuple[Array, Array]:
    points = np.linspace(-width, width, _POINTS)
    spread = _at(diffusion, points)
    parts = Stretches.between(points, drift, diffusion, share)
    return points, np.append(0.0, np.cumsum(parts.rise)) - (1 - share) * np.log(spread)


def _at(diffusion: Function, points: Array) -> Array:
    found = np.broadcast_to(np.asarray(diffusion(points), dtype=np.float64), points.shape)
    if not found.min() > 0:
        at = points[int(np.argmin(found))]
        raise ValueError(f"expected a diffusion > 0 everywhere, got {found.min():.4g} at {at:.6g}")
    return found


def _ends(points: Array, log_density: Array) -> tuple[float, float] | None:
    """Left and right end, or None if the window holds no maximum, or does not reach far enough down."""
    rising = np.diff(log_density) > 0
    maxima = np.flatnonzero(rising[:-1] & ~rising[1:]) + 1
    if not len(maxima):
        return None
    left, right = maxima[0], maxima[-1]
    low_left = np.flatnonzero(log_density[:left] < log_density[left] - _DEPTH)
    low_right = np.flatnonzero(log_density[right:] < log_density[right] - _DEPTH)
    if not (len(low_left) and len(low_right)):
        return None
    return float(points[low_left[-1]]), float(points[right + low_right[0]])
