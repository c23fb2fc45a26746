"""Conversion: an average of a run at constant learning rate as a learning-rate schedule, and back.

Frozen: gradients taken where the constant-rate path saw them. Σ w_s θ_s = θ_0 − λ Σ_t W_t g_t(θ_{t−1}) with the tail
weights W_t = Σ_{s ≥ t} w_s holds for any loss, so the schedule λ W_t makes the same average as long as gradients do not
react; its error is of order lr · curvature · (span of the average), and for no average but one of two adjacent iterates
is it zero in two modes at once. Exact: the coefficient of every batch minimum matches in one quadratic mode.

A schedule has shape (T,), λ_1 … λ_T; weights have shape (T + 1,), w_0 … w_T. Source: Sandler et al. 2301.02312, Sec. 4,
for the statement; the frozen pair is also that of WSM, 2507.17634; the exact pair is derived here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sgdscope.theory.averaging.arguments import Array, curvature_values, numbers, positive, stable
from sgdscope.theory.averaging.average import Average


def frozen_schedule(average: Average, lr: float) -> Array:
    """λ_t = λ W_t, shape (T,): non-increasing and at most λ iff no weight after the first is negative."""
    return positive(lr, "a learning rate") * average.tail_weights[1:]


def frozen_average(schedule: ArrayLike, lr: float | None = None) -> Average:
    """Weights w_T = λ_T / λ, w_t = (λ_t − λ_{t+1}) / λ, w_0 = 1 − λ_1 / λ; λ is the largest rate unless given.

    A schedule that rises (warm-up) gives negative weights, said in the `warnings` of the average.
    """
    rates, base = _schedule(schedule, lr)
    weights = -np.diff(np.concatenate([[base], rates, [0.0]])) / base
    return Average("frozen average of a schedule", weights)


def exact_schedule(average: Average, lr: float, curvature: ArrayLike) -> Array:
    """λ̃_t = λ N_t / (Σ_{s ≤ t} w_s + q N_{t+1}), N_t = w_t + q N_{t+1}, q = 1 − λ h; shape (T,), or (modes, T).

    SGD with these rates reproduces, in a mode of this curvature, the coefficient that the average gives to every batch
    minimum and to the start. Within [0, λ] for weights ≥ 0 and λ h ≤ 1; beyond λ h = 1 it may leave that range. Raises
    ValueError where no schedule exists (the denominator vanishes).
    """
    curvatures = curvature_values(curvature)
    memory = 1 - stable(lr, curvatures) * curvatures
    w = average.weights
    before = np.cumsum(w)  # Σ_{s ≤ t} w_s
    later = np.zeros_like(memory)  # N_{t+1}
    rates = np.empty((curvatures.size, average.steps))
    for t in range(average.steps, 0, -1):
        tail = w[t] + memory * later
        below = before[t] + memory * later
        if before[t] == 0 and w[t] == 0:  # not begun: the plain rate, also where N has underflowed
            rates[:, t - 1] = lr
        else:
            if (np.abs(below) <= 1e-14 * (abs(before[t]) + np.abs(memory * later))).any():
                raise ValueError(
                    f"{average.name}: expected an average that some schedule reproduces, got one that would need an "
                    f"infinite learning rate at step {t}: lr · curvature > 1 or negative weights do that"
                )
            rates[:, t - 1] = lr * tail / below
        later = tail
    return rates[0] if np.ndim(curvature) == 0 else rates


def exact_average(schedule: ArrayLike, curvature: float, lr: float | None = None) -> Average:
    """Weights w_T = λ_T / λ, w_t = P_{t+1} (λ_t − λ_{t+1} + h λ_{t+1} (λ − λ_t)) / λ, w_0 the rest.

    The inverse of `exact_schedule`. P_t = Π_{j > t} (1 − λ_j h). λ is the largest rate unless given. A mildly rising
    schedule can keep w ≥ 0.
    """
    rates, base = _schedule(schedule, lr)
    h = positive(curvature, "curvature")
    stable(base, np.array([h]))
    next_rates = np.append(rates[1:], 0.0)
    product = np.ones_like(rates)  # P_{t+1}
    product[:-1] = np.append(np.cumprod(1 - rates[:1:-1] * h)[::-1], 1.0) if rates.size > 1 else 1.0
    weights = product * (rates - next_rates + h * next_rates * (base - rates)) / base
    weights[-1] = rates[-1] / base
    return Average("exact average of a schedule", np.concatenate([[1 - weights.sum()], weights]))


def _schedule(schedule: ArrayLike, lr: float | None) -> tuple[Array, float]:
    rates = numbers(schedule, "learning rates of a schedule")
    if not (rates >= 0).all():
        raise ValueError(f"expected learning rates ≥ 0, got {rates.min()}")
    return rates, positive(float(rates.max()) if lr is None else lr, "a learning rate")
