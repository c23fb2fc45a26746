"""Markov chains solved by taking out one state after the other, without a single subtraction.

Rates between valleys differ by tens of orders of magnitude; sums of positive terms keep every answer accurate to
rounding, where the subtractions of a linear solver would lose the rare ones. Source: Grassmann, Taksar & Heyman 1985,
and the same elimination applied to times and hitting probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sgdscope.theory.escape.panels import Floats


def _eliminated(rates: Floats, order: list[int]) -> Iterator[tuple[int, Floats, float]]:
    """Takes the states of `order` out of `rates` in place; yields each with its rates in and its total rate out."""
    there = np.ones(len(rates), dtype=bool)
    for state in order:
        there[state] = False
        out = float(rates[state, there].sum())
        into = np.where(there, rates[:, state], 0.0)
        if out > 0:
            rates += np.outer(into / out, np.where(there, rates[state], 0.0))
            np.fill_diagonal(rates, 0.0)
        yield state, into, out


def stationary_probabilities(rates: Floats) -> Floats:
    """Stationary law of a chain that can go from anywhere to anywhere. `rates` off the diagonal, zeros on it."""
    work = rates.copy()
    order = list(range(len(rates) - 1, 0, -1))
    taken = [(state, into.copy(), out) for state, into, out in _eliminated(work, order)]
    law = np.zeros(len(rates))
    law[0] = 1.0
    for state, into, out in reversed(taken):
        law[state] = float(law @ into) / out
        law /= law.sum()  # keeps long chains of rare states inside floating point
    return law


def solve(rates: Floats, free: list[int], known: Floats, rewards: Floats) -> Floats:
    """Solution x of ``Σ_j rates_ij (x_i − x_j) = rewards_i`` on the free states and x = known on the others.

    With rewards 1 and known 0 these are mean times to leave the free states; with rewards 0 and known an indicator,
    hitting probabilities. Every free state must be able to leave.
    """
    work = rates.copy()
    left = rewards.astype(np.float64).copy()
    rows = []
    for state, into, out in _eliminated(work, free):
        rows.append((state, work[state].copy(), out, left[state]))
        left += into / out * left[state]
    found = known.astype(np.float64).copy()
    there = np.ones(len(rates), dtype=bool)
    there[free] = False
    for state, row, out, reward in reversed(rows):
        found[state] = (reward + float((row * np.where(there, found, 0.0)).sum())) / out
        there[state] = True
    return found
