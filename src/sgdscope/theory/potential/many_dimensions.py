"""Critical points in more than one dimension: Newton's method from many starts, the same ones at every call."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import sympy

from sgdscope.theory.potential import one_dimension
from sgdscope.theory.potential.box import Box
from sgdscope.theory.potential.compiled import Array, Compiled
from sgdscope.theory.potential.critical_point import CriticalPoint, critical_point
from sgdscope.theory.potential.domain import check_domain, sample
from sgdscope.theory.potential.polynomial import as_polynomial

STARTS = 600
"""Starts of a first search, for each dimension."""
STEPS = 80
MOST_POINTS = 20_000
MOST_DEGENERATE = 20


def separated(polynomial: Any) -> list[Any] | None:
    """The polynomials in one variable each whose sum a polynomial is, None if variables mix."""
    parts: list[Any] = [sympy.S.Zero] * len(polynomial.gens)
    for powers, coefficient in polynomial.terms():
        used = [i for i, power in enumerate(powers) if power]
        if len(used) > 1:
            return None
        if used:
            parts[used[0]] += coefficient * polynomial.gens[used[0]] ** powers[used[0]]
    return [as_polynomial(part, [symbol]) for part, symbol in zip(parts, polynomial.gens, strict=True)]


def of_separable(compiled: Compiled, parts: list[Any], box: Box | None) -> list[CriticalPoint]:
    """All critical points of a sum of polynomials in one variable each: every combination of theirs."""
    alone = []
    for i, part in enumerate(parts):
        interval = (box[i],) if box else None
        alone.append(one_dimension.of_polynomial(Compiled(part.as_expr(), part.gens), part, interval))
    if np.prod([float(len(points)) for points in alone]) > MOST_POINTS:
        raise ValueError(f"expected at most {MOST_POINTS} critical points, found more: take fewer dimensions")
    return [
        critical_point(compiled, np.array([p.x for p in points]), 1.0, flat=any(p.kind == "degenerate" for p in points))
        for points in product(*alone)
    ]


def of_function(compiled: Compiled, box: Box, density: int = 1) -> list[CriticalPoint]:
    """Critical points in a box: a search over all of it, then one around what it found.

    Cost: `STARTS` · density Newton iterations for each dimension, twice. Raises ValueError where the formula is not
    real, or where critical points form a curve.
    """
    number = STARTS * density * compiled.dimension
    check_domain(compiled, sample(box, number))
    positions = newton(compiled, sample(box, number), box)
    if len(positions):
        centre = (positions.max(axis=0) + positions.min(axis=0)) / 2
        reach = 0.75 * max(float(np.ptp(positions, axis=0).max()), 1e-3 * max(high - low for low, high in box))
        closer = [(float(c) - reach, float(c) + reach) for c in centre]
        positions = distinct(np.concatenate([positions, newton(compiled, sample(closer, number), box)]), box)
    spread = float(np.ptp(positions, axis=0).max()) if len(positions) > 1 else 0.0
    extent = spread or max(high - low for low, high in box)
    points = [critical_point(compiled, position, extent) for position in positions]
    if sum(point.kind == "degenerate" for point in points) > MOST_DEGENERATE:
        at = next(point for point in points if point.kind == "degenerate")
        raise ValueError(f"expected isolated critical points, found a whole curve of them: {at}")
    return points


def newton(compiled: Compiled, starts: Array, box: Box) -> Array:
    """Where Newton's method on the gradient converges to from starts of shape (m, n): distinct points in the box."""
    low, high = np.array(box).T
    span = float((high - low).max())
    points, done = starts.copy(), []
    with np.errstate(all="ignore"):
        for _ in range(STEPS):
            gradient, hessian = compiled.gradient(points), compiled.hessian(points)
            size = np.linalg.norm(hessian, axis=(-1, -2))
            fine = np.isfinite(gradient).all(axis=-1) & np.isfinite(size) & (size > 0)
            fine &= ((points > low - span) & (points < high + span)).all(axis=-1)
            points, gradient, hessian, size = points[fine], gradient[fine], hessian[fine], size[fine]
            if not len(points):
                break
            ridge = 1e-14 * size[:, None, None] * np.eye(compiled.dimension)
            step = -np.linalg.solve(hessian + ridge, gradient[..., None])[..., 0]
            length = np.linalg.norm(step, axis=-1)
            points = points + step * np.minimum(1, 0.1 * span / np.maximum(length, 1e-300))[:, None]
            arrived = length <= 1e-13 * span
            done.append(points[arrived])
            points, length = points[~arrived], length[~arrived]
        else:
            done.append(points[length <= 1e-8 * span])  # degenerate points are approached slowly
    found = np.concatenate(done) if done else np.empty((0, compiled.dimension))
    return distinct(found, box)


def distinct(points: Array, box: Box) -> Array:
    """One of each group of points closer than 1e-7 of the box, and only those in it; in order of coordinates."""
    low, high = np.array(box).T
    margin = 1e-9 * (high - low)
    points = points[((points >= low - margin) & (points <= high + margin)).all(axis=-1)]
    kept: list[Array] = []
    close = 1e-7 * float((high - low).max())
    while len(points):
        kept.append(points[0])
        points = points[np.linalg.norm(points - points[0], axis=-1) > close]
    kept.sort(key=lambda point: tuple(np.round(point / close)))
    return np.array(kept).reshape(-1, len(low))
