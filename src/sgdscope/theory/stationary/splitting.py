"""Splitting: of two places that hold a run for good, which one it reaches first."""

from __future__ import annotations

from scipy.special import betainc

from sgdscope.theory.prediction import Prediction
from sgdscope.theory.stationary.noise import DiagonalNoise


def probability_of_learning(noise: DiagonalNoise, temperature: float, start: float) -> Prediction:
    """Chance that a depth-1 network on interpolating data (y = k x) ends at the solution k and not at 0.

    Both hold SGD for good. It is 1 for T ≤ T_c, and from a start beyond k; above T_c it is the regularised incomplete
    beta function I_{v₀/k}(½ − θ, 1 + θ) with θ = T_c / (2 T).

    Args:
        noise: of interpolating data with k ≠ 0.
        temperature: T = lr / batch size > 0.
        start: weight v₀ = Σ u w at the start, of the sign of k (the other sign ends at 0).

    Raises ValueError unless the data interpolate, k ≠ 0 and T > 0.

    Source: derived here (scale function of the dynamics behind Table 1 of Ziyin, Li & Ueda, arXiv 2308.06671).
    """
    k = noise.noiseless_weight
    if not noise.interpolating or not k:
        raise ValueError("expected interpolating data, y = k x with k ≠ 0: other data have a stationary law, or v = 0")
    if not temperature > 0:
        raise ValueError(f"expected a temperature > 0, got {temperature}")
    return Prediction(
        chance_of_learning(noise.critical_temperature() / temperature, start / k),
        "probability of learning",
        "I_{v0/k}(1/2 − θ, 1 + θ), θ = T_c / (2 T)",
        "interpolating data, depth 1, balanced layers, no weight decay",
        "derived here",
    )


def chance_of_learning(critical_ratio: float, relative_start: float) -> float:
    """`probability_of_learning` from T_c / T and v₀ / k."""
    if relative_start <= 0:
        return 0.0
    if critical_ratio >= 1 or relative_start >= 1:
        return 1.0
    theta = critical_ratio / 2
    return float(betainc(0.5 - theta, 1 + theta, relative_start))
