r"""Potential: the integral in the exponent of the law, ∫ (a s − b) s^{−power} / g(s) ds, in closed form at every depth.

With z the complex zero of g, 1/g splits into simple fractions, and each of them integrates to a logarithm (power 0, 1,
2: depths 0, 1, ∞) or to a hypergeometric function. Derived here; checked against quadrature.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import hyp2f1

from sgdscope.theory.stationary.noise import DiagonalNoise

Array = npt.NDArray[np.float64]


def potential(noise: DiagonalNoise, slope: float, constant: float, power: float, v: Array) -> Array:
    """∫^v (slope · s − constant) s^{−power} / g(s) ds, up to a constant of integration.

    Args:
        noise: gives g; not identically 0.
        slope: factor of s in the numerator.
        constant: subtracted in the numerator.
        power: 0, or ≥ 1.
        v: where, > 0 unless power is 0. If g has a double zero k > 0, all v on one side of it.

    About one microsecond per point.
    """
    curvature = noise.square_variance
    if curvature == 0:
        linear, flat = slope / noise.product_variance, constant / noise.product_variance
        found: Array = linear * _power_integral(1 - power, v) - flat * _power_integral(-power, v)
        return found
    centre = noise.covariance / curvature
    if noise.discriminant > 0:
        half_width = math.sqrt(noise.discriminant) / curvature
        zero = complex(centre, half_width)
        residue = (slope * zero - constant) / (2j * half_width * curvature)
        found = 2 * np.real(residue * _simple_fraction(power, zero, v))
        return found
    if centre == 0:
        found = (slope * _power_integral(-1 - power, v) - constant * _power_integral(-2 - power, v)) / curvature
        return found
    simple = _simple_fraction(power, centre, v)
    squared = -(v**-power) / (v - centre)  # by parts, the integral of s^{−power} / (s − k)²
    if power:
        squared = squared - (power * simple + v**-power) / centre
    found = (slope * simple + (slope * centre - constant) * squared) / curvature
    return found


def _power_integral(exponent: float, v: Array) -> Array:
    found: Array = np.log(np.abs(v)) if exponent == -1 else v ** (exponent + 1) / (exponent + 1)
    return found


def _simple_fraction(power: float, zero: complex | float, v: Array) -> Any:
    """∫ s^{−power} / (s − zero) ds for a zero off the path; a real zero gives real values."""
    real = isinstance(zero, float)
    if power == 0:
        return np.log(np.abs(v - zero)) if real else np.log(v - zero)
    if power in (1, 2):
        logarithm = (np.log(np.abs(1 - zero / v)) if real else np.log(1 - zero / v)) / zero
        return logarithm if power == 1 else (logarithm + 1 / v) / zero
    # complex arguments throughout: for real ones SciPy's function loses all digits close to 1
    if isinstance(zero, float) and v.size and 0 < v.flat[0] < zero:
        series = hyp2f1(1, 1 - power, 2 - power, v / complex(zero)).real
        return -(v ** (1 - power)) / ((1 - power) * zero) * series
    series = hyp2f1(1, power, power + 1, complex(zero) / v)
    return -(v**-power) / power * (series.real if real else series)
