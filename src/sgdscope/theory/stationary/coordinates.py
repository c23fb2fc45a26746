"""Coordinates: the real line mapped onto where a law lives, so that its tails are exponential and its bulk smooth."""

# ruff: noqa: D102  (what the methods mean is said once, in Coordinate)

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

LARGEST = 340.0
"""The square of its exponential is still a float."""


class Coordinate(Protocol):
    """v as an increasing function of x in the interval `reach`."""

    @property
    def support(self) -> tuple[float, float]:
        """Ends of the values of v."""

    @property
    def reach(self) -> tuple[float, float]:
        """Smallest and largest x at which v can be told from the ends of its support."""

    def value(self, x: Array) -> Array:
        """V at x."""

    def place(self, v: Array) -> Array:
        """X at v, v inside of the support."""

    def log_stretch(self, x: Array) -> Array:
        """Logarithm of dv/dx."""

    def stretch_slope(self, x: Array) -> Array:
        """Derivative by x of log dv/dx."""

    def log_envelope(self, x: Array, typical: float) -> Array:
        """Logarithm of a smooth bound of |v|, up to a factor, that is nowhere small beside |v| at x = typical."""

    def envelope_slope(self, x: Array, typical: float) -> Array:
        """Derivative by x of log_envelope."""


@dataclass(frozen=True)
class HalfLine:
    """v = end + eˣ."""

    end: float = 0.0

    @property
    def support(self) -> tuple[float, float]:
        return self.end, math.inf

    @property
    def reach(self) -> tuple[float, float]:
        return (math.log(abs(self.end)) - 30 if self.end else -LARGEST), LARGEST

    def value(self, x: Array) -> Array:
        return self.end + np.exp(x)

    def place(self, v: Array) -> Array:
        return np.log(v - self.end)

    def log_stretch(self, x: Array) -> Array:
        return x

    def stretch_slope(self, x: Array) -> Array:
        return np.ones_like(x)

    def log_envelope(self, x: Array, typical: float) -> Array:
        return np.logaddexp(x, self._floor(typical))

    def envelope_slope(self, x: Array, typical: float) -> Array:
        return np.exp(x - np.logaddexp(x, self._floor(typical)))

    def _floor(self, typical: float) -> float:
        return max(typical, math.log(abs(self.end))) if self.end else typical


@dataclass(frozen=True)
class Interval:
    """v = end / (1 + e⁻ˣ), between 0 and end."""

    end: float

    @property
    def support(self) -> tuple[float, float]:
        return 0.0, self.end

    @property
    def reach(self) -> tuple[float, float]:
        return -LARGEST, 30.0

    def value(self, x: Array) -> Array:
        return self.end / (1 + np.exp(-x))

    def place(self, v: Array) -> Array:
        return np.log(v / (self.end - v))

    def log_stretch(self, x: Array) -> Array:
        return math.log(self.end) - np.logaddexp(0, x) - np.logaddexp(0, -x)

    def stretch_slope(self, x: Array) -> Array:
        return -np.tanh(x / 2)

    def log_envelope(self, x: Array, typical: float) -> Array:
        return np.zeros_like(x)

    def envelope_slope(self, x: Array, typical: float) -> Array:
        return np.zeros_like(x)


@dataclass(frozen=True)
class Line:
    """v = centre + scale sinh x."""

    centre: float
    scale: float

    @property
    def support(self) -> tuple[float, float]:
        return -math.inf, math.inf

    @property
    def reach(self) -> tuple[float, float]:
        return -LARGEST, LARGEST

    def value(self, x: Array) -> Array:
        return self.centre + self.scale * np.sinh(x)

    def place(self, v: Array) -> Array:
        return np.arcsinh((v - self.centre) / self.scale)

    def log_stretch(self, x: Array) -> Array:
        return math.log(self.scale / 2) + np.logaddexp(x, -x)

    def stretch_slope(self, x: Array) -> Array:
        return np.tanh(x)

    def log_envelope(self, x: Array, typical: float) -> Array:
        return self.log_stretch(x)

    def envelope_slope(self, x: Array, typical: float) -> Array:
        return self.stretch_slope(x)
