"""Averages in use, as weights on the iterates θ_0, …, θ_T of a run (`Average`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sgdscope.theory.averaging.arguments import count, finite, fraction, numbers
from sgdscope.theory.averaging.average import Average


def last(steps: int = 0) -> Average:
    """No average: all weight on the newest iterate."""
    return Average("last iterate", np.ones(1)).over(steps)


def given(weights: ArrayLike, name: str = "given weights") -> Average:
    """Arbitrary weights, oldest first. Raises ValueError unless they sum to one."""
    return Average(name, numbers(weights, "weights of an average"))


def ema(decay: float, steps: int, *, start_corrected: bool = False) -> Average:
    """Exponential moving average ``a ← decay · a + (1 − decay) · θ`` over `steps` steps, started as a copy of θ_0.

    w_0 = decay^T, w_s = (1 − decay) decay^{T−s}. With `start_corrected` the weight left on θ_0 is taken away and the
    rest divided by 1 − decay^T. For one that began late in a run: ``ema(decay, steps_since).over(steps)``. Raises
    ValueError unless 0 ≤ decay < 1.
    """
    fraction(decay, "decay")
    count(steps, "steps of the EMA", 1 if start_corrected else 0)
    weights = (1 - decay) * decay ** np.arange(steps, -1, -1.0)
    weights[0] = 0.0 if start_corrected else decay**steps
    return Average(f"EMA {decay:g}" + " without its start" * start_corrected, weights / weights.sum())


def window(length: int, stride: int = 1) -> Average:
    """Equal weights on `length` iterates, the newest and every `stride`-th before it (SWA, LAWA)."""
    count(length, "length of the window")
    count(stride, "stride")
    weights = np.zeros((length - 1) * stride + 1)
    weights[::stride] = 1 / length
    return Average(f"window {length}" + (f" with stride {stride}" if stride > 1 else ""), weights)


def two_point(gap: int, newer_weight: float = 0.5) -> Average:
    """Weight `newer_weight` on the newest iterate and the rest on the one `gap` steps older."""
    weights = np.zeros(count(gap, "gap between the two points") + 1)
    weights[-1] = finite(newer_weight, "weight on the newer point")
    weights[0] = 1 - newer_weight
    return Average(f"two points {gap} steps apart", weights)


def uniform(steps: int) -> Average:
    """Equal weights on θ_1, …, θ_T (Polyak-Ruppert)."""
    return Average("uniform", np.r_[0.0, np.full(count(steps, "steps"), 1 / steps)])


def power(exponent: float, steps: int, every: int = 1) -> Average:
    """Power-law average of Karras et al. 2312.02696: weights grow like s^exponent; exponent 0 is `uniform`.

    Exactly what the recursion ``a ← β_t a + (1 − β_t) θ_t`` with β_t = ((t − every) / t)^{exponent + 1} makes, updated
    at step T and every `every` steps before it: its first update takes θ over whole. Raises ValueError unless
    exponent > −1.
    """
    if not finite(exponent, "exponent") > -1:
        raise ValueError(f"expected an exponent > −1, got {exponent}")
    count(steps, "steps")
    count(every, "steps between updates")
    updates = np.arange(steps, 0, -every)[::-1]
    reached = (updates / steps) ** (exponent + 1)  # tail weights telescope: Π β_j over later updates
    weights = np.zeros(steps + 1)
    weights[updates] = np.diff(reached, prepend=0.0)
    return Average(f"power EMA {exponent:g}" + (f" every {every} steps" if every > 1 else ""), weights)
