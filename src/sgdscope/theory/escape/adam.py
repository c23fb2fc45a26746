"""Escape of Adam with the ideal second moment: exponents in the square roots of batch size and curvature."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from sgdscope.theory.escape.law import (
    escape_time,
    require_curvatures,
    require_fraction,
    require_positive,
    validity_warnings,
)
from sgdscope.theory.escape.low_noise import low_noise_escape_time
from sgdscope.theory.escape.panels import Floats
from sgdscope.theory.escape.path import EscapePath
from sgdscope.theory.prediction import Prediction

_SOURCE = "Xie et al. 2006.15815 (exponent; second-hand); prefactor derived here"
_SCOPE = (
    "step −lr g / √(h / B): second moment equal to the variance of the batch gradient, no first-moment average, "
    "no epsilon; low noise"
)


def adam_exponent(
    barrier: ArrayLike,
    curvature_minimum: ArrayLike,
    curvature_saddle: ArrayLike,
    lr: ArrayLike,
    batch_size: ArrayLike,
    *,
    fraction: ArrayLike,
    noise_per_curvature: ArrayLike = 1.0,
) -> Floats | float:
    """Exponent of Adam's escape time, ``(2 √B ΔL / (lr √c)) (s / √H_a + (1 − s) / √|H_b|)``; arrays broadcast.

    `noise_per_curvature` c is the slope of the per-sample gradient covariance against the Hessian. Source: Xie et al.
    2006.15815 (second-hand).
    """
    s = np.asarray(fraction)
    climb = s / np.sqrt(curvature_minimum) + (1 - s) / np.sqrt(np.abs(curvature_saddle))
    found = 2 * np.sqrt(np.asarray(batch_size) / noise_per_curvature) * np.asarray(barrier) / np.asarray(lr) * climb
    return found if found.ndim else float(found)


def adam_escape_time(
    barrier: float,
    curvature_minimum: float,
    curvature_saddle: float,
    lr: float,
    batch_size: float,
    *,
    fraction: float,
    noise_per_curvature: float = 1.0,
    logarithm: bool = False,
) -> Prediction:
    """Mean escape time of Adam with ideal second moment, ``2π √c / (√B (H_a |H_b|)^¼) · e^(adam_exponent)``.

    In learning rate · iterations. `fraction` is the part of the climb made with the noise of the minimum, c as in
    `adam_exponent`. Raises ValueError for curvatures of the wrong sign, numbers that are not positive, or a fraction
    outside [0, 1].
    """
    require_curvatures(curvature_minimum, curvature_saddle)
    require_positive(barrier=barrier, lr=lr, batch_size=batch_size, noise_per_curvature=noise_per_curvature)
    require_fraction(fraction)
    exponent = float(
        adam_exponent(
            barrier,
            curvature_minimum,
            curvature_saddle,
            lr,
            batch_size,
            fraction=fraction,
            noise_per_curvature=noise_per_curvature,
        )
    )
    steepness = math.sqrt(batch_size / noise_per_curvature)  # preconditioned curvature is √(B |H| / c)
    return escape_time(
        math.log(2 * math.pi / steepness) - 0.25 * math.log(curvature_minimum * -curvature_saddle),
        exponent,
        formula="2π √c / (√B (H_a |H_b|)^¼) · exp[(2 √B ΔL / (lr √c)) (s / √H_a + (1 − s) / √|H_b|)]",
        scope=_SCOPE,
        source=_SOURCE,
        warnings=validity_warnings(
            exponent=exponent, lr=lr, largest_curvature=steepness * math.sqrt(max(curvature_minimum, -curvature_saddle))
        ),
        logarithm=logarithm,
    )


def adam_path_escape_time(
    path: EscapePath,
    curvature_minimum: float,
    curvature_saddle: float,
    lr: float,
    batch_size: float,
    *,
    logarithm: bool = False,
) -> Prediction:
    """Mean escape time of Adam with ideal second moment and noise measured along the path, in lr · iterations.

    Exponent ``(2 √B / lr) ∫ L' / √h``; the preconditioned curvatures are √(B / h) H at both ends and the diffusion is
    lr / 2 everywhere, so that no interpretation of the noise is needed. Raises ValueError as `path_escape_time`.
    """
    require_curvatures(curvature_minimum, curvature_saddle)
    require_positive(lr=lr, batch_size=batch_size)
    exponent = 2 * math.sqrt(batch_size) / lr * path.integral(0.5)
    found = low_noise_escape_time(
        exponent,
        curvature_minimum * math.sqrt(batch_size / float(path.noise[0])),
        curvature_saddle * math.sqrt(batch_size / float(path.noise[-1])),
        lr / 2,
        lr / 2,
        lr=lr,
        logarithm=logarithm,
    )
    return replace(found, scope=_SCOPE, source=_SOURCE, warnings=found.warnings + path.warnings)
