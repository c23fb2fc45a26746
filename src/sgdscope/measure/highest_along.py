"""The highest loss along a path of straight pieces: sampled evenly, then refined around the highest sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sgdscope.measure.common_losses import CommonLosses
from sgdscope.measure.points import moved
from sgdscope.vectors import Vector, plus

_GOLDEN = (3 - math.sqrt(5)) / 2


@dataclass(frozen=True)
class Highest:
    """Losses along a path.

    Attributes:
        coordinates: where the loss was looked at, in pieces of the path, ascending.
        losses: there.
        at: coordinate of the highest loss found.
        of_groups: losses of the groups there.
        left: by how much the parabola through the three highest points still rises above it.
    """

    coordinates: tuple[float, ...]
    losses: tuple[float, ...]
    at: float
    of_groups: list[float]
    left: float


def highest_along(
    loss: CommonLosses, pivots: Sequence[Vector], per_piece: int, *, tolerance: float, most: int = 12
) -> Highest:
    """The highest loss on the straight pieces between `pivots`, each looked at in `per_piece` steps.

    Refined by parabolas inside a bracket until one promises less than `tolerance` of the losses' range, or `most`
    times. A peak narrower than a step is not seen.
    """
    seen: dict[float, list[float]] = {}

    def look(t: float) -> float:
        if t not in seen:
            piece = min(int(t), len(pivots) - 2)
            there = moved(pivots[piece], plus(pivots[piece + 1], pivots[piece], -1.0), t - piece)
            seen[t] = loss.losses(there)
        value = loss.mean(seen[t])
        return value if math.isfinite(value) else math.inf

    grid = [i / per_piece for i in range(per_piece * (len(pivots) - 1) + 1)]
    values = [look(t) for t in grid]
    top = max(range(len(grid)), key=values.__getitem__)
    left = 0.0
    if 0 < top < len(grid) - 1 and math.isfinite(values[top]):
        span = values[top] - min(values)
        a, b, c = grid[top - 1 : top + 2]
        for _ in range(most):
            guess, promise = _vertex(a, look(a), b, look(b), c, look(c))
            left = promise
            if promise <= tolerance * span:
                break
            near = guess is None or min(abs(guess - t) for t in (a, b, c)) < 1e-3 * (c - a)
            t = (b + _GOLDEN * (c - b) if c - b > b - a else b - _GOLDEN * (b - a)) if near or guess is None else guess
            higher = look(t) > look(b)
            a, b, c = ((b, t, c) if t > b else (a, t, b)) if higher else ((a, b, t) if t > b else (t, b, c))
    order = sorted(seen)
    at = max(order, key=look)
    return Highest(tuple(order), tuple(look(t) for t in order), at, seen[at], left)


def _vertex(a: float, za: float, b: float, zb: float, c: float, zc: float) -> tuple[float | None, float]:
    """Top of the parabola through three points and how far it lies above the middle one; None if it has no top."""
    left, right = (zb - za) / (b - a), (zc - zb) / (c - b)
    curvature = 2 * (right - left) / (c - a)
    if not curvature < 0:
        return None, 0.0
    slope = left + 0.5 * curvature * (b - a)
    return b - slope / curvature, -0.5 * slope**2 / curvature
