"""Bernoulli's function, the weight of exponentially fitted (Scharfetter-Gummel) fluxes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_SERIES_BELOW = 1e-4  # there 1 − z/2 + z²/12 is right to rounding


def bernoulli(z: ArrayLike) -> NDArray[np.float64]:
    """``z / (e^z − 1)``, 1 at z = 0: positive and falling, B(−z) = z + B(z), B(z) = e^−z B(−z).

    A jump to the right at the rate D/h² · B(−z), and back at D/h² · B(z), with z = drift · h / D, leaves the law
    ∝ e^(drift · x / D) at rest exactly, whatever the cell's width h. To rounding for every z; 0 where e^z overflows.
    Source: Scharfetter & Gummel 1969; Chang & Cooper 1970.
    """
    given: Any = np.asarray(z, dtype=np.float64)
    small = np.abs(given) < _SERIES_BELOW
    safe = np.where(small, 1.0, given)
    with np.errstate(over="ignore"):
        return np.where(small, 1 - given / 2 + given**2 / 12, safe / np.expm1(safe))
