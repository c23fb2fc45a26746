"""Variance ratios: how much noise an average leaves in one mode, relative to the last iterate, at stationarity.

Iterates s steps apart are correlated as q^s, q = 1 − lr · curvature the memory of the mode, −1 < q < 1. All functions
take arrays of memories. Source: derived here for the per-batch quadratics of Sandler et al. 2301.02312, Sec. 4. In the
limit of slow modes only u = lr · curvature · (span of the average in steps) is left (`slow_…`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sgdscope.theory.averaging.arguments import Array, count, finite, fraction


def two_point_ratio(memory: ArrayLike, gap: int, newer_weight: float = 0.5) -> Array:
    """a² + (1 − a)² + 2 a (1 − a) q^gap; a half for far points at equal weights."""
    q, a = _memory(memory), finite(newer_weight, "weight on the newer point")
    return np.asarray(a**2 + (1 - a) ** 2 + 2 * a * (1 - a) * q ** count(gap, "gap"))


def ema_ratio(memory: ArrayLike, decay: float) -> Array:
    """(1 − β) / (1 + β) · (1 + β q) / (1 − β q), for an EMA that has run for ever."""
    q, beta = _memory(memory), fraction(decay, "decay")
    return np.asarray((1 - beta) / (1 + beta) * (1 + beta * q) / (1 - beta * q))


def window_ratio(memory: ArrayLike, length: int, stride: int = 1) -> Array:
    """[n (1 + r) / (1 − r) − 2 r (1 − rⁿ) / (1 − r)²] / n² with r = q^stride, also where r is close to 1."""
    n, r = count(length, "length of the window"), _memory(memory) ** count(stride, "stride")
    far = 1 - r
    safe = np.where(far > 0, far, 1.0)
    # Σ_{j<n} (n − j) r^j = r (n − (1 − rⁿ) / (1 − r)) / (1 − r): cancels for n (1 − r) ≪ 1, where a series takes over
    plain = r * (n - (1 - r**n) / safe) / safe
    series, term = np.zeros_like(r), np.full_like(r, n * (n - 1) / 2)
    for k in range(2, 10):
        series, term = series + term, -term * far * (n - k) / (k + 1)
    return np.asarray((n + 2 * np.where(n * far < 0.02, r * series, plain)) / n**2)


def best_window_weights(memory: float, length: int) -> Array:
    """Weights on `length` consecutive iterates that leave least noise: ∝ (1, 1 − q, …, 1 − q, 1), shape (length,).

    In slow modes nearly all weight sits on the two ends, which is why two points are enough there.
    """
    weights = np.full(count(length, "length of the window"), 1 - float(_memory(memory)))
    weights[0] = weights[-1] = 1
    return np.asarray(weights / weights.sum())


def best_window_ratio(memory: ArrayLike, length: int) -> Array:
    """(1 + q) / (n − (n − 2) q), reached by `best_window_weights`."""
    n, q = count(length, "length of the window"), _memory(memory)
    return np.asarray((1 + q) / (n - (n - 2) * q)) if n > 1 else np.ones_like(q)


def slow_window_ratio(u: ArrayLike) -> Array:
    """2 (u − 1 + e^{−u}) / u²: full window over the span u. Below `slow_two_point_ratio` iff u > 2."""
    u = _span(u)
    safe = np.where(u > 0.02, u, 1.0)
    series = 1 - u / 3 + u**2 / 12 - u**3 / 60 + u**4 / 360 - u**5 / 2520 + u**6 / 20160
    return np.asarray(np.where(u > 0.02, 2 * (safe + np.expm1(-safe)) / safe**2, series))


def slow_two_point_ratio(u: ArrayLike) -> Array:
    """(1 + e^{−u}) / 2: the two ends of the span, equal weights."""
    return np.asarray((1 + np.exp(-_span(u))) / 2)


def slow_best_ratio(u: ArrayLike) -> Array:
    """2 / (2 + u): best weights over the span u."""
    return np.asarray(2 / (2 + _span(u)))


def _memory(memory: ArrayLike) -> Array:
    q = np.asarray(memory, dtype=np.float64)
    if not ((q > -1) & (q <= 1)).all():
        raise ValueError(f"expected the memory 1 − lr · curvature of a stable mode, in (−1, 1], got {q}")
    return q


def _span(u: ArrayLike) -> Array:
    span = np.asarray(u, dtype=np.float64)
    if not ((span >= 0) & np.isfinite(span)).all():
        raise ValueError(f"expected lr · curvature · span ≥ 0, got {span}")
    return span
