"""Chain: a walk between neighbouring cells as masses and resistances, solved without a subtraction.

Cell i holds the equilibrium mass m_i; resistance R_f lies between cells f−1 and f, so that the walk jumps at the rates
``1 / (m_i R_f)`` and is in detailed balance. R_0 and R_n lead to walls: infinite where the wall reflects, finite where
it absorbs. All is kept as logarithms: a barrier of hundreds of noise units, or a wall thousands above the wells, is an
ordinary number here. Answers are sums of positive terms, accurate to rounding however slow the walk is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sgdscope.theory.fokker_planck.stretches import Array


@dataclass(frozen=True)
class Chain:
    """Logarithms of masses, shape (n,), and of resistances, shape (n + 1,), the walls' first and last."""

    log_mass: Array
    log_resistance: Array

    @property
    def open_left(self) -> bool:
        """Whether the left wall absorbs."""
        return bool(np.isfinite(self.log_resistance[0]))

    @property
    def open_right(self) -> bool:
        """Whether the right wall absorbs."""
        return bool(np.isfinite(self.log_resistance[-1]))

    @property
    def closed(self) -> bool:
        """Whether both walls reflect."""
        return not (self.open_left or self.open_right)

    def rates(self) -> tuple[Array, Array]:
        """Rates of the jump to the left and to the right, each of shape (n,); 0 into a wall that reflects."""
        return np.exp(-self.log_mass - self.log_resistance[:-1]), np.exp(-self.log_mass - self.log_resistance[1:])

    def stationary(self) -> Array:
        """The masses, normalised to 1. Of a chain with walls that absorb it is the law with these walls closed."""
        masses = np.exp(self.log_mass - self.log_mass.max())
        return np.asarray(masses / masses.sum())

    def log_total(self) -> float:
        """Logarithm of the sum of the masses."""
        return float(np.logaddexp.reduce(self.log_mass))

    def dual(self) -> Chain:
        """Of a closed chain: the walk of its fluxes. Masses and resistances change roles, both walls absorb.

        It decays at the same rates, without the rate 0: the gap becomes a rate of escape, which needs no subtraction.
        """
        return Chain(self.log_resistance[1:-1], self.log_mass)

    def without_tails(self, depth: float) -> tuple[Chain, slice]:
        """The cells between the outermost ones that hold more than e^−depth of the fullest, and where they are.

        Where tails are left out the new end reflects: what absorbs beyond is not met in any time that is a number.
        """
        held = np.flatnonzero(self.log_mass > self.log_mass.max() - depth)
        start, stop = int(held[0]), int(held[-1]) + 1
        resistance = self.log_resistance[start : stop + 1].copy()
        if start > 0:
            resistance[0] = np.inf
        if stop < len(self.log_mass):
            resistance[-1] = np.inf
        return Chain(self.log_mass[start:stop], resistance), slice(start, stop)

    def towards_walls(self) -> tuple[Array, Array, float]:
        """Logarithms of the resistance from each cell to the left wall, to the right wall, and between the walls."""
        left = np.logaddexp.accumulate(self.log_resistance[:-1])
        right = np.logaddexp.accumulate(self.log_resistance[:0:-1])[::-1]
        return left, right, float(np.logaddexp(left[-1], self.log_resistance[-1]))

    def log_arrival(self) -> tuple[Array, Array]:
        """Logarithms of the chance to be absorbed by the left wall and by the right wall, from each cell."""
        if self.open_left and self.open_right:
            left, right, total = self.towards_walls()
            return right - total, left - total
        sure, never = np.zeros_like(self.log_mass), np.full_like(self.log_mass, -np.inf)
        return (sure if self.open_left else never), (sure if self.open_right else never)

    def factors(self) -> tuple[Array, Array]:
        """Logarithms (g, r) of the inverse of the generator: ``(−L)⁻¹_ij = g_min(i,j) · r_max(i,j) · m_j``.

        With a wall on the right r is the resistance to it and g the chance to meet it first; else the other way round.
        """
        self._needs_wall()
        left, right, _ = self.towards_walls()
        arrive_left, arrive_right = self.log_arrival()
        return (arrive_right, right) if self.open_right else (left, arrive_left)

    def solve(self, log_source: Array) -> tuple[Array, Array]:
        """The u ≥ 0 with ``−L u = source``, u = 0 at walls that absorb, and its drops ``u_{f−1} − u_f`` across R_f.

        The mean time to absorption is the answer to source 1. Needs a wall that absorbs; cost O(n). Where the answer
        exceeds the largest floating-point number it is infinite.
        """
        self._needs_wall()
        drops = np.zeros_like(self.log_resistance)
        with np.errstate(over="ignore", invalid="ignore"):
            weight = self.log_mass + log_source
            if not self.open_left:
                drops[1:] = np.exp(self.log_resistance[1:] + np.logaddexp.accumulate(weight))
                return np.cumsum(drops[:0:-1])[::-1], drops
            if not self.open_right:
                rises = np.exp(self.log_resistance[:-1] + np.logaddexp.accumulate(weight[::-1])[::-1])
                drops[:-1] = -rises
                return np.cumsum(rises), drops
            g, r = self.factors()
            leaves_left, leaves_right = self.log_arrival()
            below = np.logaddexp.accumulate(weight + g)
            above = np.append(np.logaddexp.accumulate((weight + r)[:0:-1])[::-1], -np.inf)
            # What crosses a face to the right started left of it and ends at the right wall, and the other way round
            rightwards = np.append(-np.inf, np.logaddexp.accumulate(weight + leaves_right))
            leftwards = np.append(np.logaddexp.accumulate((weight + leaves_left)[::-1])[::-1], -np.inf)
            drops = np.exp(self.log_resistance + rightwards) - np.exp(self.log_resistance + leftwards)
            return np.exp(r + below) + np.exp(g + above), drops

    def passage(self) -> tuple[Array, Array]:
        """Mean time until a wall absorbs, from each cell, infinite where it overflows; and its drops, as of `solve`."""
        return self.solve(np.zeros_like(self.log_mass))

    def passage_variance(self, drops: Array) -> Array:
        """Variance of that time, from the drops of the mean τ: solves ``−L V = Σ_j rate_ij (τ_j − τ_i)²``.

        Sums of squares, no difference of large moments.
        """
        with np.errstate(divide="ignore"):
            spread = 2 * np.log(np.abs(drops)) - self.log_resistance
        return self.solve(np.logaddexp(spread[:-1], spread[1:]) - self.log_mass)[0]

    def _needs_wall(self) -> None:
        if self.closed:
            raise ValueError("expected something that absorbs, got a chain between two reflecting walls")
