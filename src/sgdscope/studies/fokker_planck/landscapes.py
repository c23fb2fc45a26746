"""Landscapes of the study, in one variable."""

from __future__ import annotations

from functools import cache

from sgdscope.theory.potential import Potential

DOUBLE_WELL = "(x**2-1)**2/4"
SKEWED = "(x**2-1)**2*(1+x/2+x**2/8)/4"
"""Two wells of equal depth, curvatures 1.25 on the left and 3.25 on the right."""
SPLIT = 0.122894
"""Its saddle."""
TILTED = f"{SKEWED} - x/50"
"""The same with the sharp well deeper."""
SKEWED_NOISE = "0.940332+x+1.309668*x**2"
"""A variance that equals the size of the curvature at both minima and at the saddle of `SKEWED`."""
WELL = "x**2/2"


@cache
def landscape(formula: str) -> Potential:
    """A potential by its formula."""
    return Potential(formula)
