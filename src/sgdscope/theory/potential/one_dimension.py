"""Critical points in one dimension: exact for polynomials, by changes of sign for the rest."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from scipy.optimize import brentq

from sgdscope.theory.potential.box import Box
from sgdscope.theory.potential.compiled import Array, Compiled
from sgdscope.theory.potential.critical_point import CriticalPoint, critical_point
from sgdscope.theory.potential.domain import check_domain
from sgdscope.theory.potential.polynomial import real_roots

GRID = 4001


def of_polynomial(compiled: Compiled, polynomial: Any, box: Box | None) -> list[CriticalPoint]:
    """All critical points of a polynomial, or those in the box."""
    low, high = box[0] if box else (-np.inf, np.inf)
    roots = [root for root in real_roots(polynomial.diff()) if low <= root[0] <= high]
    extent = max((abs(root) for root, _ in roots), default=1.0)
    return [critical_point(compiled, np.array([root]), extent, multiplicity > 1) for root, multiplicity in roots]


def of_function(compiled: Compiled, box: Box) -> list[CriticalPoint]:
    """Critical points in a box. The slope is followed over a fine grid, split further where the curvature is zero.

    Raises ValueError where the formula is not real, its slope jumps, or it is flat over a stretch.
    """
    (low, high) = box[0]
    grid = np.linspace(low, high, GRID)
    check_domain(compiled, grid[:, None])
    grid = np.sort(np.concatenate([grid, _zeros(compiled, grid, order=2)]))
    roots = _zeros(compiled, grid, order=1)
    slopes = _at(compiled, grid, 1)
    flat = (slopes[1:] == 0) & (slopes[:-1] == 0) & (np.diff(grid) > 1e-9 * (high - low))
    if np.any(flat):
        start = grid[np.argmax(flat)]
        raise ValueError(f"expected isolated critical points, found a flat stretch from x = {start:.6g} on")
    # a slope that touches zero without a change of sign does so where the curvature is zero
    size = np.abs(slopes)
    touching = [
        float(grid[i])
        for i in range(1, len(grid) - 1)
        if size[i] <= min(size[i - 1], size[i + 1]) and size[i] <= 1e-9 * max(size[max(i - 2, 0) : i + 3])
    ]
    positions: list[float] = []
    for root in sorted([*roots, *touching]):
        if not positions or root - positions[-1] > 1e-7 * (high - low):
            positions.append(root)
    extent = positions[-1] - positions[0] if len(positions) > 1 else high - low
    return [critical_point(compiled, np.array([position]), extent) for position in positions]


def _at(compiled: Compiled, grid: Array, order: int) -> Array:
    return compiled.partials(grid[:, None], order)[0]


def _zeros(compiled: Compiled, grid: Array, order: int) -> Array:
    """Zeros of a derivative between changes of its sign on a grid. Raises ValueError if the slope jumps over zero."""
    values = _at(compiled, grid, order)
    zeros = grid[values == 0]
    keep = np.isfinite(values) & (values != 0)
    found = []
    for (a, f_a), (b, f_b) in pairwise(zip(grid[keep], values[keep], strict=True)):
        between = zeros[(zeros > a) & (zeros < b)]
        found += list(between)
        if (f_a > 0) == (f_b > 0):
            continue
        if not len(between):
            found.append(brentq(lambda x: float(_at(compiled, np.array([x]), order)[0]), a, b, xtol=1e-14 * (b - a)))
        beside = np.abs(_at(compiled, found[-1] + 1e-6 * (b - a) * np.array([-1.0, 1.0]), order)).min()
        if order == 1 and beside > 0.1 * min(abs(f_a), abs(f_b)):
            raise ValueError(f"expected a smooth potential, found its slope jumping over zero near x = {found[-1]:.6g}")
    return np.array(found)
