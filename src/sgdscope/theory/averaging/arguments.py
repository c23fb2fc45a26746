"""Arguments: what the functions of averaging accept, checked at the door with one sentence each."""

from __future__ import annotations

import math
import operator

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

MODEL = "derived here for the per-batch quadratics of Sandler et al. 2301.02312, Sec. 4"
"""Source of what follows from one quadratic per batch: one Hessian, a minimum that moves from batch to batch."""


def numbers(given: ArrayLike, what: str, dimensions: int = 1) -> Array:
    """A finite float64 array of `dimensions` axes, not empty; a scalar counts as one number."""
    try:
        array = np.array(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"expected numbers as {what}, got {given!r:.80}") from None
    if array.ndim == 0 and dimensions == 1:
        array = array[None]
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(f"expected {what} as {dimensions}-dimensional array, not empty, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"expected finite {what}, got {int((~np.isfinite(array)).sum())} that are not")
    return array


def finite(value: float, what: str) -> float:
    """Neither NaN nor infinite."""
    if not math.isfinite(value):
        raise ValueError(f"expected a finite {what}, got {value}")
    return float(value)


def non_negative(value: float, what: str) -> float:
    """At least zero, and finite."""
    if not 0 <= value < math.inf:
        raise ValueError(f"expected {what} ≥ 0, got {value}")
    return float(value)


def positive(value: float, what: str) -> float:
    """Above zero, and finite."""
    if not 0 < value < math.inf:
        raise ValueError(f"expected {what} > 0, got {value}")
    return float(value)


def fraction(value: float, what: str) -> float:
    """A number in [0, 1): a decay or a momentum."""
    if not 0 <= value < 1:
        raise ValueError(f"expected {what} in [0, 1), got {value}")
    return float(value)


def count(value: int, what: str, least: int = 1) -> int:
    """A whole number, numpy's included."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"expected a whole number as {what}, got {value!r:.80}") from None
    if number < least:
        raise ValueError(f"expected {what} of at least {least}, got {number}")
    return number


def stable(lr: float, curvatures: Array, momentum: float = 0.0) -> float:
    """A learning rate that is stable in every mode: lr · curvature below 2 (1 + momentum)."""
    positive(lr, "a learning rate")
    fraction(momentum, "momentum")
    largest = float(curvatures.max())
    if not lr * largest < 2 * (1 + momentum):
        raise ValueError(
            f"expected a stable learning rate, below 2 (1 + momentum) / curvature = "
            f"{2 * (1 + momentum) / largest:.6g}, got {lr}: the iterates diverge, so lower it"
        )
    return float(lr)


def curvature_values(given: ArrayLike) -> Array:
    """Curvatures of modes, one axis, all positive."""
    curvatures = numbers(given, "curvatures")
    if not (curvatures > 0).all():
        raise ValueError(f"expected curvatures > 0, got {curvatures.min()}: leave out flat and negative directions")
    return curvatures
