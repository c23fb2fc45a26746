"""Passages: the passes of a landscape, the minima on both sides, and what escape formulas ask of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.integrate import solve_ivp

from sgdscope.theory.potential.box import Box
from sgdscope.theory.potential.compiled import Array, Compiled
from sgdscope.theory.potential.critical_point import CriticalPoint

LONGEST = 5000
"""Longest descent followed, in evaluations of the gradient."""


@dataclass(frozen=True)
class Passage:
    """A pass (critical point of index 1) and where it leads on each side.

    Attributes:
        saddle: the pass itself; in one dimension a maximum.
        minima: where steepest descent ends on each side, None where it leaves the box. In one dimension left, right.
        escape_direction: unit eigenvector of the one negative curvature, pointing to the second of `minima`.
    """

    saddle: CriticalPoint
    minima: tuple[CriticalPoint | None, CriticalPoint | None]
    escape_direction: tuple[float, ...]

    @property
    def barriers(self) -> tuple[float | None, float | None]:
        """Height of the pass above the minimum on each side."""
        first, second = (None if end is None else self.saddle.value - end.value for end in self.minima)
        return first, second

    @property
    def curvature_saddle(self) -> float:
        """Curvature along the escape direction at the pass, negative."""
        return self.saddle.eigenvalues[0]

    @property
    def curvatures_minima(self) -> tuple[float | None, float | None]:
        """Curvature of each minimum along the escape direction of the pass."""
        first, second = (None if end is None else end.curvature(self.escape_direction) for end in self.minima)
        return first, second

    @property
    def determinant_saddle(self) -> float:
        """Determinant of the Hessian at the pass, negative."""
        return self.saddle.determinant

    @property
    def determinants_minima(self) -> tuple[float | None, float | None]:
        """Determinant of the Hessian at each minimum."""
        first, second = (None if end is None else end.determinant for end in self.minima)
        return first, second


def passages(compiled: Compiled, points: Sequence[CriticalPoint], box: Box) -> tuple[Passage, ...]:
    """All passes among critical points, lowest first, with steepest descent from each to both sides within a box.

    Raises ValueError if a descent ends at a degenerate point: escape needs positive curvature at the minimum.
    """
    found = []
    for saddle in points:
        if saddle.index != 1 or saddle.kind == "degenerate":
            continue
        direction = np.array(saddle.eigenvectors[0])
        direction *= 1 if direction[np.argmax(np.abs(direction))] > 0 else -1
        end = _along_a_line if compiled.dimension == 1 else _descent
        ends = end(compiled, saddle, -direction, points, box), end(compiled, saddle, direction, points, box)
        for minimum in ends:
            if minimum is not None and minimum.kind == "degenerate":
                raise ValueError(f"expected minima with positive curvature on both sides of a pass, found a {minimum}")
        found.append(Passage(saddle, ends, tuple(float(c) for c in direction)))
    return tuple(sorted(found, key=lambda passage: passage.saddle.value))


def _along_a_line(
    compiled: Compiled, saddle: CriticalPoint, direction: Array, points: Sequence[CriticalPoint], box: Box
) -> CriticalPoint | None:
    """The next minimum to one side in one dimension; points where the slope only touches zero are walked over."""
    beyond = [point for point in points if (point.x - saddle.x) * direction[0] > 0]
    for point in sorted(beyond, key=lambda point: abs(point.x - saddle.x)):
        further = [other.x for other in beyond if abs(other.x - saddle.x) > abs(point.x - saddle.x)]
        next_x = min(further, key=lambda x: abs(x - point.x)) if further else box[0][int(direction[0] > 0)]
        after = point.x + 0.5 * (next_x - point.x)
        falls_on = float(compiled.gradient(np.array([after]))[0]) * direction[0] < 0
        if not falls_on:
            return point
    return None


def _descent(
    compiled: Compiled, saddle: CriticalPoint, direction: Array, points: Sequence[CriticalPoint], box: Box
) -> CriticalPoint | None:
    """The critical point in which steepest descent from beside a pass ends."""
    low, high = np.array(box).T
    others = np.array([point.position for point in points if point is not saddle]).reshape(-1, len(low))
    here = np.array(saddle.position)
    nearest = float(np.linalg.norm(others - here, axis=1).min()) if len(others) else float((high - low).max())
    position = here + 1e-3 * nearest * direction
    sinks = [point for point in points if point.index == 0 or point.kind == "degenerate"]
    evaluations = 0

    def downhill(_: float, x: Array) -> Array:
        nonlocal evaluations
        evaluations += 1
        if evaluations > LONGEST:
            raise ValueError(
                f"expected steepest descent from the {saddle} to end in a minimum or outside of the box, it was still "
                f"under way after {LONGEST} steps: is there a pole or a flat valley?"
            )
        return np.nan_to_num(-compiled.gradient(x))

    def inside(_: float, x: Array) -> float:
        return float(min((x - low).min(), (high - x).min()))

    inside.terminal = True  # type: ignore[attr-defined]
    duration = 10 / abs(saddle.eigenvalues[0])
    while True:
        path = solve_ivp(
            downhill,
            (0, duration),
            position,
            method="LSODA",
            jac=lambda _, x: np.nan_to_num(-compiled.hessian(x)),
            events=inside,
            rtol=1e-7,
            atol=1e-9 * nearest,
        )
        position = path.y[:, -1]
        if path.status == 1 or np.any(position < low) or np.any(position > high):
            return None
        distances = [float(np.linalg.norm(position - np.array(sink.position))) for sink in sinks]
        if distances and min(distances) < 0.02 * nearest:
            return sinks[int(np.argmin(distances))]
        duration *= 1.5


def lowest_pass(found: Sequence[Passage], start: CriticalPoint, target: CriticalPoint) -> Passage | None:
    """The highest passage on the chain from start to target whose highest passage is lowest; None without a chain.

    Passages, given from the lowest up, are opened one by one; the one that first connects the two is the answer.
    """
    group: dict[CriticalPoint, CriticalPoint] = {}

    def root(point: CriticalPoint) -> CriticalPoint:
        while point in group:
            point = group[point]
        return point

    for passage in found:
        first, second = passage.minima
        if first is None or second is None:
            continue
        if root(first) != root(second):
            group[root(first)] = root(second)
        if root(start) == root(target):
            return passage
    return None
