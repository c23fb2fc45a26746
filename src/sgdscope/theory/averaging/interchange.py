"""Interchange: how far an average and its frozen schedule are the same thing, mode by mode.

Averages remove noise of fast modes better, schedules remove bias better; they are interchangeable only while
lr · curvature · (span of the average) is well below one. Source: derived here for the per-batch quadratics of Sandler
et al. 2301.02312, Sec. 4.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from sgdscope.theory.averaging.arguments import MODEL, Array, count, curvature_values, fraction, positive, stable
from sgdscope.theory.averaging.average import Average
from sgdscope.theory.averaging.conversion import exact_schedule, frozen_schedule
from sgdscope.theory.averaging.noisy_quadratic import NoisyQuadratic
from sgdscope.theory.prediction import Prediction

_ALIKE = 0.1


def schedule_mismatch(average: Average, lr: float, curvatures: ArrayLike) -> Prediction:
    """Max |λ̃_t / (λ W_t) − 1| over steps and given curvatures: exact against frozen schedule.

    Steps at which both are zero count as equal. Raises ValueError where only the frozen one is, and no ratio exists.
    """
    frozen = frozen_schedule(average, lr)
    exact = exact_schedule(average, lr, curvature_values(curvatures))
    nothing = frozen == 0
    if (exact[:, nothing] != 0).any():
        raise ValueError(f"{average.name}: expected tail weights that do not vanish, got zero before the last step")
    far = float(np.abs(exact[:, ~nothing] / frozen[~nothing] - 1).max(initial=0.0))
    return Prediction(
        far, "largest relative difference of exact and frozen schedule", "max |λ̃_t / (λ W_t) − 1|",
        "quadratic modes of the given curvatures", MODEL,
    )  # fmt: skip


def noise_ratios(average: Average, lr: float, curvatures: ArrayLike) -> Array:
    """Noise that the frozen schedule leaves over noise that the average leaves, per curvature; exact, by recursion.

    Both begin on the stationary iterates of `lr`. Shape (modes,); 1 where the two are interchangeable.
    """
    h = curvature_values(curvatures)
    modes = NoisyQuadratic(h, np.ones_like(h))
    averaged = modes.path(stable(lr, h), max(average.steps, 1)).averaged(average.over(max(average.steps, 1)).weights)
    rates = np.append(lr, frozen_schedule(average, lr))  # one plain step first: the run is stationary at its first rate
    return np.asarray(modes.path(rates).variances[-1] / averaged)


def interchangeable(average: Average, lr: float, curvatures: ArrayLike) -> Prediction:
    """The `noise_ratios` value farthest from one, with a warning once it differs by more than a tenth."""
    h = curvature_values(curvatures)
    ratios = noise_ratios(average, lr, h)
    at = int(np.argmax(np.abs(np.log(ratios))))
    ratio = float(ratios[at])
    warnings: tuple[str, ...] = ()
    if abs(ratio - 1) > _ALIKE:
        warnings = (
            f"{average.name} and its schedule are not interchangeable: at lr · curvature = {lr * h[at]:.3g} the "
            f"schedule leaves {ratio:.3g} times the noise of the average",
        )
    return Prediction(
        ratio, "noise of the schedule over noise of the average", "S_T(λ W) / wᵀ K w, the mode farthest from 1",
        "quadratic modes of the given curvatures, stationary before", MODEL, warnings=warnings,
    )  # fmt: skip


def fast_ema_ratio(lr: float, curvature: float, decay: float) -> Prediction:
    """Noise ratio of an EMA in fast modes: (√π / 2) √(λ h / (1 − β)), for 1 − β ≪ λ h ≪ 1."""
    step, rest = _step(lr, curvature), 1 - fraction(decay, "decay")
    return _fast(math.sqrt(math.pi * step / rest) / 2, "(√π / 2) √(λ h / (1 − β))", step, 1 / rest)


def fast_window_ratio(lr: float, curvature: float, length: int) -> Prediction:
    """Noise ratio of a window in fast modes: (√π / 4) √(λ h n), for 1 / n ≪ λ h ≪ 1."""
    step, n = _step(lr, curvature), count(length, "length of the window")
    return _fast(math.sqrt(math.pi * step * n) / 4, "(√π / 4) √(λ h n)", step, n)


def fast_two_point_ratio(lr: float, curvature: float, newer_weight: float = 0.5) -> Prediction:
    """Noise ratio of two points far apart: a (2 − λ h) / ((2 − a λ h)(a² + (1 − a)²)); at a = ½ at most 1.

    Far apart means that neither the mode at rate λ nor at rate a λ remembers the older point: a λ h · gap ≫ 1.
    """
    step, a = _step(lr, curvature), newer_weight
    if not 0 < a <= 1:
        raise ValueError(f"expected a weight on the newer point in (0, 1], got {a}")
    value = a * (2 - step) / ((2 - a * step) * (a**2 + (1 - a) ** 2))
    formula = "a (2 − λ h) / ((2 − a λ h)(a² + (1 − a)²))"
    return Prediction(value, "noise of the schedule over noise of the average", formula, "points far apart", MODEL)


def _fast(value: float, formula: str, step: float, horizon: float) -> Prediction:
    warnings = []
    if step * horizon < 10:
        warnings.append(f"lr · curvature · horizon is {step * horizon:.3g}; the formula needs it well above 1")
    if step > 0.3:
        warnings.append(f"lr · curvature is {step:.3g}; the formula needs it well below 1")
    scope = "1 / horizon ≪ lr · curvature ≪ 1"
    return Prediction(value, "noise of the schedule over noise of the average", formula, scope, MODEL,
                      warnings=tuple(warnings))  # fmt: skip


def _step(lr: float, curvature: float) -> float:
    return stable(lr, np.array([positive(curvature, "curvature")])) * curvature
