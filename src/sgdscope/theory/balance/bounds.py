r"""Bounds of the ratio of norms, from the covariance of the derivatives by products of weights.

With ``ℓ(u, w, x) = ℓ̃(u wᵀ, x)`` and ``A_ki = ∂ℓ̃ / ∂(u_i w_k)`` for each sample, ``C₁ = E[AᵀA] − E[Aᵀ]E[A]`` acts on u
and ``C₂ = E[AAᵀ] − E[A]E[Aᵀ]`` on w: Tr Cov[∇_w ℓ] = uᵀC₁u and Tr Cov[∇_u ℓ] = wᵀC₂w. Source: Ziyin, Li & Ueda
2308.06671, Theorem 3.1 and Eq. 4. C₁ and C₂ move with the weights: all bounds hold at an instant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bounds:
    """An interval ``[lower, upper]``."""

    lower: float
    upper: float

    def __contains__(self, value: float) -> bool:
        return self.lower <= value <= self.upper


def interaction_covariances(derivatives: npt.ArrayLike) -> tuple[Floats, Floats]:
    """C₁ (on u) and C₂ (on w) from the derivatives A of each sample, shape (samples, len(w), len(u))."""
    A = np.asarray(derivatives, dtype=np.float64)
    if A.ndim != 3 or not A.size:
        raise ValueError(f"expected derivatives of shape (samples, len(w), len(u)), got {A.shape}")
    deviation = A - A.mean(0)
    return (
        np.einsum("ski,skj->ij", deviation, deviation) / len(A),
        np.einsum("ski,sli->kl", deviation, deviation) / len(A),
    )


def stationary_ratio_bounds(covariance_u: npt.ArrayLike, covariance_w: npt.ArrayLike) -> Bounds:
    """Bounds of ‖u‖² / ‖w‖² at noise balance: least over largest eigenvalue of C₂ and C₁, and the other way round.

    Raises ValueError if C₁ is singular: then there is no upper bound.
    """
    lowest, highest = _extremes(covariance_u)
    low, high = _extremes(covariance_w)
    if lowest <= 1e-14 * highest:
        raise ValueError("the covariance on u is singular: the ratio of norms has no upper bound")
    return Bounds(max(low, 0.0) / highest, high / lowest)


def drift_bounds(
    covariance_u: npt.ArrayLike, covariance_w: npt.ArrayLike, squared_norm_u: float, squared_norm_w: float, *,
    temperature: float,
) -> Bounds:  # fmt: skip
    """Bounds of d(‖u‖² − ‖w‖²)/dt at these norms, from the extreme eigenvalues of C₁ and C₂ (before Eq. 4)."""
    lowest, highest = _extremes(covariance_u)
    low, high = _extremes(covariance_w)
    return Bounds(
        -temperature * (highest * squared_norm_u - low * squared_norm_w),
        -temperature * (lowest * squared_norm_u - high * squared_norm_w),
    )


def _extremes(covariance: npt.ArrayLike) -> tuple[float, float]:
    matrix = np.atleast_2d(np.asarray(covariance, dtype=np.float64))
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.allclose(matrix, matrix.T):
        raise ValueError(f"expected a symmetric matrix, got shape {matrix.shape}")
    values = np.linalg.eigvalsh(matrix)
    return float(values[0]), float(values[-1])
