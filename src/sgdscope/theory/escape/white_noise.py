"""Escape under white noise of constant temperature: Kramers on a line, Eyring and Kramers in any dimension."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from sgdscope.theory.escape.law import escape_time, require_curvatures, require_positive, validity_warnings
from sgdscope.theory.escape.panels import Floats
from sgdscope.theory.prediction import Prediction

_SCOPE = "isotropic noise of constant temperature, low temperature; time to the other side of the saddle"
_SOURCE = "Eyring-Kramers law; Xie, Sato & Sugiyama 2002.03495 for SGD with injected noise (second-hand)"
_FORMULA = "2π / |H_b| · √(|det H_b| / det H_a) · e^(ΔL / D)"


def temperature(lr: float, noise_variance: float, batch_size: float) -> float:
    """Diffusion of SGD with isotropic noise: ``D = lr · σ² / (2 B)``.

    `noise_variance` σ² is that of the gradient of one sample, per coordinate; σ² / B is that of the batch. Time is
    lr · iterations; any other factor ½ or 2 misses simulated escape times by orders of magnitude. Source: the
    diffusion limit of SGD, checked here against simulations. Raises ValueError unless all are > 0.
    """
    require_positive(lr=lr, noise_variance=noise_variance, batch_size=batch_size)
    return lr * noise_variance / (2 * batch_size)


def minimum_anharmonicity(curvature: float, third: float, fourth: float) -> float:
    """κ of a minimum: its mass is ``√(2π D / H) e^(−L / D) (1 + κ D + …)``, κ = 5 L₃² / (24 H³) − L₄ / (8 H²).

    `third` and `fourth` are derivatives of the loss there. Source: Laplace's method, second term. Raises ValueError
    unless the curvature is positive.
    """
    require_positive(curvature=curvature)
    return 5 * third**2 / (24 * curvature**3) - fourth / (8 * curvature**2)


def saddle_anharmonicity(curvature: float, third: float, fourth: float) -> float:
    """κ of a barrier top, κ = 5 L₃² / (24 |H|³) + L₄ / (8 H²): the term of order D it adds to the escape time.

    Source: Laplace's method, second term. Raises ValueError unless the curvature is negative.
    """
    require_curvatures(1.0, curvature)
    return 5 * third**2 / (24 * abs(curvature) ** 3) + fourth / (8 * curvature**2)


def white_noise_escape_time(
    barrier: float,
    curvature_minimum: float,
    curvature_saddle: float,
    temperature: float,
    *,
    transverse_ratio: float = 1.0,
    anharmonicity: float | None = None,
    next_order: bool = False,
    lr: float | None = None,
    logarithm: bool = False,
) -> Prediction:
    """Mean time from a minimum over a saddle to the other side, noise of constant temperature D.

    ``τ = 2π / √(H_a |H_b|) · √(transverse ratio) · e^(ΔL / D) · [1 + D (κ_a + κ_b) + O(D²)]``, in learning rate ·
    iterations. The time to the barrier top alone is about half of it. The exact time is longer: by 12 to 17 % at
    ΔL / D = 4, 5 to 7 % at 8 on three quartic wells.

    Args:
        barrier: ΔL = L(saddle) − L(minimum).
        curvature_minimum: along the escape direction.
        curvature_saddle: the negative eigenvalue there.
        temperature: D of dθ = −∇L dt + √(2D) dW; `temperature` makes it from SGD's settings.
        transverse_ratio: product of the other curvatures at the saddle over that at the minimum.
        anharmonicity: κ_a + κ_b where known. It gives the leading law its `error`, D |κ_a + κ_b| to first order in D.
        next_order: multiply by 1 + D (κ_a + κ_b) instead.
        lr: if given, the flag for finite steps is raised where it applies.
        logarithm: return ln τ.

    Raises ValueError for curvatures of the wrong sign, a barrier, temperature or ratio that is not positive, and for a
    next order without anharmonicity or beyond its range.
    """
    require_curvatures(curvature_minimum, curvature_saddle)
    require_positive(barrier=barrier, temperature=temperature, transverse_ratio=transverse_ratio)
    log_prefactor = math.log(2 * math.pi) + 0.5 * math.log(transverse_ratio / (curvature_minimum * -curvature_saddle))
    formula, error = _FORMULA, None
    if next_order:
        if anharmonicity is None or 1 + temperature * anharmonicity <= 0:
            raise ValueError(
                f"expected an anharmonicity with 1 + temperature · anharmonicity > 0 for the next order, got "
                f"{anharmonicity} at temperature {temperature}"
            )
        log_prefactor += math.log1p(temperature * anharmonicity)
        formula += " · (1 + D (κ_a + κ_b))"
    elif anharmonicity is not None:
        error = temperature * abs(anharmonicity)
    return escape_time(
        log_prefactor,
        barrier / temperature,
        formula=formula,
        scope=_SCOPE,
        source=_SOURCE,
        warnings=validity_warnings(
            exponent=barrier / temperature, lr=lr, largest_curvature=max(curvature_minimum, -curvature_saddle)
        ),
        error=error,
        logarithm=logarithm,
    )


def hessian_spectrum(hessian: ArrayLike, name: str = "hessian") -> Floats:
    """Eigenvalues in ascending order of a symmetric matrix; a vector is taken as the eigenvalues themselves.

    Raises ValueError for any other shape, asymmetry beyond rounding, and entries that are not finite.
    """
    array = np.asarray(hessian, dtype=np.float64)
    if array.ndim == 1 and array.size and np.isfinite(array).all():
        return np.sort(array)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or not array.size or not np.isfinite(array).all():
        raise ValueError(f"expected {name} as a finite square matrix or a vector of eigenvalues, got {array.shape}")
    if np.abs(array - array.T).max() > 1e-8 * np.abs(array).max():
        raise ValueError(f"expected a symmetric {name}; symmetrise it as (H + Hᵀ) / 2")
    return np.asarray(np.linalg.eigvalsh((array + array.T) / 2), dtype=np.float64)


def eyring_kramers_escape_time(
    hessian_minimum: ArrayLike,
    hessian_saddle: ArrayLike,
    barrier: float,
    temperature: float,
    *,
    lr: float | None = None,
    logarithm: bool = False,
) -> Prediction:
    """Mean escape time in n dimensions, ``2π / |λ_b| · √(|det H_b| / det H_a) · e^(ΔL / D)``, λ_b < 0 at the saddle.

    Hessians as symmetric matrices or vectors of eigenvalues, one size for both. Noise isotropic, temperature D; in
    learning rate · iterations. Cost: two symmetric eigenproblems. Raises ValueError unless all eigenvalues are positive
    at the minimum and exactly one is negative, none zero, at the saddle: flat directions have no determinant, restrict
    both Hessians to the directions that confine.
    """
    at_minimum = hessian_spectrum(hessian_minimum, "hessian_minimum")
    at_saddle = hessian_spectrum(hessian_saddle, "hessian_saddle")
    require_positive(barrier=barrier, temperature=temperature)
    if len(at_minimum) != len(at_saddle):
        raise ValueError(f"expected Hessians of one size, got {len(at_minimum)} and {len(at_saddle)}")
    if at_minimum[0] <= 0:
        raise ValueError(
            f"expected positive eigenvalues at the minimum, got {at_minimum[0]:.6g}; restrict both Hessians to the "
            "directions that confine"
        )
    if at_saddle[0] >= 0 or (len(at_saddle) > 1 and at_saddle[1] <= 0):
        raise ValueError(
            f"expected exactly one negative eigenvalue and no zero at the saddle, got {at_saddle[:3].tolist()} …"
        )
    log_determinants = float(np.log(np.abs(at_saddle)).sum() - np.log(at_minimum).sum())
    return escape_time(
        math.log(2 * math.pi / -float(at_saddle[0])) + log_determinants / 2,
        barrier / temperature,
        formula=_FORMULA,
        scope=_SCOPE,
        source=_SOURCE,
        warnings=validity_warnings(
            exponent=barrier / temperature,
            lr=lr,
            largest_curvature=max(float(at_minimum[-1]), float(np.abs(at_saddle).max())),
        ),
        logarithm=logarithm,
    )
