"""Closed forms of the schedule that equals an EMA, a window or two points in one quadratic mode.

`steps_before_end` is m = T − t, 0 at the last step, any shape. q = 1 − λ h is the memory of the mode. Inside its range
each agrees with `exact_schedule`. Source: derived here for the per-batch quadratics of Sandler et al. 2301.02312,
Sec. 4.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sgdscope.theory.averaging.arguments import Array, count, finite, fraction, positive, stable


def ema_schedule(lr: float, curvature: float, decay: float, steps_before_end: ArrayLike) -> Array:
    """λ (1 − β)(β^n − q^n) / (β^n (1 − q) − q^n (1 − β)), n = m + 1; continuous through β = q.

    From (1 − β) λ at the end, far back to λ in slow modes (q > β) but only to (1 − β) / h in fast ones (q < β): there
    an EMA never lets the noise of a full rate in. Symmetric: lr̃ · h is the same with β and q exchanged.
    """
    beta, q, m = fraction(decay, "decay"), _memory(lr, curvature), _steps(steps_before_end)
    larger, smaller = (beta, q) if beta >= abs(q) else (q, beta)
    if larger == 0:
        return np.full_like(m, lr)
    ratio, apart = smaller / larger, (larger - smaller) / larger
    # G_n = Σ_{i<n} β^i q^{n−1−i} in units of larger^{n−1}; the formula is (1 − β) G_n / (β^{n−1} + q (1 − β) G_{n−1})
    upper = _geometric(ratio, apart, m + 1)
    lower = _geometric(ratio, apart, m) / larger
    start = np.ones_like(m) if larger == beta else ratio**m
    return np.asarray(lr * (1 - beta) * upper / (start + q * (1 - beta) * lower))


def window_schedule(lr: float, curvature: float, length: int, steps_before_end: ArrayLike) -> Array:
    """λ (1 − q^{m+1}) / ((1 − q)(n − m) + q (1 − q^m)) for m < n, λ before."""
    n, q, m = count(length, "length of the window"), _memory(lr, curvature), _steps(steps_before_end)
    inside = np.minimum(m, n - 1)
    apart = lr * curvature
    rate = _geometric(q, apart, inside + 1) / (n - inside + q * _geometric(q, apart, inside))
    return np.asarray(np.where(m < n, lr * rate, lr))


def two_point_schedule(
    lr: float, curvature: float, gap: int, newer_weight: float, steps_before_end: ArrayLike
) -> Array:
    """λ a q^m / (1 − a + a q^m) for m < gap, λ before: drops right after the older point, then rises to a λ."""
    k, q, m = count(gap, "gap between the two points"), _memory(lr, curvature), _steps(steps_before_end)
    a = finite(newer_weight, "weight on the newer point")
    kept = a * q ** np.minimum(m, k - 1)
    if (1 - a + kept == 0).any():
        raise ValueError("expected two points that some schedule reproduces, got an infinite learning rate")
    return np.asarray(np.where(m < k, lr * kept / (1 - a + kept), lr))


def _geometric(ratio: float, apart: float, terms: Array) -> Array:
    """Σ_{i<terms} ratio^i with apart = 1 − ratio, without cancellation for ratio → 1."""
    if apart == 0:
        return terms
    if ratio > 0.5:
        return np.asarray(-np.expm1(terms * np.log1p(-apart)) / apart)
    return np.asarray((1 - ratio**terms) / apart)


def _memory(lr: float, curvature: float) -> float:
    return 1 - stable(lr, np.array([positive(curvature, "curvature")])) * curvature


def _steps(steps_before_end: ArrayLike) -> Array:
    m = np.asarray(steps_before_end, dtype=np.float64)
    if not ((m >= 0) & (m == np.floor(m))).all():
        raise ValueError(f"expected whole steps before the end ≥ 0, got {m}")
    return m
