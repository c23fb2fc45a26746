"""Noise proportional to the loss, as squared loss has it: a power law in the loss instead of an exponential."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from sgdscope.theory.escape.law import escape_time, require_curvatures, require_positive, validity_warnings
from sgdscope.theory.escape.panels import Floats
from sgdscope.theory.prediction import Prediction

_SOURCE = "Mori, Ziyin, Liu & Ueda 2105.09557 (exponent); prefactor derived here"


def loss_proportional_density_exponent(lr: ArrayLike, batch_size: ArrayLike, curvature: ArrayLike) -> Floats | float:
    """φ of the stationary density ``P ∝ L^−φ``, ``φ = 1 + B / (lr h)``; arrays broadcast.

    Near a minimum of squared loss with n equal curvatures h the density has finite mass out to large L for φ > n / 2.
    Source: Mori et al. 2105.09557.
    """
    found = 1 + np.asarray(batch_size) / (np.asarray(lr) * np.asarray(curvature))
    return found if found.ndim else float(found)


def loss_proportional_escape_time(
    loss_minimum: float,
    loss_saddle: float,
    curvature_minimum: float,
    curvature_saddle: float,
    lr: float,
    batch_size: float,
    *,
    noise_curvature: float | None = None,
    dimension: int = 1,
    transverse_ratio: float = 1.0,
    logarithm: bool = False,
) -> Prediction:
    """Mean escape time under gradient covariance ``C = 2 L(θ) h / B``, the noise of squared loss.

    ``τ = 2π / √(H_a |H_b|) · √(transverse ratio) · [L(b) / L(a)]^(B / (lr h) + 1 − n / 2)`` in learning rate ·
    iterations: only the ratio of the losses counts, and minima of vanishing loss hold for ever. Exact at low noise
    (lr h / B ≪ 1) on a line and for n equal curvatures; the competitor of `sgd_escape_time`.

    Args:
        loss_minimum: L(a) > 0; without an offset, for it is the residual noise itself.
        loss_saddle: L(b) > L(a).
        curvature_minimum: H_a > 0 along the escape direction.
        curvature_saddle: H_b < 0.
        lr: learning rate.
        batch_size: B.
        noise_curvature: h of the covariance, H_a if None.
        dimension: n, the number of large eigenvalues of the Hessian (its effective dimension).
        transverse_ratio: product of the other n − 1 curvatures at the saddle over that at the minimum.
        logarithm: return ln τ.

    Source: Mori et al. 2105.09557 for the exponent. Raises ValueError for losses or curvatures out of order, and where
    the exponent is not positive, for then the noise of the law is not low.
    """
    require_curvatures(curvature_minimum, curvature_saddle)
    require_positive(lr=lr, batch_size=batch_size, transverse_ratio=transverse_ratio)
    curvature = curvature_minimum if noise_curvature is None else noise_curvature
    require_positive(noise_curvature=curvature)
    if not 0 < loss_minimum < loss_saddle < math.inf:
        raise ValueError(
            f"expected 0 < loss at the minimum < loss at the saddle, got {loss_minimum} and {loss_saddle}; a minimum "
            "of loss 0 has no noise and is never left"
        )
    if dimension < 1 or dimension != int(dimension):
        raise ValueError(f"expected dimension as a whole number ≥ 1, got {dimension}")
    steps = batch_size / (lr * curvature)
    power = steps + 1 - dimension / 2
    if power <= 0:
        raise ValueError(
            f"expected B / (lr h) + 1 − n / 2 > 0, got {power:.4g}: at this noise the minimum holds nothing; "
            "lower lr or raise batch_size"
        )
    log_ratio = math.log(loss_saddle / loss_minimum)
    return escape_time(
        math.log(2 * math.pi) + 0.5 * math.log(transverse_ratio / (curvature_minimum * -curvature_saddle)),
        power * log_ratio,
        formula="2π / √(H_a |H_b|) · √(transverse ratio) · [L(b) / L(a)]^(B / (lr h) + 1 − n / 2)",
        scope="squared loss: noise covariance 2 L h / B; one line, or n equal curvatures; lr h / B small",
        source=_SOURCE,
        warnings=validity_warnings(
            exponent=steps * log_ratio, lr=lr, largest_curvature=max(curvature_minimum, -curvature_saddle)
        ),
        logarithm=logarithm,
    )
