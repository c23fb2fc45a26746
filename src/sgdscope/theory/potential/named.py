"""Landscapes of the literature, and a double well made to measure."""

from __future__ import annotations

import math

import sympy

from sgdscope.theory.potential.potential import Potential


def double_well() -> Potential:
    """(x² − 1)²/4: minima at ±1 with curvature 2, a barrier of 1/4 with curvature −1 at 0."""
    return Potential("(x**2 - 1)**2/4")


def skewed_double_well() -> Potential:
    """(x² − 1)² (1 + x/2 + x²/8)/4: minima of equal depth at ±1, the right one (13/4) sharper than the left (5/4)."""
    return Potential("(x**2 - 1)**2*(1 + x/2 + x**2/8)/4")


def quartic(strength: float = 1.0) -> Potential:
    """The potential strength · x⁴/4: confining, with a minimum of zero curvature.

    Raises ValueError unless strength > 0.
    """
    if not 0 < strength < math.inf:
        raise ValueError(f"expected a strength > 0, got {strength}")
    return Potential("strength*x**4/4", parameters={"strength": strength})


def asymmetric_double_well(curvature_left: float, curvature_right: float, barrier: float) -> Potential:
    """Two minima of equal depth with these curvatures, on both sides of a barrier of this height.

    A polynomial of degree 6, s·(u² − 1)²·q(u) with u = x/d, where q is the parabola with q(±1) proportional to the
    curvatures and q > 0 everywhere; s sets the barrier and then d, half the distance of the minima, the curvatures.
    Equal curvatures give the double well of degree 4. The minima are at x = ±d, the value there is 0.
    Raises ValueError unless all three are > 0 and the curvatures differ by a factor of at most 50, beyond which this
    family has further critical points.
    """
    if not all(0 < number < math.inf for number in (curvature_left, curvature_right, barrier)):
        raise ValueError(f"expected curvatures and barrier > 0, got {curvature_left}, {curvature_right} and {barrier}")
    if max(curvature_left, curvature_right) > 50 * min(curvature_left, curvature_right):
        raise ValueError(
            f"expected curvatures that differ by a factor of at most 50, got {curvature_left} and {curvature_right}"
        )
    mean = (curvature_left + curvature_right) / 2
    left, right = curvature_left / mean, curvature_right / mean
    # q = (left (1 − u)² + right (1 + u)²)/4 + √(left · right) (1 − u²)/2, less what keeps its zeros off the line
    middle = (left + right) / 4 + _share(left, right) * math.sqrt(left * right) / 2
    shape = f"(u**2 - 1)**2*({middle!r} + {(right - left) / 2!r}*u + {1 - middle!r}*u**2)/8"
    top = Potential(shape, variables=("u",)).saddles[0].value
    half = math.sqrt(barrier / top / mean)
    u = sympy.Symbol("x", real=True) / sympy.Float(half)
    q = sympy.Float(middle) + sympy.Float((right - left) / 2) * u + sympy.Float(1 - middle) * u**2
    return Potential(sympy.Float(barrier / top) * (u**2 - 1) ** 2 * q / 8)


def _share(left: float, right: float) -> float:
    """How close q comes to a square: 1 makes it constant for equal curvatures, less keeps it positive for others."""
    return 1 - abs(right - left) / (left + right) / 2


def styblinski_tang(dimension: int = 1, scale: float = 1.0) -> Potential:
    """The sum scale · Σ (x⁴ − 16x² + 5x)/2: two minima in each direction, the left one deeper.

    It has 3ⁿ critical points. Variables are x in one dimension, x1, x2, … in more. Raises ValueError unless scale > 0
    and 1 ≤ dimension ≤ 9.
    """
    if not (isinstance(dimension, int) and 1 <= dimension <= 9) or not 0 < scale < math.inf:
        raise ValueError(f"expected a dimension from 1 to 9 and a scale > 0, got {dimension} and {scale}")
    names = ("x",) if dimension == 1 else tuple(f"x{i + 1}" for i in range(dimension))
    terms = " + ".join(f"{name}**4 - 16*{name}**2 + 5*{name}" for name in names)
    return Potential(f"scale*({terms})/2", variables=names, parameters={"scale": scale})


def muller_brown() -> Potential:
    """The surface of Müller and Brown (Theor. Chim. Acta 53, 75, 1979): three minima and two passes on a bent way."""
    return Potential(
        "-200*exp(-(x - 1)**2 - 10*y**2) - 100*exp(-x**2 - 10*(y - 1/2)**2)"
        " - 170*exp(-6.5*(x + 1/2)**2 + 11*(x + 1/2)*(y - 3/2) - 6.5*(y - 3/2)**2)"
        " + 15*exp(0.7*(x + 1)**2 + 0.6*(x + 1)*(y - 1) + 0.7*(y - 1)**2)",
        variables=("x", "y"),
    )
