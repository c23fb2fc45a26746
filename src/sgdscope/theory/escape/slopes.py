"""How strongly the escape time hangs on each setting: d ln τ / d ln x of any law of this package."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sgdscope.theory.escape.units import in_iterations
from sgdscope.theory.prediction import Prediction

_STEP = 1e-3
_STENCIL = ((-2, 1 / 12), (-1, -2 / 3), (1, 2 / 3), (2, -1 / 12))  # fourth-order first derivative
_SCALABLE = (
    "barrier",
    "lr",
    "batch_size",
    "temperature",
    "curvature_minimum",
    "curvature_saddle",
    "noise_per_curvature",
    "friction",
)
_CURVATURES = ("curvature_minimum", "curvature_saddle", "noise_curvature")


def log_slopes(law: Callable[..., Prediction], *, iterations: bool = False, **settings: Any) -> dict[str, float]:
    """D ln τ / d ln x of an escape law at given settings, for each x it depends on.

    For SGD with exponent Φ: batch_size Φ, lr −Φ (−Φ − 1 in iterations), barrier Φ, sharpness −Φ − 1. For white noise of
    fixed temperature: temperature −ΔL / D, barrier ΔL / D, sharpness −1.

    Args:
        law: `sgd_escape_time`, `white_noise_escape_time`, `momentum_escape_time`, … that takes ``logarithm=True``.
        iterations: slopes of the number of iterations rather than of lr · iterations.
        settings: the arguments of the law, by name.

    Returns a slope by name for barrier, lr, batch_size, temperature, the curvatures, noise_per_curvature and friction
    where given, and ``"sharpness"``, all curvatures together. Cost: four calls of the law per name. Central differences
    of fourth order, accurate to about 1e-9 of the exponent. Raises ValueError where the law does.
    """
    if iterations and "lr" not in settings:
        raise ValueError("expected lr among the settings, to count iterations")

    def log_time(names: tuple[str, ...], log_factor: float) -> float:
        scaled = {name: settings[name] * math.exp(log_factor) for name in names if settings.get(name) is not None}
        at = {**settings, **scaled, "logarithm": True}
        found = law(**at)
        return (in_iterations(found, at["lr"]) if iterations else found).value

    groups: dict[str, tuple[str, ...]] = {name: (name,) for name in _SCALABLE if settings.get(name) is not None}
    if any(settings.get(name) is not None for name in _CURVATURES):
        groups["sharpness"] = _CURVATURES
    return {
        what: sum(weight * log_time(names, place * _STEP) for place, weight in _STENCIL) / _STEP
        for what, names in groups.items()
    }
