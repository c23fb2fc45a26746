"""Reconstruction: any power EMA after training, as a combination of stored snapshots of a few power EMAs.

Source: Karras et al. 2312.02696, Sec. 3 and appendix on post-hoc synthesis: least squares between profiles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import lstsq

from sgdscope.theory.averaging.arguments import Array, numbers

_CUT = 1e-15


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Coefficients of stored snapshots that rebuild an average.

    Attributes:
        coefficients: one per snapshot, float64, shape (snapshots,); the average is Σ X_i snapshot_i. May be negative.
        total: their sum as least squares gave it, before it was normalised to one (or not, as asked).
        profile_error: relative L2 distance between the rebuilt profile, with these coefficients, and the one asked for;
            resolved down to about 1e-8.
        amplification: Σ |X_i|: factor by which independent rounding errors of the snapshots can grow.
    """

    coefficients: Array
    total: float
    profile_error: float
    amplification: float


def profile_products(exponents_a: ArrayLike, steps_a: ArrayLike, exponents_b: ArrayLike, steps_b: ArrayLike) -> Array:
    """Inner product over training time of profiles (γ + 1) s^γ / t^{γ+1} that end at t_a and t_b; broadcasts.

    (γ_a + 1)(γ_b + 1)(t_a / t_b)^e / ((γ_a + γ_b + 1) max(t_a, t_b)), e = γ_b if t_a < t_b, else −γ_a.
    """
    a, t_a, b, t_b = (np.asarray(x, dtype=np.float64) for x in (exponents_a, steps_a, exponents_b, steps_b))
    ratio = np.minimum(t_a, t_b) / np.maximum(t_a, t_b)
    overlap = ratio ** np.where(t_a < t_b, b, a)
    return np.asarray((a + 1) * (b + 1) * overlap / ((a + b + 1) * np.maximum(t_a, t_b)))


def reconstruct(
    snapshot_steps: ArrayLike,
    snapshot_exponents: ArrayLike,
    target_exponent: float,
    target_step: float | None = None,
    *,
    normalise: bool = True,
) -> Reconstruction:
    """Coefficients for the power EMA of `target_exponent` that ends at `target_step` (default: the last snapshot).

    One step and one exponent per snapshot, shape (snapshots,). Solved in float64 by least squares on profiles of unit
    norm, so that repeated snapshots do no harm. Cost: snapshots³. Exponents must exceed −½, where a profile has a norm.
    Raises ValueError for a target later than every snapshot: nothing stored knows those iterates.
    """
    steps = numbers(snapshot_steps, "snapshot steps")
    exponents = numbers(snapshot_exponents, "snapshot exponents")
    if steps.shape != exponents.shape:
        raise ValueError(f"expected one exponent per snapshot, got {exponents.size} for {steps.size} snapshots")
    end = float(steps.max()) if target_step is None else float(target_step)
    if not (steps > 0).all() or not 0 < end <= steps.max():
        raise ValueError(
            f"expected steps > 0 and a target no later than the last snapshot, got snapshots from {steps.min():g} to "
            f"{steps.max():g} and a target at {end:g}"
        )
    if not (exponents > -0.5).all() or not -0.5 < target_exponent < math.inf:
        raise ValueError("expected exponents > −½, got others: their profiles have no finite norm")
    norms = np.sqrt(profile_products(exponents, steps, exponents, steps))
    products = profile_products(exponents[:, None], steps[:, None], exponents, steps) / norms[:, None] / norms
    wanted = profile_products(exponents, steps, target_exponent, end) / norms
    coefficients = lstsq(products, wanted, cond=_CUT, lapack_driver="gelsy")[0] / norms
    total = float(coefficients.sum())
    if normalise:
        coefficients = coefficients / total
    norm = float(profile_products(target_exponent, end, target_exponent, end))
    unit = coefficients * norms
    square = float(unit @ products @ unit - 2 * unit @ wanted) / norm + 1
    return Reconstruction(coefficients, total, math.sqrt(max(square, 0.0)), float(np.abs(coefficients).sum()))
