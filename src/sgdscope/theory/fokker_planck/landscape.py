"""Landscape: the minima and barriers of a potential on a line, and the walk between wells they make at low noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from sgdscope.theory.fokker_planck.chain import Chain
from sgdscope.theory.fokker_planck.line import Line, Potential
from sgdscope.theory.fokker_planck.modes import decay_rates

_STEP = 1e-4
"""Of the interval's length, for second derivatives from the gradient: error about 1e-8."""


@dataclass(frozen=True)
class Landscape:
    """Minima from left to right and the barrier tops between them: positions, losses, second derivatives."""

    minima: tuple[float, ...]
    losses: tuple[float, ...]
    curvatures: tuple[float, ...]
    saddles: tuple[float, ...]
    saddle_losses: tuple[float, ...]
    saddle_curvatures: tuple[float, ...]

    @classmethod
    def of(cls, potential: Potential, line: Line) -> Landscape:
        """What the gradient's changes of sign on the line's faces show, refined to rounding.

        Raises ValueError for a potential without minimum inside the line.
        """
        x = line.faces

        def slope(at: float) -> float:
            return float(np.asarray(potential.gradient(np.array([at])))[0])

        def loss(at: float) -> float:
            return float(np.asarray(potential.value(np.array([at])))[0])

        slopes = np.asarray(potential.gradient(x), dtype=np.float64)
        falling = slopes < 0  # a zero on a face counts as rising, which finds each turn once
        changes = np.flatnonzero(falling[:-1] != falling[1:])
        turns = [(i, float(brentq(slope, x[i], x[i + 1], xtol=1e-15))) for i in changes]
        minima = [at for i, at in turns if falling[i]]
        if not minima:
            raise ValueError("expected a potential with a minimum inside the line, got a slope of one sign; widen it")
        saddles = [at for i, at in turns if not falling[i] and minima[0] < at < minima[-1]]
        width = _STEP * float(x[-1] - x[0])

        def curvature(at: float) -> float:
            return (slope(at + width) - slope(at - width)) / (2 * width)

        return cls(
            tuple(minima),
            tuple(map(loss, minima)),
            tuple(map(curvature, minima)),
            tuple(saddles),
            tuple(map(loss, saddles)),
            tuple(map(curvature, saddles)),
        )

    @property
    def lowest_barrier(self) -> float:
        """The smallest climb out of any well. Raises ValueError for a single well."""
        self._needs_barrier()
        climbs = [saddle - self.losses[i + side] for i, saddle in enumerate(self.saddle_losses) for side in (0, 1)]
        return min(climbs)

    @property
    def awaited_barrier(self) -> float:
        """The climb ΔL for which the slowest exchange waits: its rate is ~ e^(−ΔL/D) as D → 0.

        Of two wells it is that of the shallower one. Raises ValueError for a single well.
        """
        self._needs_barrier()
        cold = (max(self.saddle_losses) - min(self.losses)) / 200
        slow, fast = (math.log(self.kramers_rates(cold * factor)[0]) for factor in (1.0, 2.0))
        return (fast - slow) * 2 * cold

    def kramers_rates(self, temperature: float) -> tuple[float, ...]:
        """Decay rates of the walk between wells with Kramers' rates, ascending; of two wells, Σ 1/τ.

        1/τ = √(H_i |H_b|) / 2π · e^(−(L_b − L_i)/D) from each well over each of its barriers. Raises ValueError for a
        single well.
        """
        self._needs_barrier()
        minima = np.array(self.losses), np.array(self.curvatures)
        saddles = np.array(self.saddle_losses), np.array(self.saddle_curvatures)
        if (minima[1] <= 0).any() or (saddles[1] >= 0).any():
            raise ValueError("expected minima and barriers with a second derivative; one of them is flat")
        floor = minima[0].min()
        masses = -(minima[0] - floor) / temperature + np.log(2 * math.pi * temperature / minima[1]) / 2
        resistances = (saddles[0] - floor) / temperature + np.log(2 * math.pi / (temperature * -saddles[1])) / 2
        chain = Chain(masses, np.concatenate([[np.inf], resistances, [np.inf]]))
        return tuple(map(float, decay_rates(chain, len(self.saddles))))

    def _needs_barrier(self) -> None:
        if not self.saddles:
            raise ValueError(
                f"expected a barrier between two minima, got the single well at {self.minima[0]:.6g}: there is no "
                "exchange between wells"
            )
