"""Sources, and what the claims share: data, and numbers out of cells."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sgdscope.cells import Results
from sgdscope.estimate import Estimate
from sgdscope.theory.stationary import DiagonalNoise

LAW = "Ziyin, Li & Ueda 2308.06671"
SEQUEL = "Ziyin, Wang, Li & Wu 2402.07193"
HERE = "derived here"


def noise_of(settings: Mapping[str, Any]) -> DiagonalNoise:
    """Moments of the data of a cell."""
    return DiagonalNoise.gaussian(settings["slope"], settings["noise_variance"], settings["input_variance"])


def settings_of(results: Results, name: str) -> Mapping[str, Any]:
    """What a cell was asked."""
    return results.cells[name].settings


def temperature_of(settings: Mapping[str, Any]) -> float:
    """T = lr / batch size."""
    return float(settings["lr"] / settings["batch_size"])


def spread_of(mass: float, first: float, second: float) -> tuple[float, float]:
    """Two weights v that have, with equal shares, the mean and variance of moments: means of quadratics are exact."""
    mean = first / mass
    deviation = math.sqrt(max(second / mass - mean * mean, 0.0))
    return mean - deviation, mean + deviation


def error_of(estimate: Estimate) -> float:
    """The standard error; 0 where there is none."""
    return estimate.standard_error if isinstance(estimate.standard_error, float) else 0.0
