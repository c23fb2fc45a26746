"""Pieces: what a region to be met leaves of a line, and how each piece is cut into cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgdscope.theory.fokker_planck.stretches import Array

Region = float | tuple[float, float] | Callable[[Array], Any] | NDArray[np.bool_]
"""A point, an interval (its ends may be infinite), a condition on positions, or a mask of the cells."""

Span = tuple[float, float]
_ON_FACE = 1e-9
"""Distance, in cells, below which a position counts as that of a face."""


@dataclass(frozen=True)
class Piece:
    """A stretch of the line between two walls, each of which absorbs if it is open."""

    left: float
    right: float
    open_left: bool
    open_right: bool

    def walls(self) -> Array:
        """Positions of the walls that absorb."""
        return np.array([self.left] * self.open_left + [self.right] * self.open_right)

    def cells(self, faces: Array) -> slice | None:
        """The cells it consists of, or None if it ends within a cell."""
        nearest = [int(np.abs(faces - wall).argmin()) for wall in (self.left, self.right)]
        tolerance = _ON_FACE * np.diff(faces).min()
        if abs(faces[nearest[0]] - self.left) > tolerance or abs(faces[nearest[1]] - self.right) > tolerance:
            return None
        return slice(nearest[0], nearest[1])

    def recut(self, faces: Array) -> Array:
        """Its own ends and those faces within that leave no cell narrower than half a cell of the line."""
        width = np.diff(faces)
        half = np.minimum(np.append(width, width[-1]), np.append(width[0], width)) / 2
        inner = faces[(faces > self.left + half) & (faces < self.right - half)]
        return np.concatenate([[self.left], inner, [self.right]])


def spans(region: Region | None, faces: Array, open_ends: tuple[bool, bool], what: str) -> list[Span]:
    """The region as disjoint intervals within the line, from left to right; none for None.

    Raises ValueError for a region outside the line, all of it, or None where no end absorbs.
    """
    if region is None:
        if not any(open_ends):
            raise ValueError(f"expected a {what}, got None on a line whose boundaries reflect")
        return []
    if not callable(region) and not isinstance(region, np.ndarray):
        return [_interval(region, faces, what)]
    centres = (faces[1:] + faces[:-1]) / 2
    mask = np.asarray(region(centres) if callable(region) else region)
    if mask.shape != centres.shape or mask.dtype != np.bool_:
        raise ValueError(
            f"expected as {what} an interval, a point, a condition or a mask of {len(centres)} booleans, got "
            f"{mask.dtype} of shape {mask.shape}"
        )
    if mask.all() or not mask.any():
        raise ValueError(f"the {what} holds {'every' if mask.all() else 'no'} cell of the line")
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
    return [(float(faces[a]), float(faces[b])) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _interval(region: Any, faces: Array, what: str) -> Span:
    ends = (region, region) if np.ndim(region) == 0 else tuple(region)
    if len(ends) != 2 or not ends[0] <= ends[1]:
        raise ValueError(f"expected as {what} a point, or an interval (left, right), got {region!r}")
    left, right = max(float(ends[0]), float(faces[0])), min(float(ends[1]), float(faces[-1]))
    if left > right:
        raise ValueError(
            f"the {what} {region!r} lies outside the line from {faces[0]:.6g} to {faces[-1]:.6g}; widen the interval"
        )
    if (left, right) == (faces[0], faces[-1]):
        raise ValueError(f"the {what} holds every cell of the line")
    return left, right


def pieces(taken: Sequence[Span], faces: Array, open_ends: tuple[bool, bool]) -> list[Piece]:
    """What lies between the spans, which absorb, and the ends of the line, which do as they do."""
    walls = [(float(faces[0]), open_ends[0])]
    for left, right in taken:
        walls += [(left, True), (right, True)]
    walls.append((float(faces[-1]), open_ends[1]))
    between = zip(walls[::2], walls[1::2], strict=True)
    return [Piece(left, right, *absorbs) for (left, a), (right, b) in between if left < right for absorbs in [(a, b)]]
