"""Candidates: the averages of a handful of checkpoints that are worth a prediction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sgdscope.theory.averaging import Average, averages, best_simplex_weights
from sgdscope.theory.averaging.harm import best_newer_weight

SIMPLEX_UP_TO = 64
"""Checkpoints up to which the best non-negative weights are looked for."""


def candidates(losses: NDArray[np.float64], curvatures: NDArray[np.float64]) -> list[Average]:
    """Averages over all checkpoints, oldest first, from their losses (count,) and chord curvatures (count, count).

    Two checkpoints at equal weights and at the best ones, windows and exponential averages, each at lengths that
    double; the best weights on the simplex.
    """
    count = losses.size
    found = [*_two_points(losses, curvatures), *_windows(count), *_exponential(count)]
    if 3 <= count <= SIMPLEX_UP_TO:
        found.append(best_simplex_weights(losses, curvatures).average)
    return [average.over(count - 1) for average in found]


def _doubling(most: int, first: int = 1) -> list[int]:
    lengths = [first * 2**i for i in range(most.bit_length()) if first * 2**i < most]
    return [*lengths, most] if most >= first else []


def _two_points(losses: NDArray[np.float64], curvatures: NDArray[np.float64]) -> Iterator[Average]:
    count = losses.size
    best: tuple[float, Average] | None = None
    for gap in _doubling(count - 1):
        yield replace(averages.two_point(gap), name=f"two checkpoints, {gap} apart")
        older, D = losses[count - 1 - gap], curvatures[count - 1 - gap, count - 1]
        if D <= 0:
            continue
        weight = best_newer_weight(float(older), float(losses[-1]), float(D)).value
        loss = float((1 - weight) * older + weight * losses[-1] - 0.5 * weight * (1 - weight) * D)
        if 0 < weight < 1 and (best is None or loss < best[0]):
            name = f"two checkpoints, {gap} apart, {weight:.2f} on the newer"
            best = loss, replace(averages.two_point(gap, weight), name=name)
    if best is not None:
        yield best[1]


def _windows(count: int) -> Iterator[Average]:
    for length in _doubling(count, 3):
        yield replace(averages.window(length), name=f"window of {length}")


def _exponential(count: int) -> Iterator[Average]:
    for horizon in _doubling(count // 2, 2):
        decay = 1 - 1 / horizon
        yield replace(averages.ema(decay, count - 1, start_corrected=count > 2), name=f"EMA {decay:.3g} per checkpoint")
