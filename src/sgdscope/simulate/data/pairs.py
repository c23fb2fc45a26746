"""Pairs: a finite set of inputs and targets to draw from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sgdscope.simulate.data.minibatch import Array, Sampling
from sgdscope.simulate.process import symbols
from sgdscope.theory.stationary import DiagonalNoise


class Pairs:
    """Inputs x and targets y, samples of equal weight. Immutable.

    Attributes:
        x: inputs, shape (samples,).
        y: targets, same shape.
    """

    def __init__(self, x: ArrayLike, y: ArrayLike) -> None:
        """Takes copies. Raises ValueError unless both are of one shape (samples,), with samples ≥ 1, and finite."""
        self.noise: DiagonalNoise = DiagonalNoise.of_data(x, y)
        """The five numbers that stationary laws need."""
        self.x, self.y = (np.array(array, dtype=np.float64) for array in (x, y))
        for array in (self.x, self.y):
            array.setflags(write=False)

    def sampling(self) -> tuple[Sampling, Any, Any]:
        """What is drawn for a sample, and x and y in terms of it."""
        columns = symbols("_column", 2)
        return Sampling(tuple(columns), "sample", np.stack([self.x, self.y], axis=1)), columns[0], columns[1]

    @property
    def moments(self) -> dict[str, float]:
        """Means of x2, xy and y2."""
        return {"x2": self.noise.square_mean, "xy": self.noise.product_mean, "y2": float(np.mean(self.y**2))}

    def pairs(self, count: int | None = None, seed: int = 0) -> tuple[Array, Array]:
        """All of them, or `count` drawn with replacement."""
        if count is None:
            return self.x, self.y
        chosen = np.random.default_rng(seed).integers(len(self.x), size=count)
        return self.x[chosen], self.y[chosen]

    def __repr__(self) -> str:
        return f"Pairs({len(self.x)} samples)"
