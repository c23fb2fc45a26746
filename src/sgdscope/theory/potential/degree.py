"""Degree: what the gradient on the border of a region says about how many critical points lie inside.

The sum of signs of det H over the critical points inside, + for even index and − for odd, is the degree of the
gradient on the border (Poincaré-Hopf). In a landscape that rises at infinity it is 1: in two dimensions, minima minus
saddles plus maxima.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sgdscope.theory.potential.box import Box
from sgdscope.theory.potential.compiled import Compiled
from sgdscope.theory.potential.critical_point import CriticalPoint

BORDER = 2000


@dataclass(frozen=True)
class Completeness:
    """Whether all critical points were found.

    Attributes:
        status: complete (proved), count agrees (a necessary condition holds), count fails, or undecided.
        reason: in one sentence.
    """

    status: Literal["complete", "count agrees", "count fails", "undecided"]
    reason: str

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}"


def count_check(points: Sequence[CriticalPoint], expected: int | None) -> Completeness:
    """Compares the signed count of points with the degree on the border, None where that is unknown."""
    if expected is None:
        return Completeness("undecided", "the gradient on the border of the box does not give a count to compare with")
    if any(point.kind == "degenerate" for point in points):
        return Completeness("undecided", "a degenerate critical point may count for several")
    signed = sum((-1) ** point.index for point in points)
    said = f"critical points of even index minus those of odd index are {signed}, the border says {expected}"
    return Completeness("count agrees" if signed == expected else "count fails", said)


def degree(compiled: Compiled, box: Box) -> int | None:
    """Degree of the gradient on the border of a box in one or two dimensions; None if it cannot be told.

    In one dimension from the signs of the slope at both ends, in two from how often the gradient turns around on a
    walk along the border.
    """
    low, high = np.array(box).T
    if len(box) == 1:
        slopes = compiled.gradient(np.array([low, high]))[:, 0]
        if not np.all(np.abs(slopes) > 0):  # NaN too
            return None
        return round(float(np.sign(slopes[1]) - np.sign(slopes[0])) / 2)
    if len(box) > 2:
        return None
    corners = np.array([low, [high[0], low[1]], high, [low[0], high[1]]])
    shares = np.linspace(0, 1, BORDER, endpoint=False)[:, None]
    walk = np.concatenate([a + shares * (b - a) for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True)])
    gradient = compiled.gradient(walk)
    angles = np.arctan2(gradient[:, 1], gradient[:, 0])
    turns = (np.diff(angles, append=angles[:1]) + np.pi) % (2 * np.pi) - np.pi
    if not np.all(np.abs(turns) < np.pi / 2):
        return None
    return round(float(turns.sum()) / (2 * np.pi))
