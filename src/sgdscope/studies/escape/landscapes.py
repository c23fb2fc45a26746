"""Landscapes of the study, with noise that stays positive on the way over each barrier."""

from __future__ import annotations

from functools import cache

from sgdscope.theory.potential import Potential

DOUBLE_WELL = "(x**2-1)**2/4"
NOISE = "1+x**2"
"""A per-sample variance with the curvature's size at the saddle and at the minima of `DOUBLE_WELL`: 1 and 2."""
LITERAL = "abs(3*x**2-1)"
"""The size of the curvature itself: zero at the inflection points, on the way."""
SKEWED = "(x**2-1)**2*(1+x/2+x**2/8)/4"
SKEWED_NOISE = "0.940332+x+1.309668*x**2"
STYBLINSKI_TANG = "(x**4-16*x**2+5*x)/80"
VALLEY_WIDENS = "(x**2-1)**2/4+(1+2*x**2)*y**2/2"
"""Two wells with a direction across that is sharper in the wells than on the saddle."""


@cache
def landscape(formula: str) -> Potential:
    """A potential by its formula."""
    return Potential(formula)


def sharper(formula: str, k: float) -> str:
    """L(√k x): curvatures times k, the same barriers."""
    return formula.replace("x", f"({k**0.5:.12g}*x)")


def sharper_noise(formula: str, k: float) -> str:
    """The variance that goes with `sharper` where noise follows the curvature: k h(√k x)."""
    return f"{k:.12g}*({sharper(formula, k)})"
