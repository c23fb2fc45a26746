"""Slowest modes of a rate matrix: rates of relaxation, and the functions whose means relax at them."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, eigs

from sgdscope.theory.fokker_planck.markov import Floats, factored

_SHIFT = 1e-12  # of the largest rate: keeps Q − shift invertible
_RESOLVED = 1e-13  # of the largest rate: rounding hides eigenvalues below
_DENSE = 200  # cells up to which all eigenvalues are computed


def slow_functions(matrix: Any, stationary: Floats, count: int, frequency: float = 0.0) -> tuple[Any, Any]:
    """Of the nonzero eigenvalues nearest to ± i · frequency, the `count` that decay slowest: rates and functions.

    Rate = −eigenvalue of Qᵀ, complex in general, sorted by real part, shape ``(count,)``; functions in rows, with
    Σ π |φ|² = 1. A few more than asked for are computed, as those of least modulus need not decay slowest.
    """
    size = matrix.shape[0]
    if not 1 <= count <= size - 1:
        raise ValueError(f"expected between 1 and {size - 1} modes of {size} cells, got {count}")
    largest = float(-matrix.diagonal().min())
    if size <= max(_DENSE, 3 * count + 20):
        found, vectors = np.linalg.eig(matrix.T.toarray())
    else:
        found, vectors = _nearest(matrix, largest, min(2 * count + 4, size - 2), frequency)
    keep = np.ones(len(found), dtype=bool)
    still = int(np.abs(found).argmin())  # the constant function, unless the search was elsewhere
    keep[still] = frequency != 0 and abs(found[still]) > _RESOLVED * largest
    rates, rows = -found[keep], vectors.T[keep]
    order = np.lexsort((rates.imag, np.round(rates.real / np.abs(rates).max(), 12)))[:count]
    rates, rows = rates[order], rows[order]
    if abs(rates[0]) < _RESOLVED * largest:
        raise ValueError(
            f"the slowest rate, about {abs(rates[0]):.1g}, is below what rounding resolves beside rates of "
            f"{largest:.2g}: use a coarser grid, a smaller box or a formula for rare escapes"
        )
    if not np.iscomplexobj(rates) or np.abs(rates.imag).max() == 0:
        rates, rows = rates.real, rows.real
    weight = np.sqrt(stationary)
    peak = np.take_along_axis(rows, np.abs(rows * weight).argmax(axis=1)[:, None], axis=1)
    return rates, rows * (np.abs(peak) / peak) / np.linalg.norm(rows * weight, axis=1)[:, None]


def _nearest(matrix: Any, largest: float, count: int, frequency: float) -> tuple[Any, Any]:
    """Eigenvalues of Qᵀ nearest to the shift, by Arnoldi iteration on the inverse."""
    size = matrix.shape[0]
    shift = _SHIFT * largest + (1j * frequency if frequency else 0.0)
    kind = np.complex128 if frequency else np.float64
    inverse = factored(shift * sparse.eye_array(size, dtype=kind) - matrix)
    apply = LinearOperator((size, size), matvec=lambda x: -inverse.solve(x, "T"), dtype=kind)
    start = (1 + np.cos(np.arange(size))).astype(kind)  # fixed, so that answers repeat; orthogonal to no mode
    found, vectors = eigs(matrix.T.astype(kind), k=count, sigma=shift, OPinv=apply, v0=start)
    return found, vectors
