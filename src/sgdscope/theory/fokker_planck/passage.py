"""First passage on a rate matrix: times, their spread, committors and the law of what has not yet left.

All by one factorisation of the matrix without the rows and columns of the target, whose inverse is positive.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csgraph

from sgdscope.theory.fokker_planck.markov import Floats, Mask, factored, reaching

_MOST_ITERATIONS = 2000
_SETTLED = 1e-12


def mean_time(matrix: Any, target: Mask) -> Floats:
    """Mean time to the target, from every cell; zero on it: Qᵀ m = −1 off the target.

    Raises ValueError if the target is empty, whole or out of reach.
    """
    away = _away(matrix, target)
    mean = np.zeros(len(target))
    mean[away] = factored(-_part(matrix, away).T).solve(np.ones(int(away.sum())))
    return mean


def time_variance(matrix: Any, target: Mask, mean: Floats) -> Floats:
    """Variance of the time to the target beside its mean, from every cell.

    Qᵀ V = −Σ_i rate_ij (m_i − m_j)² off the target: sums of squares, no difference of large moments.
    """
    entries = matrix.tocoo()
    squares = entries.data * (mean[entries.row] - mean[entries.col]) ** 2
    spread = np.bincount(entries.col, weights=squares, minlength=len(target))
    variance = np.zeros(len(target))
    variance[~target] = factored(-_part(matrix, ~target).T).solve(spread[~target])
    return variance


def committor(matrix: Any, source: Mask, target: Mask) -> Floats:
    """Probability to reach the target before the source, from every cell. Raises ValueError if they overlap."""
    if (source & target).any():
        raise ValueError(f"expected source and target apart, got {int((source & target).sum())} cells in both")
    if not (source.any() and target.any()):
        raise ValueError("expected cells in both source and target, got none in one: are they inside the grid?")
    away = ~(source | target)
    chance = target.astype(np.float64)
    if away.any():
        _require_reached(matrix, source | target)
        gained = np.asarray(matrix.tocsr()[target].sum(axis=0)).ravel()[away]
        chance[away] = factored(-_part(matrix, away).T).solve(gained)
    return np.clip(chance, 0.0, 1.0)


def quasi_stationary(matrix: Any, absorbing: Mask) -> tuple[Floats, float]:
    """Law conditioned on not having been absorbed, which the survivors settle into, and the rate at which they leave.

    Inverse iteration from the uniform law: each step is positive. Raises ValueError where the remaining cells fall
    into parts that cannot exchange, as then the law depends on the start.
    """
    away = _away(matrix, absorbing)
    kept = _part(matrix, away)
    parts, _ = csgraph.connected_components(kept, directed=False)
    if parts > 1:
        raise ValueError(
            f"the absorbing cells cut the others into {parts} parts, each with a law of its own: "
            "add all parts but one to `absorbing`"
        )
    inverse = factored(-kept)
    masses = np.full(kept.shape[0], 1 / kept.shape[0])
    rate = np.inf
    for _ in range(_MOST_ITERATIONS):
        after = inverse.solve(masses)
        before, rate = rate, float(1 / after.sum())
        after *= rate
        change = float(np.abs(after - masses).sum())
        masses = after
        if change < _SETTLED and abs(before - rate) <= _SETTLED * rate:
            law = np.zeros(len(absorbing))
            law[away] = masses
            return law, rate
    raise ValueError(
        f"the two slowest ways of leaving are too alike to tell apart after {_MOST_ITERATIONS} iterations: "
        "enlarge `absorbing` so that one well is left"
    )


def _part(matrix: Any, cells: Mask) -> Any:
    return matrix[:, cells].tocsr()[cells].tocsc()


def _away(matrix: Any, target: Mask) -> Mask:
    if not target.any():
        raise ValueError("the target holds no cell: is it inside the grid, and are its cells narrower than it?")
    if target.all():
        raise ValueError("the target holds every cell: no passage is left")
    _require_reached(matrix, target)
    return ~target


def _require_reached(matrix: Any, target: Mask) -> None:
    lost = int((~reaching(matrix, target)).sum())
    if lost:
        raise ValueError(f"from {lost} cells the target is never reached: its mean passage time is infinite there")
