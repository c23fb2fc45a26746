"""Rectangle: a grid of equal cells on a box of two coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from sgdscope.theory.fokker_planck.markov import Floats

FEWEST = 8
"""Cells along each axis at least."""


@dataclass(frozen=True)
class Rectangle:
    """A box ``((x0, x1), (y0, y1))`` cut into ``(n, m)`` equal cells; cell (i, j) has the index i · m + j.

    Raises ValueError for a box that is empty or not finite, or fewer than `FEWEST` cells along an axis.
    """

    box: tuple[tuple[float, float], tuple[float, float]]
    cells: tuple[int, int]

    def __post_init__(self) -> None:
        sides = np.asarray(self.box, dtype=np.float64)
        if sides.shape != (2, 2) or not np.isfinite(sides).all() or not (sides[:, 1] > sides[:, 0]).all():
            raise ValueError(f"expected a box ((x0, x1), (y0, y1)) with x0 < x1 and y0 < y1, got {self.box}")
        if len(self.cells) != 2 or any(int(count) != count or count < FEWEST for count in self.cells):
            raise ValueError(f"expected at least {FEWEST} cells along each of two axes, got {self.cells}")
        (x0, x1), (y0, y1) = sides.tolist()
        object.__setattr__(self, "box", ((x0, x1), (y0, y1)))
        object.__setattr__(self, "cells", (int(self.cells[0]), int(self.cells[1])))

    @property
    def widths(self) -> tuple[float, float]:
        """Sides of a cell."""
        (x0, x1), (y0, y1) = self.box
        return (x1 - x0) / self.cells[0], (y1 - y0) / self.cells[1]

    def edges(self, axis: int) -> Floats:
        """Positions of the faces along an axis, walls included."""
        return np.linspace(*self.box[axis], self.cells[axis] + 1)

    def along(self, axis: int) -> Floats:
        """Positions of the centres along an axis."""
        edges = self.edges(axis)
        return np.asarray((edges[1:] + edges[:-1]) / 2)

    @cached_property
    def centres(self) -> Floats:
        """Positions of the cells, shape ``(n · m, 2)``."""
        x, y = np.meshgrid(self.along(0), self.along(1), indexing="ij")
        return np.stack([x.ravel(), y.ravel()], axis=1)

    @cached_property
    def volumes(self) -> Floats:
        """Areas of the cells."""
        return np.full(self.cells[0] * self.cells[1], math.prod(self.widths))

    def point(self, position: ArrayLike | Sequence[float]) -> Floats:
        """Unit mass at a position: shared by the nearest centres so that its mean is there.

        Within half a cell of a wall it is in the outermost cells. Raises ValueError outside the box.
        """
        given = np.asarray(position, dtype=np.float64)
        if given.shape != (2,) or not all(low <= x <= high for x, (low, high) in zip(given, self.box, strict=True)):
            raise ValueError(f"expected a position of two coordinates in the box {self.box}, got {position!r}")
        shares = []
        for axis in (0, 1):
            place = (given[axis] - self.box[axis][0]) / self.widths[axis] - 0.5
            place = min(max(place, 0.0), self.cells[axis] - 1.0)
            low = min(int(place), self.cells[axis] - 2)
            share = np.zeros(self.cells[axis])
            share[low : low + 2] = low + 1 - place, place - low
            shares.append(share)
        return np.outer(*shares).ravel()
