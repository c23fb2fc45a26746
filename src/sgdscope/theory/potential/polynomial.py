"""Polynomials: recognised, with rational coefficients, so that roots can be counted and signs decided exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import sympy


def as_polynomial(expression: Any, symbols: Sequence[Any]) -> Any | None:
    """The expression as a SymPy polynomial over the rationals, None if it is none.

    Irrational coefficients (√2, π) become the floating-point numbers next to them.
    """
    if not expression.is_polynomial(*symbols):
        return None
    terms = sympy.Poly(expression, *symbols).terms()
    return sympy.Poly.from_dict({powers: _rational(c) for powers, c in terms}, *symbols, domain="QQ")


def real_roots(polynomial: Any) -> list[tuple[float, int]]:
    """Real roots in ascending order with their multiplicity: isolated by exact arithmetic, none missed, none made up.

    Raises ValueError for the zero polynomial.
    """
    if polynomial.is_zero:
        raise ValueError("expected a potential that varies, got one that is the same everywhere")
    found = []
    for factor, multiplicity in polynomial.sqf_list()[1]:
        coefficients = _floats(factor)
        candidates = np.roots(coefficients)
        width = sympy.Rational(Fraction(1e-6 * float(max(np.abs(candidates).max(), 1e-300))))
        for (low, high), _ in factor.intervals(eps=width):
            found.append((_root(coefficients, candidates, float(low), float(high)), multiplicity))
    return sorted(found)


def _root(coefficients: np.ndarray[Any, Any], candidates: np.ndarray[Any, Any], low: float, high: float) -> float:
    """The one root of a square-free polynomial in an isolating interval, from the roots NumPy finds and Newton's."""
    if low == high:
        return low
    # an open interval may end at the neighbouring root, so the middle decides
    nearest = candidates[np.argmin(np.abs(candidates - (low + high) / 2))]
    root = min(max(float(nearest.real), low), high)
    slopes = np.polyder(coefficients)
    for _ in range(4):
        slope = float(np.polyval(slopes, root))
        step = float(np.polyval(coefficients, root)) / slope if slope else 0.0
        root = min(max(root - step, low), high)
    return root


def _floats(polynomial: Any) -> np.ndarray[Any, Any]:
    scale = max(abs(c) for c in polynomial.all_coeffs())
    return np.array([float(c / scale) for c in polynomial.all_coeffs()])


def _rational(coefficient: Any) -> Any:
    if coefficient.is_Rational:
        return coefficient
    number = float(coefficient)
    if not math.isfinite(number):
        raise ValueError(f"expected finite coefficients, got {coefficient}")
    return sympy.Rational(Fraction(number))
