"""Curvature along given directions at any point, exactly or, where kernels lack second derivatives, by gradients."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sgdscope import vectors
from sgdscope.batches import Batch, length
from sgdscope.hessian.graph import GraphProducts
from sgdscope.measure.points import moved
from sgdscope.measure.probes import lacks_second_derivative
from sgdscope.risk import Risk
from sgdscope.vectors import Vector

EXACT, DIFFERENCE = "Hessian product", "central difference of gradients"
_PROBE = 1e-3
"""Length of the difference, in lengths of the parameters."""


def curvatures_along(
    risk: Risk, directions: Sequence[Vector], *, at: Vector, batch: Batch | None = None, seed: int = 0
) -> tuple[list[float], str, float]:
    """``vᵀ H v`` for each direction, the method used, and the cost in gradients on the same data.

    H is the Hessian of the loss of `batch`, or over all data, at the parameters `at`. Cost: 1 + number of directions by
    products; 2 per direction by differences.
    """
    try:
        return _exact(risk, directions, at, batch, seed), EXACT, 1.0 + len(directions)
    except RuntimeError as error:
        if not lacks_second_derivative(error):
            raise
    own = vectors.norm(at) or 1.0
    found = []
    for v in directions:
        size = vectors.norm(v)
        if size == 0:
            found.append(0.0)
            continue
        step = _PROBE * own / size
        ahead, behind = (risk.gradient(batch, at=moved(at, v, side * step), seed=seed)[1] for side in (1, -1))
        found.append(vectors.dot(vectors.plus(ahead, behind, -1.0), v) / (2 * step))
    return found, DIFFERENCE, 2.0 * len(directions)


def _exact(risk: Risk, directions: Sequence[Vector], at: Vector, batch: Batch | None, seed: int) -> list[float]:
    totals = [0.0] * len(directions)
    with risk.evaluating(at=at, seed=seed, second_order=True) as leaves:
        for chunk in risk.chunks() if batch is None else (batch,):
            weight = 1.0 if batch is not None else length(chunk) / risk.size
            for index, part in enumerate(_on(risk, chunk, leaves, directions)):
                totals[index] += weight * part
    return totals


def _on(risk: Risk, chunk: Batch, leaves: list[Tensor], directions: Sequence[Vector]) -> list[float]:
    """In a function of its own, so that one chunk's graph is gone before the next is recorded."""
    kept = GraphProducts(risk, chunk, leaves)
    return [vectors.dot(v, kept.product(v)) for v in directions]
