"""Best weights on the simplex: non-negative weights on measured points with the lowest predicted loss.

Without the constraint many points make the weights diverge, since small errors of D are answered with large weights of
both signs. Source: derived here from the many-point identity (`chord.average_loss`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sgdscope.theory.averaging.arguments import Array
from sgdscope.theory.averaging.average import Average
from sgdscope.theory.averaging.chord import points
from sgdscope.theory.prediction import Prediction

_RIDGE = 1e-13
_CLIPPED = 0.01


@dataclass(frozen=True)
class SimplexWeights:
    """Best non-negative weights of measured points.

    Attributes:
        average: the weights, one per point.
        loss: predicted loss of the average; it warns where the measured D was not that of a convex quadratic.
        gap: certified bound: no weights on the simplex are predicted lower than `loss` − `gap`.
        clipped: share of the curvature (sum of absolute eigenvalues of −½ centred D) that was negative and left out.
    """

    average: Average
    loss: Prediction
    gap: float
    clipped: float


def best_simplex_weights(losses: ArrayLike, curvatures: ArrayLike) -> SimplexWeights:
    """Minimise Σ w L − ¼ Σ w w D over w ≥ 0, Σ w = 1, by an active set that adds and drops one point at a time.

    `losses` (points,), `curvatures` (points, points) as in `chord.average_loss`. Where D comes with noise the problem
    is made convex by leaving out negative curvature. Cost: of the order of points³ times the number of changes.
    """
    L, D = points(losses, curvatures)
    centre = np.eye(L.size) - 1 / L.size
    values, vectors = np.linalg.eigh(-0.25 * centre @ (D + D.T) @ centre)
    clipped = float(-values[values < 0].sum() / max(np.abs(values).sum(), np.finfo(float).tiny))
    gram = (vectors * values.clip(0)) @ vectors.T
    linear = L - gram.diagonal() / 2  # so that each vertex keeps its measured loss
    weights, gap = _minimise(linear, gram)
    value = float(weights @ linear + 0.5 * weights @ gram @ weights)
    warnings: tuple[str, ...] = ()
    if clipped > _CLIPPED:
        warnings = (f"{100 * clipped:.2g} % of the curvature between the points is negative and was left out",)
    loss = Prediction(
        value, "loss of the best non-negative weights", "min Σ w L − ¼ Σ w w D on the simplex",
        "a convex quadratic on the span of the points", "derived here", "loss", warnings=warnings,
    )  # fmt: skip
    return SimplexWeights(Average("best non-negative weights", weights), loss, gap, clipped)


def _minimise(linear: Array, gram: Array) -> tuple[Array, float]:
    """Argmin of linear · w + ½ wᵀ gram w on the simplex, and the bound on what is left (descent to a vertex)."""
    n = linear.size
    scale = float(np.abs(linear - linear.mean()).max() + np.abs(gram).max()) or 1.0
    Q = gram + _RIDGE * scale * np.eye(n)  # one minimum even where points coincide
    weights = np.zeros(n)
    weights[np.argmin(linear + gram.diagonal() / 2)] = 1.0
    inside = weights > 0
    for _ in range(20 * n + 50):
        slope = linear + Q @ weights
        entering = int(np.argmin(slope))
        if inside[entering] or weights @ slope - slope[entering] <= 1e-14 * scale:
            break
        inside[entering] = True
        while True:
            target = _on_support(linear, Q, inside)
            if (target[inside] > 0).all():
                weights = target
                break
            falling = inside & (target <= 0)
            share = float((weights[falling] / (weights[falling] - target[falling])).min())
            weights = np.where(inside, weights + share * (target - weights), 0.0)
            inside &= weights > 1e-15
        weights = weights / weights.sum()
    slope = linear + gram @ weights
    return weights, max(float(weights @ slope - slope.min()), 0.0)


def _on_support(linear: Array, Q: Array, inside: NDArray[np.bool_]) -> Array:
    """Minimiser on the plane Σ w = 1 among the points inside; zero elsewhere."""
    k = int(inside.sum())
    system = np.ones((k + 1, k + 1))
    system[:k, :k] = Q[np.ix_(inside, inside)]
    system[k, k] = 0
    found = np.zeros(linear.size)
    found[inside] = np.linalg.solve(system, np.append(-linear[inside], 1.0))[:k]
    return found
