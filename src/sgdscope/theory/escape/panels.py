"""Panels: Gauss-Legendre quadrature in pieces, with integrals up to each node.

A panel is an interval with `ORDER` nodes. On the unit interval, `INTEGRAL @ f` gives the integrals of f from 0 to each
node, `WEIGHTS @ f` that over the whole, `DERIVATIVE @ f` the slope at each node, exact for polynomials of degree below
`ORDER`; `TAIL @ f` the last two Legendre coefficients, which are small where f is resolved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Profile = Callable[[Any], Any] | float
"""A function of position (vectorised or not), or a constant."""

ORDER = 16


def _rules() -> tuple[Floats, ...]:
    nodes, weights = legendre.leggauss(ORDER)
    basis = legendre.legvander(nodes, ORDER - 1)
    coefficients = np.linalg.inv(basis)  # values at the nodes -> Legendre coefficients
    unit = np.eye(ORDER)
    integrals = np.stack([legendre.legval(nodes, legendre.legint(row, lbnd=-1)) for row in unit], axis=1)
    slopes = np.stack([legendre.legval(nodes, legendre.legder(row)) for row in unit], axis=1)
    rules = (nodes + 1) / 2, weights / 2, integrals @ coefficients / 2, slopes @ coefficients * 2, coefficients[-2:]
    return tuple(np.asarray(rule, dtype=np.float64) for rule in rules)


NODES, WEIGHTS, INTEGRAL, DERIVATIVE, TAIL = _rules()


def nodes_between(edges: Floats) -> Floats:
    """Nodes of the panels between successive edges. Shape ``(panels, ORDER)``."""
    return np.asarray(edges[:-1, None] + np.diff(edges)[:, None] * NODES)


def evaluate(profile: Profile, x: Floats) -> Floats:
    """A profile at every point of x, in one call where it is vectorised, point by point where it is not.

    Raises ValueError for a profile in less than double precision, which quadrature would take for roughness.
    """
    if not callable(profile):
        return np.full(x.shape, float(profile))
    try:
        found = np.asarray(profile(x))
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.dtype in (np.float32, np.float16):
        raise ValueError(f"expected a function that computes in double precision, got {found.dtype}")
    found = np.asarray(found, dtype=np.float64)
    if found.shape != x.shape:
        found = np.array([float(profile(float(point))) for point in x.ravel()]).reshape(x.shape)
    return found
