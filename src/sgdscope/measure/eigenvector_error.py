r"""Eigenvector error: how far approximate eigenvectors may be turned, and what follows for where they live.

With :math:`r = \|H\hat v - \theta \hat v\|` and :math:`\delta` the distance from θ to all other eigenvalues, the angle
φ between :math:`\hat v` and the eigenvector obeys :math:`\sin\varphi \le r / \delta`. Source: Davis & Kahan 1970 (one
vector: expand :math:`\hat v` in eigenvectors). δ is known from the other pairs, each eigenvalue being within its
residual of its Ritz value; clusters take the residual of their block (Kahan 1967).
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def angle_sines(values: Sequence[float], residuals: Sequence[float], *, complete: bool = False) -> list[float | None]:
    r"""Bounds of :math:`\sin\varphi_j` for the leading Ritz pairs, descending; None where there is none below 1.

    There is none where a neighbour is nearer than the residuals can tell, and for the last pair, as nothing is known of
    the gap below it, unless these are all pairs (`complete`). They hold if no leading eigenvalue was missed.
    """
    doubts = _doubts(values, residuals)
    found: list[float | None] = []
    for j, (value, residual) in enumerate(zip(values, residuals, strict=True)):
        others = [abs(value - values[i]) - doubts[i] for i in range(len(values)) if i != j]
        gap = min(others, default=math.inf)
        known = complete or j < len(values) - 1
        found.append(residual / gap if known and residual < gap else None)
    return found


def _doubts(values: Sequence[float], residuals: Sequence[float]) -> list[float]:
    """How far from each value its own eigenvalue may be, no two values sharing one.

    Intervals that overlap are joined, each then as wide as the root of their squared residuals, until none do.
    """
    clusters = [[j] for j in range(len(values))]

    def doubt(cluster: list[int]) -> float:
        return math.hypot(*(residuals[j] for j in cluster))

    index = 0
    while index < len(clusters) - 1:
        upper, lower = clusters[index], clusters[index + 1]
        if values[upper[-1]] - doubt(upper) <= values[lower[0]] + doubt(lower):
            clusters[index : index + 2] = [upper + lower]
            index = max(index - 1, 0)  # wider than before: it may reach the one above
        else:
            index += 1
    return [doubt(cluster) for cluster in clusters for _ in cluster]


def share_bounds(share: float, sine: float | None) -> tuple[float, float]:
    """Least and largest share of an eigenvector's squared length in a subspace, from that of its approximation.

    The share is the squared cosine of the angle to the subspace, and turning the vector by φ changes that angle by φ at
    most. Wherever it lies: ``|Δp| ≤ sin φ``.
    """
    if sine is None:
        return 0.0, 1.0
    turn, angle = math.asin(min(sine, 1.0)), math.acos(math.sqrt(min(max(share, 0.0), 1.0)))
    return math.cos(min(angle + turn, math.pi / 2)) ** 2, math.cos(max(angle - turn, 0.0)) ** 2


def participation(shares: Sequence[float], sine: float | None) -> tuple[float, float]:
    r"""The participation 1 / ‖p‖² of shares p that sum to one, and how far that of the eigenvector may be from it.

    ‖p‖ changes by ‖Δp‖ at most; that is bounded by :math:`\sqrt 2 \sin\varphi`, as each share changes by sin φ at most
    and all of them together by 2 sin φ, and by `share_bounds`. It lies between 1 and the number of shares in any case.
    """
    length = math.sqrt(math.fsum(p * p for p in shares))
    value = 1 / length**2
    if sine is None:
        return value, max(value - 1, len(shares) - value, 0.0)
    bounds = [share_bounds(p, sine) for p in shares]
    change = min(
        math.sqrt(2) * sine,
        math.sqrt(math.fsum(max(p - low, high - p) ** 2 for p, (low, high) in zip(shares, bounds, strict=True))),
    )
    least = max(1 / (length + change) ** 2, 1.0)
    most = min(1 / (length - change) ** 2, len(shares)) if change < length else float(len(shares))
    return value, max(value - least, most - value, 0.0)
