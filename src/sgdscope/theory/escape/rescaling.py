"""Sharper copies of a landscape, L_k(θ) = L(√k θ): depths stay, curvatures grow by k, escape times follow exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from sgdscope.theory.escape.law import require_positive
from sgdscope.theory.escape.panels import Floats
from sgdscope.theory.escape.units import TIME
from sgdscope.theory.prediction import Prediction

_EXACT = "exact in continuous time"


def _divided(time: Prediction, sharpness: float, formula: str, scope: str) -> Prediction:
    if time.unit != TIME:
        raise ValueError(f"expected a time in {TIME}, got {time.quantity} in {time.unit or 'no unit'}")
    return replace(time, value=time.value / sharpness, formula=formula, scope=scope, source="derived here")


def sharpened_white_noise_time(time: Prediction, sharpness: float) -> Prediction:
    """Escape time of the landscape made `sharpness` k times sharper, white noise of the same temperature: ``τ / k``.

    `time` in learning rate · iterations; its relative error and warnings are handed on. Source: derived here; exact in
    continuous time. Raises ValueError for another unit or k that is not positive.
    """
    require_positive(sharpness=sharpness)
    return _divided(time, sharpness, "τ / k", f"white noise; {_EXACT}")


def sharpened_sgd_time(time_at: Callable[[float], Prediction], ratio: float, sharpness: float) -> Prediction:
    """Escape time of the landscape k times sharper under SGD whose noise scales with it: ``τ_k(q) = τ_1(q / k) / k``.

    `time_at` gives τ_1 at a ratio q = 2 B / lr, in learning rate · iterations. The noise of the copy is k h(√k θ).
    Source: derived here; exact in continuous time. Raises ValueError as `sharpened_white_noise_time`.
    """
    require_positive(ratio=ratio, sharpness=sharpness)
    return _divided(
        time_at(ratio / sharpness), sharpness, "τ_1(q / k) / k", f"SGD, noise covariance ∝ curvature; {_EXACT}"
    )


def minus_log_rate(sharpness: ArrayLike, exponent: float, log_prefactor: float) -> Floats | float:
    """−ln γ of SGD against the sharpness factor k: ``log_prefactor + exponent / k − ln k``; arrays broadcast.

    `exponent` and `log_prefactor` are those at k = 1. A straight line in 1 / k alone leaves the −ln k out: fit
    −ln(γ / k) instead. Source: derived here.
    """
    k = np.asarray(sharpness, dtype=np.float64)
    if not (k > 0).all():
        raise ValueError(f"expected sharpness > 0, got {k.min()}")
    found = log_prefactor + exponent / k - np.log(k)
    return found if found.ndim else float(found)
