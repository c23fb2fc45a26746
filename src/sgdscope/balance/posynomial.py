r"""Posynomial: a sum of exponentials :math:`F(s) = \sum_j c_j e^{a_j \cdot s}`, cⱼ > 0, and where it is least.

It is convex in s, so that a point with zero slope is the minimum, and strictly along every direction that changes any
of its terms, so that the terms at the minimum are unique even where s is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_matrix, csr_matrix
from scipy.sparse.linalg import LinearOperator, cg

Floats = npt.NDArray[np.float64]

_SUFFICIENT = 1e-4
"""Of the decrease that the slope promises, what a step must give."""
_SHORTEST = 2.0**-40
_ROUNDING = 1e-13
"""Of F: smaller changes cannot be seen."""


@dataclass(frozen=True)
class Minimum:
    """Where a posynomial is least.

    Attributes:
        at: s, zero in the coordinates that are held.
        residual: largest imbalance |Σ aⱼₖ tⱼ| / Σ |aⱼₖ| tⱼ over the free coordinates k, with the terms tⱼ there.
        held: coordinates that no term depends on, or that all terms drive one way; they are left at 0.
        at_limit: coordinates that end at the limit.
        iterations: Newton steps.
    """

    at: Floats
    residual: float
    held: npt.NDArray[np.bool_]
    at_limit: npt.NDArray[np.bool_]
    iterations: int


def least(
    exponents: csr_matrix, coefficients: npt.ArrayLike, *, limit: float, tolerance: float = 1e-10, most: int = 200
) -> Minimum:
    """Minimum of F within ``|s| ≤ limit`` by Newton steps, projected on the limit and shortened until F falls.

    Args:
        exponents: a, shape (terms, coordinates).
        coefficients: c ≥ 0, shape (terms,); terms with 0 are left out.
        limit: of each coordinate.
        tolerance: residual at which it has converged.
        most: steps; if they do not suffice, the residual says so.
    """
    c = np.asarray(coefficients, dtype=np.float64)
    a = csr_matrix(exponents)
    if not (c > 0).all():
        a, c = a[c > 0], c[c > 0]
    size = a.shape[1]
    up, down = (np.bincount(a.indices[a.data * sign > 0], minlength=size) > 0 for sign in (1, -1))
    held = ~(up & down)
    s = np.zeros(size)
    if held.all():
        return Minimum(s, 0.0, held, np.zeros(size, dtype=bool), 0)
    c = c / c.sum()
    turned = a.T  # all three share the places of a
    squared, magnitude = (csr_matrix((data, a.indices, a.indptr), a.shape).T for data in (a.data**2, np.abs(a.data)))
    terms = c
    for iteration in range(most + 1):
        slope = turned @ terms
        outward = (np.abs(s) >= limit) & (slope * s < 0)
        free = ~held & ~outward
        scale = np.maximum(magnitude @ terms, np.finfo(float).tiny)
        residual = float(np.abs(slope / scale)[free].max(initial=0.0))
        if residual <= tolerance or iteration == most:
            break
        step = _newton(a, turned, terms, squared @ terms, np.where(free, slope, 0.0), free, residual)
        found = _descended(a, c, s, step, slope, float(terms.sum()), limit)
        if found is None:  # rounding hides any decrease
            break
        s, terms = found
    return Minimum(s, residual, held, ~held & (np.abs(s) >= limit), iteration)


def _newton(
    a: csr_matrix, turned: csc_matrix, terms: Floats, diagonal: Floats, slope: Floats, free: npt.NDArray[np.bool_],
    residual: float,
) -> Floats:  # fmt: skip
    """−H⁻¹ slope over the free coordinates, H = aᵀ diag(terms) a, by conjugate gradients scaled by H's diagonal."""
    inverse = np.where(free, 1 / np.sqrt(np.maximum(diagonal, np.finfo(float).tiny)), 0.0)

    def product(x: Floats) -> Floats:
        y = inverse * x
        return np.asarray(inverse * (turned @ (terms * (a @ y))) + ~free * x)

    size = len(slope)
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
    solved, _ = cg(operator, -inverse * slope, rtol=min(0.1, residual), atol=0.0, maxiter=20 * size + 100)
    return np.asarray(inverse * solved)


def _descended(
    a: csr_matrix, c: Floats, s: Floats, step: Floats, slope: Floats, value: float, limit: float
) -> tuple[Floats, Floats] | None:
    """The first of step, step / 2, … within the limit that lowers F enough, with the terms there; None if none does."""
    length = 1.0
    while length > _SHORTEST:
        new = np.clip(s + length * step, -limit, limit)
        promised = max(-float(slope @ (new - s)), 0.0)
        with np.errstate(over="ignore"):
            terms = c * np.exp(a @ new)
        if _falls(value, float(terms.sum()), promised):
            return new, terms
        length /= 2
    return None


def _falls(before: float, after: float, promised: float) -> bool:
    """Whether the decrease is enough of what the slope promised, or as good as rounding can tell."""
    allowed = _ROUNDING * before if promised < _ROUNDING * before else -_SUFFICIENT * promised
    return after - before <= allowed
