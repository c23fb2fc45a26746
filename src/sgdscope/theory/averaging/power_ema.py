"""Power EMA: exponent, decay at each step, and width of averages whose weights grow like s^exponent.

Source: Karras et al. 2312.02696, Sec. 3. The width σ_rel is the standard deviation of the profile relative to the
length of training; the exponent is their γ.
"""

from __future__ import annotations

import math

import numpy as np

from sgdscope.theory.averaging.arguments import count, finite, positive

_WIDEST = (math.sqrt(5) - 3) / 2
"""Exponent of the widest profile; narrower ones have a second exponent below it, of weights that favour the start."""


def power_decay(step: int, exponent: float, every: int = 1) -> float:
    """β_t = ((t − every) / t)^{exponent + 1}: the decay to use at step t when the EMA is updated every `every` steps.

    Zero at the first update. Counting updates instead of steps, or raw steps (1 − 1/t) with every > 1, gives another
    profile than was asked for.
    """
    t, k = count(step, "step"), count(every, "steps between updates")
    return float((max(t - k, 0) / t) ** (_exponent(exponent) + 1))


def power_width(exponent: float) -> float:
    """σ_rel = √((γ + 1) / ((γ + 2)² (γ + 3)))."""
    g = _exponent(exponent)
    return math.sqrt((g + 1) / ((g + 2) ** 2 * (g + 3)))


def power_mean_position(exponent: float) -> float:
    """(γ + 1) / (γ + 2): mean of the profile as a share of the run."""
    return (_exponent(exponent) + 1) / (exponent + 2)


def power_exponent(relative_width: float) -> float:
    """Exponent of a width: the largest root of γ³ + 7 γ² + (16 − σ⁻²) γ + 12 − σ⁻². Inverse of `power_width`.

    Raises ValueError above the widest profile, σ_rel = 0.3003 (a uniform average has 0.2887).
    """
    widest = power_width(_WIDEST)
    if not positive(relative_width, "relative width") <= widest:
        raise ValueError(f"expected a relative width of at most {widest:.7g}, got {relative_width}: no profile has it")
    inverse = relative_width**-2.0
    root = float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())
    for _ in range(3):  # Newton: the roots of a companion matrix carry a few digits less
        value = (root + 2) ** 2 * (root + 3) - inverse * (root + 1)
        slope = 3 * root**2 + 14 * root + 16 - inverse
        root -= value / slope if slope > 1e-6 * inverse else 0.0
    return root


def _exponent(exponent: float) -> float:
    if not finite(exponent, "exponent") > -1:
        raise ValueError(f"expected an exponent > −1, got {exponent}")
    return exponent
