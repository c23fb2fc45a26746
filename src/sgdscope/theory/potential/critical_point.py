"""Critical points: where the gradient vanishes, and what the landscape does there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sgdscope.theory.potential.compiled import Array, Compiled

Kind = Literal["minimum", "saddle", "maximum", "degenerate"]


@dataclass(frozen=True)
class CriticalPoint:
    """A point of zero gradient. Immutable and hashable.

    Attributes:
        position: its coordinates.
        value: of the potential there.
        eigenvalues: of the Hessian, ascending: the curvatures.
        eigenvectors: one unit vector for each eigenvalue.
        kind: degenerate if a curvature is zero to the accuracy of the position; then none of the other words is used.
    """

    position: tuple[float, ...]
    value: float
    eigenvalues: tuple[float, ...]
    eigenvectors: tuple[tuple[float, ...], ...]
    kind: Kind

    @property
    def x(self) -> float:
        """The coordinate in one dimension. Raises ValueError in more."""
        if len(self.position) > 1:
            raise ValueError(f"expected a point in one dimension, this one has {len(self.position)}: use position")
        return self.position[0]

    @property
    def index(self) -> int:
        """Number of directions in which the point is a maximum."""
        return sum(eigenvalue < 0 for eigenvalue in self.eigenvalues)

    @property
    def determinant(self) -> float:
        """Of the Hessian."""
        return math.prod(self.eigenvalues)

    def curvature(self, direction: tuple[float, ...]) -> float:
        """Second derivative along a unit vector."""
        return float(np.square(np.array(self.eigenvectors) @ np.array(direction)) @ np.array(self.eigenvalues))

    def __str__(self) -> str:
        curvatures = ", ".join(f"{eigenvalue:.6g}" for eigenvalue in self.eigenvalues)
        return f"{self.kind} at {written(self.position)}: value {self.value:.6g}, curvature {curvatures}"


def written(position: tuple[float, ...]) -> str:
    """A position as text: a number in one dimension, coordinates in brackets in more."""
    numbers = ", ".join(f"{coordinate:.6g}" for coordinate in position)
    return numbers if len(position) == 1 else f"({numbers})"


def critical_point(compiled: Compiled, position: Array, extent: float, flat: bool | None = None) -> CriticalPoint:
    """The critical point at a position.

    Args:
        compiled: the potential.
        position: of shape (n,).
        extent: length over which the landscape varies. A curvature counts as zero if moving by 1e-5 of it in its own
            direction, the accuracy to which a degenerate point can be located, changes it by as much.
        flat: whether it is degenerate, where that is known exactly.
    """
    position = np.where(np.abs(position) < 1e-13 * extent, 0.0, position)
    hessian = compiled.hessian(position)
    eigenvalues, eigenvectors = np.linalg.eigh(hessian)
    if flat is None:
        steps = 1e-5 * extent * np.stack([eigenvectors.T, -eigenvectors.T])
        beside = np.einsum("sin,sinm,sim->si", steps, compiled.hessian(position + steps), steps)
        change = np.abs(beside / (1e-5 * extent) ** 2 - eigenvalues).max(axis=0)
        flat = bool(np.any(np.abs(eigenvalues) <= np.maximum(change, 1e-12 * np.abs(eigenvalues).max())))
    negative = int(np.sum(eigenvalues < 0))
    kind: Kind = "minimum" if negative == 0 else "maximum" if negative == len(eigenvalues) else "saddle"
    return CriticalPoint(
        tuple(float(c) for c in position),
        float(compiled.value(position)),
        tuple(float(e) for e in eigenvalues),
        tuple(tuple(float(c) for c in vector) for vector in eigenvectors.T),
        "degenerate" if flat else kind,
    )
