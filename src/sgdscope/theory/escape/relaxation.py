"""Two rates of relaxation that must not be confused: inside one well, and between wells.

Batch size acts on the second, exponentially, and not at all on the first.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from sgdscope.theory.escape.law import require_positive
from sgdscope.theory.escape.units import KINETIC_TIME, TIME, common_unit, rate_unit, time_unit
from sgdscope.theory.escape.white_noise import hessian_spectrum
from sgdscope.theory.prediction import Prediction


def in_well_relaxation_rate(hessian: ArrayLike, *, friction: float | None = None) -> Prediction:
    """Slowest rate at which the law inside one quadratic well forgets its start, for any noise and batch size.

    ``min eigenvalue of H`` per learning rate · iterations, or with momentum ``Re[(Γ − √(Γ² − 4 H_min)) / 2]`` per
    √lr · iterations, largest at Γ = 2 √H_min.

    Args:
        hessian: symmetric matrix, vector of eigenvalues, or one curvature.
        friction: Γ of the kinetic motion (`friction`); None for plain SGD.

    Source: Ornstein-Uhlenbeck process, exact. Raises ValueError unless all eigenvalues are positive.
    """
    slowest = float(hessian_spectrum(np.atleast_1d(np.asarray(hessian, dtype=np.float64)))[0])
    require_positive(smallest_eigenvalue=slowest)
    if friction is None:
        rate, formula, unit = slowest, "min eigenvalue of H", TIME
    else:
        require_positive(friction=friction)
        unforced = max(friction**2 - 4 * slowest, 0.0)
        # 2 H / (Γ + √…) is (Γ − √…) / 2 without cancellation
        rate = 2 * slowest / (friction + math.sqrt(unforced)) if unforced else friction / 2
        formula, unit = "Re[(Γ − √(Γ² − 4 H_min)) / 2]", KINETIC_TIME
    return Prediction(
        rate, "in-well relaxation rate", formula, "one quadratic well", "Ornstein-Uhlenbeck process", rate_unit(unit)
    )


def between_wells_relaxation_rate(*escape_times: Prediction) -> Prediction:
    """Rate at which the odds of two wells settle: the sum of both escape rates, ``1 / τ₁ + 1 / τ₂``.

    Escape times to the other side, in one unit. With exact times it is within 1.3 % of the spectral gap at a barrier
    of 5 noise units and 0.06 % at 8; with leading-order times it is above it by a few per cent. Source: two-state
    reduction, Kramers; used for SGD by Dai & Zhu 2112.00987 (second-hand). Raises ValueError for other than two times
    and for times in different units.
    """
    if len(escape_times) != 2:
        raise ValueError(
            f"expected the escape times of two wells, got {len(escape_times)}; for more wells use Valleys.gap"
        )
    unit, form = time_unit(escape_times[0])
    common_unit(*escape_times)
    if form != 1:
        raise ValueError(f"expected times, got {escape_times[0].quantity} in {escape_times[0].unit}")
    return Prediction(
        math.fsum(1 / time.value for time in escape_times),
        "between-wells relaxation rate",
        "1 / τ₁ + 1 / τ₂",
        "two wells, escape rare in both",
        "two-state reduction, Kramers",
        rate_unit(unit),
        warnings=tuple(dict.fromkeys(warning for time in escape_times for warning in time.warnings)),
    )
