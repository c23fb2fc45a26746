"""Panels: a positive function of one variable held as polynomials piece by piece, with its integral and the inverse.

The pieces are halved until the last Legendre coefficients are lost in rounding, so sharp peaks, poles close to the line
and long tails cost panels, not digits. Beyond its ends the function is exponential with the slope it has there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import numpy.typing as npt
from numpy.polynomial import legendre

Array = npt.NDArray[np.float64]

ORDER = 16
"""Nodes, and Legendre coefficients, per panel."""
TOLERANCE = 1e-14
"""Of the total integral: what the last coefficients of a panel may hold."""
ROUNDS = 60

NODES, WEIGHTS = legendre.leggauss(ORDER)
TRANSFORM = (legendre.legvander(NODES, ORDER - 1) * WEIGHTS[:, None] * (np.arange(ORDER) + 0.5)).T
"""Values at the nodes → Legendre coefficients."""


class Panels:
    """A positive function f on the line, its integral from the left, and the inverse of that.

    Args:
        function: f, vectorised, of order 1 at its highest.
        breaks: increasing places that start the panels; features of f are found between them if they are not much
            narrower than their panel.
        slopes: d log f / dx at the first break (> 0) and at the last one (< 0); None where f ends at the break.
        rounding: relative error of f from point to point; panels do not resolve it.

    Attributes:
        total: integral of f over the line.
    """

    def __init__(
        self,
        function: Callable[[Array], Array],
        breaks: Array,
        slopes: tuple[float | None, float | None],
        rounding: float = 0.0,
    ) -> None:
        tolerance = max(TOLERANCE, 2 * rounding)
        left, right = np.asarray(breaks[:-1], dtype=float), np.asarray(breaks[1:], dtype=float)
        done: list[tuple[Array, Array, Array]] = []
        settled = 0.0
        for _ in range(ROUNDS):
            half = (right - left) / 2
            middle = (right + left) / 2
            values = function(middle[:, None] + half[:, None] * NODES)
            coefficients = values @ TRANSFORM.T * half[:, None]
            total = settled + 2 * coefficients[:, 0].sum()
            rest = np.abs(coefficients[:, -3:]).max(axis=1)
            fine = (rest <= tolerance * total) | (half <= 1e-15 * np.abs(middle))
            done.append((middle[fine], half[fine], coefficients[fine]))
            settled += 2 * coefficients[fine, 0].sum()
            left, right, middle = left[~fine], right[~fine], middle[~fine]
            if not left.size:
                break
            left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
        else:
            raise ValueError("the integrand could not be resolved: is it smooth between the breaks?")
        self._middle, self._half, self._coefficients = (np.concatenate(parts) for parts in zip(*done, strict=True))
        order = np.argsort(self._middle)
        self._middle, self._half = self._middle[order], self._half[order]
        self._coefficients = self._coefficients[order]
        self._starts = self._middle - self._half
        self._ends = float(breaks[0]), float(breaks[-1])
        heights = [float(height) for height in function(np.array(self._ends))]
        self._slopes = tuple(slope if height > 0 else None for slope, height in zip(slopes, heights, strict=True))
        self._below = heights[0] / self._slopes[0] if self._slopes[0] else 0.0
        self._above = -heights[1] / self._slopes[1] if self._slopes[1] else 0.0
        self._before = self._below + np.concatenate([[0.0], np.cumsum(2 * self._coefficients[:, 0])])
        self.total = float(self._before[-1] + self._above)

    @cached_property
    def _antiderivative(self) -> Array:
        """Legendre coefficients of ∫ f from the start of each panel."""
        return legendre.legint(self._coefficients, lbnd=-1, axis=1)

    def expectation(self, ratio: Callable[[Array], Array]) -> float:
        """∫ f · ratio, for a smooth ratio that is constant beyond the ends."""
        x = self._middle[:, None] + self._half[:, None] * NODES
        values = legendre.legval(NODES, self._coefficients.T) * ratio(x)
        at_ends = ratio(np.array(self._ends))
        return float((values @ WEIGHTS).sum() + self._below * at_ends[0] + self._above * at_ends[1])

    def share_below(self, x: Array) -> Array:
        """∫_{−∞}^x f / total."""
        low, high = self._ends
        panel, t = self._locate(np.clip(x, low, high))
        inside = self._before[panel] + _series(self._antiderivative[panel], t)
        if self._slopes[0]:
            inside = np.where(x < low, self._below * np.exp(self._slopes[0] * np.minimum(x - low, 0)), inside)
        if self._slopes[1]:
            tail = self._above * np.exp(self._slopes[1] * np.maximum(x - high, 0))
            inside = np.where(x > high, self.total - tail, inside)
        return np.clip(inside / self.total, 0.0, 1.0)

    def place(self, share: Array) -> Array:
        """X with a share of the integral below it, for shares in (0, 1)."""
        target = np.asarray(share) * self.total
        panel = np.clip(np.searchsorted(self._before, target, side="right") - 1, 0, self._middle.size - 1)
        antiderivative, density = self._antiderivative[panel], self._coefficients[panel]
        goal = target - self._before[panel]
        low, high = -np.ones_like(goal), np.ones_like(goal)
        t = np.clip(goal / np.maximum(density[..., 0], 1e-300) - 1, -1, 1)
        for _ in range(ROUNDS):
            error = _series(antiderivative, t) - goal
            low, high = np.where(error < 0, t, low), np.where(error > 0, t, high)
            step = t - error / np.maximum(_series(density, t), 1e-300)
            following = np.where((step > low) & (step < high), step, (low + high) / 2)
            moved = np.abs(following - t)
            t = following
            if not (moved > 1e-15).any():
                break
        return self._with_tails(target, self._middle[panel] + self._half[panel] * t)

    def table(self, parts: int) -> tuple[Array, Array]:
        """Shares and places on `parts` pieces of every panel, for interpolation of the inverse."""
        t = np.linspace(-1, 1, parts, endpoint=False)
        x = (self._middle[:, None] + self._half[:, None] * t).ravel()
        below = self._before[:-1, None] + legendre.legval(t, self._antiderivative.T)
        x, below = np.append(x, self._ends[1]), np.append(below.ravel(), self._before[-1])
        return np.maximum.accumulate(below) / self.total, x

    def quick_place(self, share: Array, table: tuple[Array, Array]) -> Array:
        """`place` by straight interpolation in a `table`: fast, and off by the square of the table's step."""
        return self._with_tails(share * self.total, np.interp(share, *table))

    def _with_tails(self, target: Array, x: Array) -> Array:
        low, high = self._ends
        if self._slopes[0] and (beneath := target < self._below).any():
            x = np.where(beneath, low + np.log(np.maximum(target, 1e-300) / self._below) / self._slopes[0], x)
        if self._slopes[1] and (beyond := target > self._before[-1]).any():
            left = np.maximum(self.total - target, 1e-17 * self.total)
            x = np.where(beyond, high + np.log(left / self._above) / self._slopes[1], x)
        return x

    def _locate(self, x: Array) -> tuple[npt.NDArray[np.intp], Array]:
        panel = np.clip(np.searchsorted(self._starts, x, side="right") - 1, 0, self._middle.size - 1)
        return panel, np.clip((x - self._middle[panel]) / self._half[panel], -1, 1)


def _series(coefficients: Array, t: Array) -> Array:
    """Σ_k coefficients[..., k] P_k(t)."""
    before, here = np.ones_like(t), t
    value = coefficients[..., 0] + coefficients[..., 1] * t
    for k in range(1, coefficients.shape[-1] - 1):
        before, here = here, ((2 * k + 1) * t * here - k * before) / (k + 1)
        value += coefficients[..., k + 1] * here
    return value
