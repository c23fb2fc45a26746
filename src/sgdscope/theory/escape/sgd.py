"""Escape of SGD whose noise follows the curvature: exponential in the sharpness of the minimum."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from sgdscope.theory.escape.law import (
    escape_time,
    require_curvatures,
    require_fraction,
    require_positive,
    validity_warnings,
)
from sgdscope.theory.escape.panels import Floats
from sgdscope.theory.prediction import Prediction

Prefactor = Literal["ito", "stratonovich", "anti-ito", "paper"]

_XIE = "Xie, Sato & Sugiyama 2002.03495 (second-hand)"
_PREFACTORS = {
    "ito": ("2π / H_a", f"exponent {_XIE}; prefactor derived here"),
    "stratonovich": ("2π / √(H_a |H_b|)", f"exponent {_XIE}; prefactor derived here"),
    "anti-ito": ("2π / |H_b|", f"exponent {_XIE}; prefactor derived here"),
    "paper": ("2π / |H_b|", _XIE),
}


def switch_fraction(loss_minimum: float, loss_switch: float, loss_saddle: float) -> float:
    """Fraction s of the climb made with the noise of the minimum, when it switches at a point of the path.

    ``s = (L(c) − L(a)) / (L(b) − L(a))``; take the inflection point c when nothing is measured. Source: 2002.03495
    (second-hand). Raises ValueError unless L(a) ≤ L(c) ≤ L(b) and L(a) < L(b).
    """
    if not (loss_minimum <= loss_switch <= loss_saddle and loss_minimum < loss_saddle):
        raise ValueError(
            f"expected loss at minimum ≤ at switch ≤ at saddle, got {loss_minimum}, {loss_switch}, {loss_saddle}"
        )
    return (loss_switch - loss_minimum) / (loss_saddle - loss_minimum)


def sgd_exponent(
    barrier: ArrayLike,
    curvature_minimum: ArrayLike,
    curvature_saddle: ArrayLike,
    lr: ArrayLike,
    batch_size: ArrayLike,
    *,
    fraction: ArrayLike,
    noise_per_curvature: ArrayLike = 1.0,
) -> Floats | float:
    """Exponent of SGD's escape time, ``(2 B ΔL / (lr c)) (s / H_a + (1 − s) / |H_b|)``; arrays broadcast.

    c (`noise_per_curvature`) is the slope of the per-sample gradient covariance against the Hessian: 1 for a
    log-likelihood that fits its data, 2 L for squared loss. Source: 2002.03495 (exponent; second-hand).
    """
    climb = np.asarray(fraction) / np.asarray(curvature_minimum) + (1 - np.asarray(fraction)) / np.abs(curvature_saddle)
    found = 2 * np.asarray(batch_size) * np.asarray(barrier) / (np.asarray(lr) * noise_per_curvature) * climb
    return found if found.ndim else float(found)


def sgd_escape_time(
    barrier: float,
    curvature_minimum: float,
    curvature_saddle: float,
    lr: float,
    batch_size: float,
    *,
    fraction: float,
    prefactor: Prefactor = "ito",
    noise_per_curvature: float = 1.0,
    transverse_ratio: float | None = None,
    transverse_factor: float | None = None,
    bounded_noise: bool = False,
    logarithm: bool = False,
) -> Prediction:
    """Mean escape time of SGD whose noise covariance is proportional to |Hessian| at both ends of the climb.

    ``τ = P · exp[(2 B ΔL / (lr c)) (s / H_a + (1 − s) / |H_b|)]`` in learning rate · iterations, with P = 2π / H_a for
    noise evaluated before the step, as SGD does. The published prefactor 2π / |H_b| belongs to the anti-Itô reading
    and is off by H_a / |H_b| even as the noise goes to zero.

    Args:
        barrier: ΔL = L(saddle) − L(minimum).
        curvature_minimum: H_a > 0 along the escape direction.
        curvature_saddle: H_b < 0.
        lr: learning rate.
        batch_size: B.
        fraction: s, the part of the climb made with the noise of the minimum; `switch_fraction` or
            `EscapePath.implied_fraction` give it.
        prefactor: ``"ito"``, ``"stratonovich"``, ``"anti-ito"``, or ``"paper"`` for the published formula.
        noise_per_curvature: c, slope of the per-sample gradient covariance against the Hessian.
        transverse_ratio: transverse curvature at the saddle over that at the minimum, for the flag only.
        transverse_factor: from `transverse_factor`; multiplies the time.
        bounded_noise: whether one sample's noise is bounded, for the flag at batches below 4.
        logarithm: return ln τ.

    The formula is a two-value caricature of ∫ L' / D; with noise measured along the path use `path_escape_time`. Noise
    literally equal to |L''(θ)| vanishes on the path, see `vanishing_noise_exponent`. Raises ValueError for curvatures
    of the wrong sign, numbers that are not positive, or a fraction outside [0, 1].
    """
    require_curvatures(curvature_minimum, curvature_saddle)
    require_positive(barrier=barrier, lr=lr, batch_size=batch_size, noise_per_curvature=noise_per_curvature)
    require_fraction(fraction)
    if prefactor not in _PREFACTORS:
        raise ValueError(f"expected a prefactor among {', '.join(_PREFACTORS)}, got {prefactor!r}")
    if transverse_factor is not None:
        require_positive(transverse_factor=transverse_factor)
    at_minimum, at_saddle = curvature_minimum, -curvature_saddle
    scale = {"ito": at_minimum, "stratonovich": math.sqrt(at_minimum * at_saddle)}.get(prefactor, at_saddle)
    exponent = float(
        sgd_exponent(
            barrier, at_minimum, at_saddle, lr, batch_size, fraction=fraction, noise_per_curvature=noise_per_curvature
        )
    )
    warnings = validity_warnings(
        exponent=exponent,
        lr=lr,
        largest_curvature=max(at_minimum, at_saddle),
        batch_size=batch_size,
        bounded_noise=bounded_noise,
        transverse_ratio=transverse_ratio if transverse_factor is None else None,
    )
    if prefactor == "paper" and abs(math.log(at_minimum / at_saddle)) > math.log(1.05):
        warnings += (
            f"the published prefactor leaves out ∇D: for SGD the time is {at_saddle / at_minimum:.3g} of this, "
            'prefactor="ito"',
        )
    text, source = _PREFACTORS[prefactor]
    return escape_time(
        math.log(2 * math.pi / scale) + math.log(transverse_factor or 1.0),
        exponent,
        formula=f"{text} · exp[(2 B ΔL / (lr c)) (s / H_a + (1 − s) / |H_b|)]",
        scope="SGD whose gradient covariance is c |H| / B near both ends; low noise; one escape direction",
        source=source,
        warnings=warnings,
        logarithm=logarithm,
    )
