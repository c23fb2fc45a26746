"""Which of two wells holds the mass, and which is left sooner: sharp against flat under both noise models.

Noise that follows the curvature prefers the flat well exponentially in B / lr; constant noise prefers it by the square
root of a determinant, whatever the batch size, and the deeper well exponentially.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from sgdscope.theory.escape.law import (
    LARGEST_EXPONENT,
    Interpretation,
    point_of_the_step,
    require_positive,
    validity_warnings,
)
from sgdscope.theory.escape.white_noise import hessian_spectrum
from sgdscope.theory.prediction import Prediction


def _ratio(log_ratio: float, formula: str, scope: str, source: str, warnings: tuple[str, ...] = ()) -> Prediction:
    if abs(log_ratio) > LARGEST_EXPONENT:
        raise ValueError(f"the ratio of masses is e^{log_ratio:.6g}, beyond floating point: one well holds everything")
    return Prediction(math.exp(log_ratio), "stationary mass ratio", formula, scope, source, warnings=warnings)


def sgd_mass_ratio(
    curvature_1: float,
    curvature_2: float,
    integral_1: float,
    integral_2: float,
    lr: float,
    batch_size: float,
    *,
    interpretation: Interpretation = "ito",
) -> Prediction:
    """Stationary mass of well 1 over that of well 2, SGD with noise proportional to the curvature at the minima.

    ``P₁ / P₂ = (H₂ / H₁)^(1 − α) · exp[q (I₁ − I₂)]``, q = 2 B / lr, α = 0 for SGD (Itô). On a line, low noise.

    Args:
        curvature_1: H₁ > 0 at the minimum of well 1; `curvature_2` likewise.
        curvature_2: H₂ > 0.
        integral_1: I₁ = ∫ L' / h from minimum 1 up to the barrier they share (`EscapePath.integral`).
        integral_2: I₂, from minimum 2 up to the same barrier.
        lr: learning rate.
        batch_size: B.
        interpretation: where in a step the noise is evaluated.

    Source: derived here. The ratio of the published escape times alone, exp[q (I₁ − I₂)], drops H₂ / H₁. Raises
    ValueError for anything not positive.
    """
    alpha = point_of_the_step(interpretation)
    require_positive(curvature_1=curvature_1, curvature_2=curvature_2, integral_1=integral_1, integral_2=integral_2)
    require_positive(lr=lr, batch_size=batch_size)
    per_noise = 2 * batch_size / lr
    return _ratio(
        (1 - alpha) * math.log(curvature_2 / curvature_1) + per_noise * (integral_1 - integral_2),
        "(H₂ / H₁)^(1 − α) · exp[(2 B / lr) (I₁ − I₂)]",
        "one escape direction, noise proportional to the curvature at both minima, low noise, equilibrium reached",
        "derived here",
        validity_warnings(
            exponent=per_noise * min(integral_1, integral_2), lr=lr, largest_curvature=max(curvature_1, curvature_2)
        ),
    )


def white_noise_mass_ratio(
    hessian_1: ArrayLike,
    hessian_2: ArrayLike,
    temperature: float,
    *,
    depth_difference: float = 0.0,
    anharmonicity_1: float = 0.0,
    anharmonicity_2: float = 0.0,
) -> Prediction:
    """Stationary mass of well 1 over that of well 2 under constant isotropic noise of temperature D.

    ``√(det H₂ / det H₁) · e^((L₂ − L₁) / D) · (1 + κ₁ D) / (1 + κ₂ D)``, the last factor the next order on a line.

    Args:
        hessian_1: symmetric matrix, vector of eigenvalues, or one curvature, at minimum 1; `hessian_2` likewise.
        hessian_2: of the same size.
        temperature: D.
        depth_difference: L₂ − L₁, positive where well 1 is deeper.
        anharmonicity_1: κ₁ of `minimum_anharmonicity`; 0 leaves the next order out. `anharmonicity_2` likewise.
        anharmonicity_2: κ₂.

    Source: Laplace's method on e^(−L / D); with momentum the same at its own temperature. Raises ValueError unless all
    eigenvalues and the temperature are positive.
    """
    spectra = [hessian_spectrum(np.atleast_1d(hessian), "hessian") for hessian in (hessian_1, hessian_2)]
    require_positive(temperature=temperature)
    if len(spectra[0]) != len(spectra[1]):
        raise ValueError(f"expected Hessians of one size, got {len(spectra[0])} and {len(spectra[1])}")
    if min(spectrum[0] for spectrum in spectra) <= 0:
        raise ValueError("expected positive eigenvalues at both minima; restrict both to the directions that confine")
    corrections = [1 + kappa * temperature for kappa in (anharmonicity_1, anharmonicity_2)]
    if min(corrections) <= 0:
        raise ValueError(f"expected 1 + κ D > 0 in both wells, got {corrections}; the temperature is beyond the order")
    return _ratio(
        0.5 * float(np.log(spectra[1]).sum() - np.log(spectra[0]).sum())
        + depth_difference / temperature
        + math.log(corrections[0] / corrections[1]),
        "√(det H₂ / det H₁) · e^((L₂ − L₁) / D) · (1 + κ₁ D) / (1 + κ₂ D)",
        "isotropic noise that does not vary with the parameters, low temperature, equilibrium reached",
        "Laplace's method; Dai & Zhu 2112.00987 for equal depths (second-hand)",
    )
