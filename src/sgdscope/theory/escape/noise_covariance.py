"""Gradient noise near a minimum from the Hessian: what two losses predict, and how well a measurement agrees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sgdscope.theory.escape.law import require_positive
from sgdscope.theory.escape.panels import Floats
from sgdscope.theory.escape.white_noise import hessian_spectrum


def _square(matrix: ArrayLike, name: str) -> Floats:
    hessian_spectrum(matrix, name)  # checks symmetry
    return np.asarray(matrix, dtype=np.float64)


def log_likelihood_covariance(hessian: ArrayLike, batch_size: float) -> Floats:
    """Covariance of the batch gradient, ``C = H / B``, for cross-entropy and other log-likelihoods.

    `hessian` as a symmetric matrix or a vector of eigenvalues; the answer has its shape. Holds at the optimum of a
    model that fits its data in law (the information equality), as the data grow; for a misspecified model the two stay
    apart however many the data. Source: the information matrix equality; for SGD Xie, Sato & Sugiyama 2002.03495
    (second-hand). Raises ValueError unless symmetric and batch_size > 0.
    """
    require_positive(batch_size=batch_size)
    return _square(hessian, "hessian") / batch_size


def squared_loss_covariance(hessian: ArrayLike, loss: float, batch_size: float) -> Floats:
    """Covariance of the batch gradient, ``C = 2 L H / B``, for the mean of ½ (f − y)².

    Holds near a minimum whose residuals are independent of the inputs and small in effect on H (Gauss-Newton); L is
    the loss there, half the mean squared residual, so that C = H / B needs residuals of unit variance. Shapes as in
    `log_likelihood_covariance`. Source: Mori et al. 2105.09557. Raises ValueError for a loss below 0.
    """
    require_positive(batch_size=batch_size)
    if not 0 <= loss < np.inf:
        raise ValueError(f"expected a loss ≥ 0, got {loss}")
    return 2 * loss * _square(hessian, "hessian") / batch_size


def diffusion_matrix(covariance: ArrayLike, lr: float) -> Floats:
    """Diffusion of SGD, ``D = lr C / 2``, from the covariance C of the batch gradient; time is lr · iterations.

    Source: the diffusion limit of SGD. Raises ValueError unless symmetric and lr > 0.
    """
    require_positive(lr=lr)
    return lr * _square(covariance, "covariance") / 2


def magnitude(hessian: ArrayLike) -> Floats:
    """|H|: same eigenvectors, absolute eigenvalues; what noise proportional to an indefinite Hessian must mean.

    It vanishes where an eigenvalue changes sign: along a path of escape a measured covariance is needed there. Shapes
    as in `log_likelihood_covariance`. Source: 2002.03495 (second-hand).
    """
    matrix = _square(hessian, "hessian")
    if matrix.ndim == 1:
        return np.abs(matrix)
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return np.asarray((vectors * np.abs(values)) @ vectors.T)


@dataclass(frozen=True)
class CovarianceAgreement:
    """How the covariance of gradients compares with the Hessian. A high correlation is no evidence for slope 1.

    Attributes:
        slope: least-squares slope through the origin of the elements of B C against those of H.
        correlation: Pearson correlation of the elements on and above the diagonal.
        trace_ratio: tr(B C H⁻¹) / n, 1 where the information equality holds.
    """

    slope: float
    correlation: float
    trace_ratio: float


def covariance_agreement(covariance: ArrayLike, hessian: ArrayLike, batch_size: float = 1.0) -> CovarianceAgreement:
    """Slope, correlation and trace ratio of batch-gradient covariance times B against the Hessian.

    Both symmetric matrices of one size n ≥ 2. The slope is 1 for a log-likelihood that fits its data, the mean squared
    residual for squared loss. Source: derived here. Raises ValueError for a singular Hessian, a constant one, and
    shapes that do not match.
    """
    require_positive(batch_size=batch_size)
    noise, curvature = batch_size * _square(covariance, "covariance"), _square(hessian, "hessian")
    if noise.ndim != 2 or noise.shape != curvature.shape or len(noise) < 2:
        raise ValueError(f"expected two matrices of one size n ≥ 2, got {noise.shape} and {curvature.shape}")
    upper = np.triu_indices(len(noise))
    if np.ptp(noise[upper]) == 0 or np.ptp(curvature[upper]) == 0:
        raise ValueError("expected matrices whose elements differ, to correlate them")
    values = np.abs(np.linalg.eigvalsh(curvature))
    if values.min() <= 1e-12 * values.max():
        raise ValueError("expected a Hessian without zero eigenvalues; restrict both to the directions that confine")
    return CovarianceAgreement(
        float((noise * curvature).sum() / (curvature**2).sum()),
        float(np.corrcoef(noise[upper], curvature[upper])[0, 1]),
        float(np.trace(np.linalg.solve(curvature, noise))) / len(noise),
    )
