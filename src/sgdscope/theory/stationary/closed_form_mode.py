"""The mode of a two-layer network's law away from 0, in closed form."""

from __future__ import annotations

import math

from sgdscope.theory.stationary.noise import DiagonalNoise


def nonzero_mode(noise: DiagonalNoise, temperature: float, weight_decay: float = 0.0) -> float | None:
    """Weight v ≠ 0 at which the density has its local maximum; None if it has none.

    The larger root of T (7 α₁ v² − 10 α₂ v + 3 α₃) + β₁ v − β₂ + γ = 0, if positive. For T ≥ T_c it is a maximum of the
    density that is no longer normalisable. Source: Ziyin, Li & Ueda, arXiv 2308.06671, Eq. 16.
    """
    check_temperature(temperature)
    oriented = noise.oriented
    square = 7 * oriented.square_variance * temperature
    linear = oriented.square_mean - 10 * oriented.covariance * temperature
    constant = 3 * oriented.product_variance * temperature - oriented.product_mean + weight_decay
    discriminant = linear * linear - 4 * square * constant
    if discriminant < 0:
        return None
    # the larger root, in the form that does not cancel
    root = math.sqrt(discriminant)
    if linear > 0:
        mode = -2 * constant / (linear + root)
    elif square > 0:
        mode = (root - linear) / (2 * square)
    else:
        return None
    return noise.sign * mode if mode > 0 else None


def check_temperature(temperature: float) -> None:
    """Raises ValueError unless the temperature is a finite number > 0."""
    if not 0 < temperature < math.inf:
        raise ValueError(f"expected a temperature (learning rate / batch size) > 0, got {temperature}")
