"""The low-noise law of one coordinate whose diffusion varies along the path: what SGD's formula is a case of."""

from __future__ import annotations

import math

from sgdscope.theory.escape.law import (
    Interpretation,
    escape_time,
    point_of_the_step,
    require_curvatures,
    require_positive,
    validity_warnings,
)
from sgdscope.theory.prediction import Prediction


def low_noise_escape_time(
    exponent: float,
    curvature_minimum: float,
    curvature_saddle: float,
    diffusion_minimum: float,
    diffusion_saddle: float,
    *,
    interpretation: Interpretation = "ito",
    transverse_factor: float = 1.0,
    lr: float | None = None,
    logarithm: bool = False,
) -> Prediction:
    """Mean escape time ``2π / √(H_a |H_b|) · √(D_b / D_a) · (D_a / D_b)^α · e^Φ``, Φ = ∫ L' / D from minimum to saddle.

    α is 0 for noise evaluated before the step (Itô, what SGD does), ½ Stratonovich, 1 anti-Itô. Exact on a line as the
    noise goes to zero; in learning rate · iterations. `exponent` is Φ (`EscapePath.exponent`), `transverse_factor` the
    effect of a valley that narrows or widens. Source: derived here by Laplace's method from the exact first-passage
    time. Raises ValueError for curvatures of the wrong sign and anything else that is not positive.
    """
    alpha = point_of_the_step(interpretation)
    require_curvatures(curvature_minimum, curvature_saddle)
    require_positive(
        exponent=exponent,
        diffusion_minimum=diffusion_minimum,
        diffusion_saddle=diffusion_saddle,
        transverse_factor=transverse_factor,
    )
    log_prefactor = (
        math.log(2 * math.pi * transverse_factor)
        - 0.5 * math.log(curvature_minimum * -curvature_saddle)
        + (0.5 - alpha) * math.log(diffusion_saddle / diffusion_minimum)
    )
    return escape_time(
        log_prefactor,
        exponent,
        formula="2π / √(H_a |H_b|) · √(D_b / D_a) · (D_a / D_b)^α · e^Φ",
        scope="one escape direction, diffusion positive along the path, low noise; time to the other side",
        source="derived here; the prefactor of 2002.03495 is its anti-Itô case",
        warnings=validity_warnings(
            exponent=exponent, lr=lr, largest_curvature=max(curvature_minimum, -curvature_saddle)
        ),
        logarithm=logarithm,
    )
