"""Selection: which well, when, and at what price, as step size and batch size change.

Source: Dai & Zhu 2112.00987 and 1812.00542 for the claims (larger lr / batch size selects sooner and ends higher); the
formulas derived here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sgdscope.theory.escape.white_noise import temperature
from sgdscope.theory.fokker_planck.landscape import Landscape
from sgdscope.theory.fokker_planck.line import Line, Potential
from sgdscope.theory.fokker_planck.stretches import Array

_METASTABLE = 4.0


def occupancy(initial: float, stationary: ArrayLike, rates: ArrayLike, durations: ArrayLike) -> Array:
    """Occupation of a well after each stage of a schedule, shape (stages,).

    Over a stage of duration t (in lr · iterations) with gap λ₁ and stationary occupation π, the occupation p becomes
    ``π + (p − π) e^(−λ₁ t)``: what is left of the start is e^(−∫λ₁ dt). `stationary` and `rates` broadcast against
    `durations`. A decaying lr or growing batch freezes p once ∫λ₁ dt stops growing. Holds for two wells, once each is
    settled inside. Raises ValueError for occupations outside [0, 1], or negative rates or durations.
    """
    target, rate, time = np.broadcast_arrays(*(np.asarray(v, dtype=np.float64) for v in (stationary, rates, durations)))
    if time.ndim != 1:
        raise ValueError(f"expected a list of durations, one per stage, got shape {time.shape}")
    if not (0 <= initial <= 1 and (target >= 0).all() and (target <= 1).all()):
        raise ValueError("expected occupations between 0 and 1")
    if not ((rate >= 0).all() and (time >= 0).all() and np.isfinite(rate * time).all()):
        raise ValueError("expected finite rates ≥ 0 and durations ≥ 0")
    result, now = np.empty_like(time), initial
    for stage, (pi, kept) in enumerate(zip(target, np.exp(-rate * time), strict=True)):
        now = pi * (1 - kept) + now * kept
        result[stage] = now
    return result


@dataclass(frozen=True)
class BatchSizeSweep:
    """The gap against batch size at one learning rate; arrays of shape (sizes,).

    Attributes:
        batch_sizes: M, ascending.
        temperatures: D = lr σ² / (2M).
        gaps: slowest decay rate λ₁, exact, per lr · iterations.
        barrier: ΔL for which the slowest exchange waits; None in a single well, where the gap does not depend on M
            (a quadratic well) or only weakly.
        asymptotic_slope: of ln λ₁ in M at small noise, −2ΔL / (lr σ²); 0 in a single well.
        metastable: where the lowest barrier is over 4 noise units, so that the slope is to be looked for.
    """

    batch_sizes: Array
    temperatures: Array
    gaps: Array
    barrier: float | None
    asymptotic_slope: float
    metastable: NDArray[np.bool_]

    @property
    def slopes(self) -> Array:
        """Of ln λ₁ in M between neighbouring batch sizes, shape (sizes − 1,)."""
        return np.asarray(np.diff(np.log(self.gaps)) / np.diff(self.batch_sizes))

    def fit(self) -> tuple[float, float]:
        """Constant and slope of ``ln λ₁ = const + slope · M`` over the metastable sizes, by least squares.

        Raises ValueError for fewer than two such sizes.
        """
        chosen = self.metastable
        if chosen.sum() < 2:
            raise ValueError(
                f"expected two batch sizes with a barrier over {_METASTABLE:.0f} noise units, got {int(chosen.sum())}; "
                "take larger batches, or a potential with a barrier"
            )
        slope, constant = np.polyfit(self.batch_sizes[chosen], np.log(self.gaps[chosen]), 1)
        return float(constant), float(slope)


def batch_size_sweep(
    potential: Potential, lr: float, noise_variance: float, batch_sizes: Sequence[float], *, cells: int = 2000
) -> BatchSizeSweep:
    """How the gap falls with batch size: exponentially over a barrier, not at all in a quadratic well.

    One `Line` per batch size. Raises ValueError for sizes that do not rise, and as `Line.of_potential`.
    """
    sizes = np.asarray(batch_sizes, dtype=np.float64)
    if sizes.ndim != 1 or not len(sizes) or not (np.diff(sizes) > 0).all():
        raise ValueError(f"expected batch sizes that rise, got {batch_sizes!r:.80}")
    temperatures = np.array([temperature(lr, noise_variance, float(size)) for size in sizes])
    lines = [Line.of_potential(potential, float(d), cells=cells) for d in temperatures]
    gaps = np.array([line.spectral_gap() for line in lines])
    landscape = Landscape.of(potential, lines[-1])
    metastable = np.zeros(len(sizes), dtype=np.bool_)
    barrier, slope = None, 0.0
    if landscape.saddles:
        barrier = landscape.awaited_barrier
        slope = -barrier / (temperatures[0] * sizes[0])
        metastable = landscape.lowest_barrier >= _METASTABLE * temperatures
    return BatchSizeSweep(sizes, temperatures, gaps, barrier, slope, metastable)


@dataclass(frozen=True)
class SelectionTrade:
    """Speed against height: arrays of shape (temperatures,).

    Attributes:
        temperatures: D.
        gaps: λ₁, which rises exponentially in −1/D over a barrier.
        excess_losses: stationary mean of the loss above its minimum, exact.
        harmonic_excess: D/2, its form in a quadratic well whatever the curvature; d·D/2 in d dimensions.
    """

    temperatures: Array
    gaps: Array
    excess_losses: Array
    harmonic_excess: Array


def selection_trade(potential: Potential, temperatures: ArrayLike, *, cells: int = 2000) -> SelectionTrade:
    """What more noise buys (a larger gap) and costs (a larger stationary loss). Raises as `Line.of_potential`."""
    values = np.atleast_1d(np.asarray(temperatures, dtype=np.float64))
    gaps, excess = [], []
    for value in values:
        line = Line.of_potential(potential, float(value), cells=cells)
        lowest = min(Landscape.of(potential, line).losses)
        gaps.append(line.spectral_gap())
        excess.append(float(line.stationary() @ (np.asarray(potential.value(line.centres)) - lowest)))
    return SelectionTrade(values, np.array(gaps), np.array(excess), values / 2)
