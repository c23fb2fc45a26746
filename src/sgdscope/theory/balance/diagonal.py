r"""Balance in diagonal linear networks: how fast products of weights become balanced, and which of them survive.

Loss ``ℓ = (v x − y)²``, v the sum over subnetworks of products of weights; noise and landscape in `DiagonalNoise`.
Source: Ziyin, Li & Ueda 2308.06671, section 3, Eqs. 7, 69, 77, 86–90, with factors corrected: Eq. 69 lacks a factor 4,
Eqs. 86–90 have 2 where simulation and derivation give 8. Time is lr · steps, temperature T = lr / batch size, weight
decay γ‖θ‖² in the loss.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from sgdscope.theory.stationary.noise import DiagonalNoise


def decay_rate(
    noise: DiagonalNoise, v: Any, *, temperature: float, weight_decay: float = 0.0, factor: Any = 1.0
) -> Any:
    """Rate at which ln|u² − w²| of a pair of layers falls: ``4 (T g(v) f² + γ)``.

    Args:
        noise: of the data.
        v: weight of the whole network (scalar or array).
        temperature: T ≥ 0.
        weight_decay: γ ≥ 0.
        factor: f = v_i / (u w), the product of the other layers of the subnetwork that u and w belong to; 1 for two
            layers. Then f is the change of v per change of u w.
    """
    _check(temperature, weight_decay)
    return 4 * (temperature * noise.g(v) * np.square(factor) + weight_decay)


def slowest_decay_rate(noise: DiagonalNoise, *, temperature: float, weight_decay: float = 0.0) -> float:
    """Least of `decay_rate` over all weights, two layers: ``4 (T Δ / α₁ + γ)``; γ alone where the data interpolate."""
    _check(temperature, weight_decay)
    least = noise.discriminant / noise.square_variance if noise.square_variance else noise.product_variance
    return 4 * (temperature * least + weight_decay)


def log_charge_factor(lr: float, derivatives: npt.ArrayLike) -> Any:
    """Sum of ``ln|1 − lr² ψ̂²|`` over steps: the exact ln(|u² − w²| at the end / at the start) of two layers.

    Args:
        lr: learning rate.
        derivatives: ψ̂ = ∂(batch loss)/∂v at each step, along the last axis.

    A step with lr² ψ̂² = 1 makes the charge exactly 0; that is a ValueError here, as there is no logarithm.
    """
    factors = 1 - np.square(lr * np.asarray(derivatives, dtype=np.float64))
    if (factors == 0).any():
        raise ValueError("a step with lr · |∂L/∂v| = 1 makes the charge exactly 0: its logarithm does not exist")
    return np.log(np.abs(factors)).sum(-1)


def log_charge_along(
    noise: DiagonalNoise, v: npt.ArrayLike, time: npt.ArrayLike, *, temperature: float, weight_decay: float = 0.0
) -> npt.NDArray[np.float64]:
    """ln(|u² − w²|(t) / |u² − w²|(0)) along a path v(t) of two layers: minus the integral of `decay_rate`, trapezoidal.

    Args:
        noise: of the data.
        v: weights along the path, shape (n,).
        time: lr · steps of each, shape (n,), rising.
        temperature: T ≥ 0.
        weight_decay: γ ≥ 0.
    """
    v, time = np.asarray(v, dtype=np.float64), np.asarray(time, dtype=np.float64)
    if v.ndim != 1 or v.shape != time.shape or (np.diff(time) < 0).any():
        raise ValueError(f"expected v and rising time of one shape (n,), got {v.shape} and {time.shape}")
    rate = decay_rate(noise, v, temperature=temperature, weight_decay=weight_decay)
    steps = (rate[1:] + rate[:-1]) / 2 * np.diff(time)
    return -np.concatenate([[0.0], np.cumsum(steps)])


def competition_rate(noise: DiagonalNoise, v: Any, first: Any, second: Any, *, depth: int, temperature: float) -> Any:
    """Rate of change of what tells two balanced subnetworks apart, ``depth + 1`` layers each.

    - depth 1, opposite signs: d(ln|v_i| + ln|v_j|)/dt = −8 T g(v): together they die; equal signs: v_i / v_j is
      conserved, so the answer is 0.
    - depth > 1, with z = |v|^{−(depth−1)/(depth+1)}, equal signs: d ln|z_i − z_j|/dt = −2 D (D−1) T g / (z_i z_j): they
      become equal; opposite signs: d ln(z_i + z_j)/dt = +2 D (D−1) T g / (z_i z_j): one of the two dies.

    Args:
        noise: of the data.
        v: weight of the whole network.
        first: v_i ≠ 0, weight of one subnetwork.
        second: v_j ≠ 0, of the other.
        depth: D ≥ 1 (a network of depth D multiplies D + 1 weights).
        temperature: T ≥ 0.
    """
    _check(temperature, 0.0)
    if depth < 1:
        raise ValueError(f"expected a depth ≥ 1, got {depth}: without hidden layer there are no subnetworks")
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if (first == 0).any() or (second == 0).any():
        raise ValueError("expected subnetworks with weights other than 0: one at 0 stays there")
    equal = first * second > 0
    if depth == 1:
        rate = np.where(equal, 0.0, -8 * temperature * noise.g(v))
    else:
        power = -(depth - 1) / (depth + 1)
        z = np.abs(first) ** power * np.abs(second) ** power
        size = 2 * depth * (depth - 1) * temperature * noise.g(v) / z
        rate = np.where(equal, -size, size)
    return rate if rate.ndim else float(rate)


def second_order_noise(noise: DiagonalNoise, batch_size: int) -> DiagonalNoise:
    """Data whose continuous law of balance is that of SGD to second order: α₃ → α₃ + S β₂², at v = 0.

    The modified loss L + (lr/4) ‖∇L‖² adds S (E ψ)² to Var ψ, which is ``4 (g(v) + S (β₁ v − β₂)²)``: α₁ → α₁ + S β₁²,
    α₂ → α₂ + S β₁ β₂, α₃ → α₃ + S β₂². Source: Ziyin, Li & Ueda 2308.06671, App. A.3, where T stands for lr: right for
    S = 1 only. It is right for the decay of charges; its critical temperature is not that of SGD (see
    `stationary`).
    """
    if batch_size < 1:
        raise ValueError(f"expected a batch size ≥ 1, got {batch_size}")
    b1, b2 = noise.square_mean, noise.product_mean
    return DiagonalNoise(
        noise.square_variance + batch_size * b1 * b1, noise.covariance + batch_size * b1 * b2,
        noise.product_variance + batch_size * b2 * b2, b1, b2,
    )  # fmt: skip


def _check(temperature: float, weight_decay: float) -> None:
    if not (0 <= temperature < math.inf and 0 <= weight_decay < math.inf):
        raise ValueError(f"expected temperature and weight decay ≥ 0, got {temperature} and {weight_decay}")
