"""Fits: straight lines through estimates, with the errors of both coefficients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sgdscope.estimate import Estimate


def logarithm(estimate: Estimate, name: str = "") -> Estimate:
    """The natural logarithm, its error to first order. Raises ValueError unless the value is positive."""
    value = float(estimate)
    if value <= 0:
        raise ValueError(f"expected a positive {estimate.name} to take its logarithm, got {value:g}")
    error = estimate.standard_error
    relative = error / value if isinstance(error, float) else None
    return Estimate(name or f"ln {estimate.name}", math.log(value), relative, count=estimate.count)


def line(x: Sequence[float], y: Sequence[Estimate], name: str = "slope") -> tuple[Estimate, Estimate]:
    """Slope and intercept by least squares weighted with the errors of `y`.

    With three points or more, errors are widened by √(χ² / degrees) where the points scatter by more than their errors
    say. Raises ValueError for fewer than two different x, or an estimate without a positive error.
    """
    places = np.asarray(x, dtype=np.float64)
    if len(places) != len(y) or len(np.unique(places)) < 2:
        raise ValueError(f"expected estimates at two different places at least, got {len(y)} at {places.tolist()}")
    for estimate in y:
        if estimate.value is None or not isinstance(estimate.standard_error, float) or not estimate.standard_error > 0:
            raise ValueError(f"expected an estimate with a standard error > 0 for a line, got {estimate}")
    values, errors = (np.array(found, dtype=np.float64) for found in
                      ([float(e) for e in y], [e.standard_error for e in y]))  # fmt: skip
    centre = float(np.average(places, weights=errors**-2))
    design = np.stack([places - centre, np.ones_like(places)], axis=1) / errors[:, None]
    (slope, level), *_ = np.linalg.lstsq(design, values / errors)
    spread = np.sqrt(1 / (design**2).sum(0))
    degrees = len(places) - 2
    deviations = design @ [slope, level] - values / errors
    widened = max(1.0, math.sqrt(float(deviations @ deviations) / degrees)) if degrees else 1.0
    at_zero = math.hypot(float(spread[1]), float(spread[0]) * centre)
    return (
        Estimate(name, float(slope), widened * float(spread[0]), count=len(places)),
        Estimate(f"intercept of {name}", float(level - slope * centre), widened * at_zero, count=len(places)),
    )


def mean(estimates: Sequence[Estimate], name: str) -> Estimate:
    """Mean over repetitions (seeds), with the standard error from their scatter; None with a single one."""
    values = np.array([float(e) for e in estimates])
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return Estimate(name, float(values.mean()), error, count=len(values))


def ratio(above: Estimate, below: Estimate, name: str) -> Estimate:
    """Quotient of two independent estimates, its error to first order. Raises ValueError where `below` is 0."""
    a, b = float(above), float(below)
    if b == 0:
        raise ValueError(f"expected {below.name} other than 0 to divide by it")
    errors = [e.standard_error if isinstance(e.standard_error, float) else 0.0 for e in (above, below)]
    spread = math.hypot(errors[0] / b, a * errors[1] / (b * b))
    return Estimate(name, a / b, spread or None, count=min(above.count, below.count))
